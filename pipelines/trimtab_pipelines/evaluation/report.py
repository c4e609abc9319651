"""Figures of candidate and base put together, and the report that holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab_api.documents.evaluation import ReportedExample
from trimtab_api.v1alpha1.common import Metric
from trimtab_api.v1alpha1.modelversion import MetricValue
from trimtab_pipelines.evaluation.figures import (
    bleu_counts,
    corpus_bleu,
    exact_match,
    rouge_l,
    token_f1,
)
from trimtab_pipelines.evaluation.intervals import Estimate, Table, estimate, ratio
from trimtab_pipelines.prompts import Record, answer_of, question_of

_SAMPLES = 8
# Perplexity of a broken model; JSON has no infinity.
_HIGHEST = 1e12


@dataclass(frozen=True)
class Said:
    """What one model said about the examples; no answers where there is nothing to answer."""

    losses: Sequence[tuple[float, int]]
    answers: Sequence[str]


def metric_values(own: Said, base: Said | None, references: Sequence[str]) -> list[MetricValue]:
    """All figures of the version, beside those of its base on the same examples."""
    figures = _figures(own, references)
    others = _figures(base, references) if base is not None else {}
    return [
        MetricValue(
            metric=metric,
            value=found.value,
            low=found.low,
            high=found.high,
            base=others[metric].value if metric in others else None,
        )
        for metric, found in figures.items()
    ]


def samples_of(records: Sequence[Record], own: Said, base: Said | None) -> list[ReportedExample]:
    """The first few questions with both answers."""
    if not own.answers:
        return []
    return [
        ReportedExample(
            prompt=question_of(record),
            reference=answer_of(record),
            answer=own.answers[index],
            base_answer=base.answers[index] if base is not None else None,
        )
        for index, record in enumerate(records[:_SAMPLES])
    ]


def _figures(said: Said, references: Sequence[str]) -> dict[Metric, Estimate]:
    losses = [(total, float(count)) for total, count in said.losses]
    found = {
        Metric.LOSS: estimate(losses, ratio),
        Metric.PERPLEXITY: estimate(losses, _perplexity),
    }
    if not said.answers:
        return found
    pairs = list(zip(said.answers, references, strict=True))
    bleu = [counts.as_row() for counts in bleu_counts(said.answers, references)]
    return found | {
        Metric.EXACT_MATCH: _mean(pairs, exact_match),
        Metric.BLEU: estimate(bleu, lambda sums: corpus_bleu([round(x) for x in sums])),
        Metric.ROUGE_L: _mean(pairs, rouge_l),
        Metric.TOKEN_F1: _mean(pairs, token_f1),
    }


def _mean(pairs: Sequence[tuple[str, str]], figure: Callable[[str, str], float]) -> Estimate:
    return estimate([(figure(*pair), 1.0) for pair in pairs], ratio)


def _perplexity(sums: Table) -> float:
    return float(min(np.exp(ratio(sums)), _HIGHEST))
