"""A version beside another one: the same examples, the right sense, bounds that hold."""

import math

import numpy as np
import pytest

from trimtab_api.v1alpha1.evaluated import Comparison
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation.comparing import compared, needs_answers
from trimtab_pipelines.evaluation.said import Answer, Example, Observations, Said

REFERENCE = "the name of the file"


def an_account(
    losses: list[tuple[float, int]],
    answers: list[str] | None = None,
    places: list[int] | None = None,
    **more: bool,
) -> Observations:
    numbers = places or list(range(len(losses)))
    examples = [
        Example(
            place,
            {"prompt": f"Q{place}", "completion": REFERENCE},
            [1],
            [1] * count,
            [1] * count,
            is_cut=more.get("is_cut", False),
        )
        for place, (_, count) in zip(numbers, losses, strict=True)
    ]
    said = [Answer(text, 1, is_finished=True) for text in answers or []]
    return Observations(examples, Said(losses, said))


def beside(
    metric: Metric, own: Observations, other: Observations, sure: float = 0.95
) -> Comparison:
    return compared("champion", metric, sure, own, other)


GOOD = an_account([(1.0, 10)] * 200, [REFERENCE] * 200)
BAD = an_account([(2.0, 10)] * 200, ["who knows"] * 200)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        pytest.param(Metric.LOSS, 0.1, id="a lower loss is ahead, in nats per token"),
        pytest.param(Metric.PERPLEXITY, 1 - math.exp(-0.1), id="a lower perplexity, as a share"),
        pytest.param(Metric.ROUGE_L, 1.0, id="a higher overlap"),
        pytest.param(Metric.EXACT_MATCH, 1.0, id="more that match"),
        pytest.param(Metric.BLEU, 1.0, id="a higher BLEU"),
    ],
)
def test_who_is_better_is_ahead(metric: Metric, expected: float) -> None:
    ahead, behind = beside(metric, GOOD, BAD), beside(metric, BAD, GOOD)
    assert ahead.difference == pytest.approx(expected, abs=1e-6)
    assert ahead.low == pytest.approx(expected, abs=1e-6)
    assert behind.difference is not None
    assert behind.difference < 0
    assert (ahead.examples, ahead.version) == (200, "champion")


def test_equal_accounts_differ_by_nothing() -> None:
    found = beside(Metric.ROUGE_L, GOOD, GOOD)
    assert (found.difference, found.low, found.high, found.deviation) == (0, 0, 0, 0)


def test_only_what_both_were_asked_counts() -> None:
    own = an_account([(1.0, 10), (5.0, 10)], places=[0, 1])
    other = an_account([(7.0, 10), (2.0, 10)], places=[1, 2])
    found = beside(Metric.LOSS, own, other)
    assert found.examples == 1
    assert found.difference == pytest.approx(0.2)
    apart = beside(Metric.LOSS, own, an_account([(7.0, 10)], places=[5]))
    assert (apart.examples, apart.difference, apart.low) == (0, None, None)


def test_another_tokenizer_is_no_advantage() -> None:
    """The same loss over the same text, in twice the tokens, is the same."""
    own, other = an_account([(6.0, 10)] * 50), an_account([(6.0, 20)] * 50)
    found = beside(Metric.LOSS, own, other)
    assert found.difference == pytest.approx(0)
    assert found.value == pytest.approx(0.6)


def test_a_record_that_was_cut_is_another_text_for_another_tokenizer() -> None:
    own, other = an_account([(6.0, 10)], is_cut=True), an_account([(6.0, 20)])
    assert beside(Metric.LOSS, own, other).examples == 0
    same = an_account([(6.0, 10)], is_cut=True)
    assert beside(Metric.LOSS, own, same).examples == 1


def test_pairs_that_agree_give_a_narrower_interval_than_their_spread() -> None:
    source = np.random.default_rng(3)
    hard = source.normal(20, 5, 400)
    own = an_account([(float(h), 10) for h in hard])
    other = an_account([(float(h + e), 10) for h, e in zip(hard, source.normal(0, 1, 400), strict=True)])  # fmt: skip
    found = beside(Metric.LOSS, own, other)
    assert found.low is not None
    assert found.high is not None
    assert found.deviation == pytest.approx(0.1, rel=0.2)
    assert found.high - found.low == pytest.approx(2 * 1.645 * 0.1 / math.sqrt(400), rel=0.2)


def test_the_same_accounts_give_the_same_numbers_and_more_confidence_wider_bounds() -> None:
    source = np.random.default_rng(5)
    own = an_account([(float(x), 10) for x in source.normal(20, 5, 100)])
    first, second = beside(Metric.LOSS, own, BAD.at(range(100))), beside(Metric.LOSS, own, BAD.at(range(100)))  # fmt: skip
    assert first == second
    wide = beside(Metric.LOSS, own, BAD.at(range(100)), 0.99)
    assert wide.low is not None
    assert first.low is not None
    assert wide.low < first.low


def test_losses_alone_need_no_answers() -> None:
    assert not needs_answers([Metric.LOSS, Metric.PERPLEXITY])
    assert needs_answers([Metric.LOSS, Metric.BLEU])
