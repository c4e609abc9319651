"""Each figure as rows of sums, one per example, and a statistic of their totals.

In this form a figure can be resampled, and two models' figures can be resampled together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab_api.v1alpha1.evaluation import LESS_IS_BETTER, Metric
from trimtab_pipelines.evaluation.figures import (
    bleu_counts,
    corpus_bleu,
    exact_match,
    rouge_l,
    token_f1,
)
from trimtab_pipelines.evaluation.intervals import Table, ratio
from trimtab_pipelines.evaluation.labels import (
    MOST_LABELS,
    class_rows,
    label_of,
    macro_f1,
    macro_precision,
    macro_recall,
    said_label,
)
from trimtab_pipelines.evaluation.said import Said
from trimtab_pipelines.prompts import Record, answer_of

_OF_CLASSES: Final = {
    Metric.PRECISION: macro_precision,
    Metric.RECALL: macro_recall,
    Metric.F1: macro_f1,
}
# Perplexity of a broken model; JSON has no infinity.
_HIGHEST = 1e12


@dataclass(frozen=True)
class Measure:
    """One figure of one model."""

    rows: Sequence[Sequence[float]]
    statistic: Callable[[Table], float]


def measures_of(said: Said, records: Sequence[Record]) -> dict[Metric, Measure]:
    """Every figure that can be had from what was said about these records."""
    losses = [(total, float(count)) for total, count in said.losses]
    found = {Metric.LOSS: Measure(losses, ratio), Metric.PERPLEXITY: Measure(losses, perplexity)}
    if not said.answers:
        return found
    answers = [answer.text for answer in said.answers]
    references = [answer_of(record) for record in records]
    pairs = list(zip(answers, references, strict=True))
    bleu = [counts.as_row() for counts in bleu_counts(answers, references)]
    return found | {
        Metric.EXACT_MATCH: _mean(pairs, exact_match),
        Metric.BLEU: Measure(bleu, _bleu),
        Metric.ROUGE_L: _mean(pairs, rouge_l),
        Metric.TOKEN_F1: _mean(pairs, token_f1),
        **_of_labels(answers, records),
    }


def perplexity(sums: Table) -> float:
    """Of a table whose columns are losses and tokens."""
    return float(min(np.exp(min(ratio(sums), 700)), _HIGHEST))


def gain(metric: Metric, own: float, other: float) -> float:
    """How much better the first is; for a perplexity as a share of the second."""
    if metric is Metric.PERPLEXITY:
        return (other - own) / other
    return other - own if metric in LESS_IS_BETTER else own - other


def _of_labels(answers: Sequence[str], records: Sequence[Record]) -> dict[Metric, Measure]:
    """Answers as labels, over the records that have one."""
    labelled = [
        (answer, label)
        for answer, record in zip(answers, records, strict=True)
        if (label := label_of(record)) is not None
    ]
    if not labelled:
        return {}
    meant = [label for _, label in labelled]
    known = frozenset(meant)
    said = [said_label(answer, known) for answer, _ in labelled]
    hits = [(float(its == true), 1.0) for its, true in zip(said, meant, strict=True)]
    found = {Metric.ACCURACY: Measure(hits, ratio)}
    if len(known) <= MOST_LABELS:
        rows = class_rows(said, meant)
        for metric, statistic in _OF_CLASSES.items():
            found[metric] = Measure(rows, statistic)
    return found


def _mean(pairs: Sequence[tuple[str, str]], figure: Callable[[str, str], float]) -> Measure:
    return Measure([(figure(*pair), 1.0) for pair in pairs], ratio)


def _bleu(sums: Table) -> float:
    return corpus_bleu([round(x) for x in sums])
