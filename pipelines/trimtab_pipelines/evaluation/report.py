"""Figures of candidate and base put together, and the report that holds them."""

from collections.abc import Mapping, Sequence

from trimtab_api.documents.evaluation import ReportedExample
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation.intervals import Estimate, estimate
from trimtab_pipelines.evaluation.measures import Measure, measures_of
from trimtab_pipelines.evaluation.said import Said
from trimtab_pipelines.prompts import Record, answer_of, question_of

_SAMPLES = 8


def metric_values(own: Said, base: Said | None, records: Sequence[Record]) -> list[MetricValue]:
    """All figures of the version, beside those of its base on the same examples."""
    figures = _figures(own, records)
    others = _figures(base, records) if base is not None else {}
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


def suite_values(measures: Mapping[Metric, Measure]) -> list[MetricValue]:
    """Figures of suites, which are the version's own."""
    found = {metric: estimate(each.rows, each.statistic) for metric, each in measures.items()}
    return [
        MetricValue(metric=metric, value=each.value, low=each.low, high=each.high)
        for metric, each in found.items()
    ]


def samples_of(records: Sequence[Record], own: Said, base: Said | None) -> list[ReportedExample]:
    """A few questions from all over the records, with both answers."""
    if not own.answers:
        return []
    every = max(1, len(records) // _SAMPLES)
    return [
        ReportedExample(
            prompt=question_of(record),
            reference=answer_of(record),
            answer=own.answers[index].text,
            base_answer=base.answers[index].text if base is not None else None,
        )
        for index, record in list(enumerate(records))[::every][:_SAMPLES]
    ]


def _figures(said: Said, records: Sequence[Record]) -> dict[Metric, Estimate]:
    found = measures_of(said, records)
    return {metric: estimate(each.rows, each.statistic) for metric, each in found.items()}
