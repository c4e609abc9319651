"""A version beside another one on the same examples: a paired bootstrap of the difference."""

from collections.abc import Sequence

from trimtab_api.v1alpha1.evaluated import Comparison
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation.intervals import paired
from trimtab_pipelines.evaluation.measures import Measure, gain, measures_of
from trimtab_pipelines.evaluation.said import Example, Observations

_OF_TOKENS = frozenset({Metric.LOSS, Metric.PERPLEXITY})


def needs_answers(metrics: Sequence[Metric]) -> bool:
    """Whether the other version has to answer, or losses are enough."""
    return not _OF_TOKENS.issuperset(metrics)


def compared(
    name: str, metric: Metric, confidence: float, own: Observations, other: Observations
) -> Comparison:
    """The difference over the examples that both could be asked; without any, no numbers."""
    places = shared(own.examples, other.examples, of_tokens=metric in _OF_TOKENS)
    nothing = Comparison(version=name, metric=metric, confidence=confidence)
    if not places:
        return nothing
    mine, theirs = own.at(places), other.at(places)
    records = [example.record for example in mine.examples]
    first = measures_of(mine.said, records).get(metric)
    second = measures_of(theirs.said, records).get(metric)
    if first is None or second is None:
        return nothing
    if metric in _OF_TOKENS:
        second = _per_same_token(first, second)
    return comparison_of(name, metric, confidence, first, second)


def comparison_of(
    name: str, metric: Metric, confidence: float, own: Measure, other: Measure
) -> Comparison:
    """The difference of two measures whose rows are about the same examples."""
    found = paired(own.rows, other.rows, own.statistic, lambda a, b: gain(metric, a, b), confidence)
    return Comparison(
        version=name,
        metric=metric,
        confidence=confidence,
        value=found.other,
        difference=found.difference,
        low=found.low,
        high=found.high,
        deviation=found.deviation,
        examples=len(own.rows),
    )


def shared(own: Sequence[Example], other: Sequence[Example], *, of_tokens: bool) -> list[int]:
    """Records that both were asked. Of one that was cut, two tokenizers leave different texts."""
    theirs = {example.place: example for example in other}
    found = []
    for mine in own:
        its = theirs.get(mine.place)
        if its is None:
            continue
        is_same_text = mine.tokens == its.tokens or not (mine.is_cut or its.is_cut)
        if is_same_text or not of_tokens:
            found.append(mine.place)
    return found


def _per_same_token(own: Measure, other: Measure) -> Measure:
    """Another tokenizer counts other tokens: both losses are told per token of the version's own."""
    rows = [(theirs[0], mine[1]) for mine, theirs in zip(own.rows, other.rows, strict=True)]
    return Measure(rows, other.statistic)
