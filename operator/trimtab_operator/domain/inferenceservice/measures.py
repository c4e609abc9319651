"""What of the gateways' counters a metric of a rollout is made of, and how Prometheus is asked.

One expression for all metrics of a rollout; its answer is taken apart here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.rollout import RolloutMetric, RolloutStatus
from trimtab_operator.domain.analysis.blocks import Arm, Counter
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.analysis.latency import threshold
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.series import RawSeries

_PREFIX: Final = "trimtab_gateway_"
_UNITS: Final = f"{_PREFIX}units_total"
_ANSWERS: Final = f"{_PREFIX}unit_answers_total"
_REFUSALS: Final = f"{_PREFIX}unit_refusals_total"
_FEEDBACK: Final = f"{_PREFIX}feedback_total"
# Pods of a Deployment whose name is longer lose the end of it in theirs.
_WHOLE_NAME: Final = 46

HISTOGRAMS: Final[Mapping[RolloutMetric, str]] = {
    RolloutMetric.TIME_TO_FIRST_TOKEN: f"{_PREFIX}unit_first_token_seconds",
    RolloutMetric.TOKENS_PER_SECOND: f"{_PREFIX}unit_token_seconds",
    RolloutMetric.REQUEST_DURATION: f"{_PREFIX}request_duration_seconds",
}


@dataclass(frozen=True)
class Rate:
    """A share among counted things: the counters of all, and which of them are events.

    `event` is a counter of events alone where the others do not tell by a label.
    """

    of: str
    label: str = ""
    values: tuple[str, ...] = ()
    event: str = ""


RATES: Final[Mapping[RolloutMetric, Rate]] = {
    RolloutMetric.ERROR_RATE: Rate(_UNITS, "code", ("5",)),
    RolloutMetric.EMPTY_ANSWERS: Rate(_ANSWERS, "finish", ("empty",)),
    RolloutMetric.CUT_ANSWERS: Rate(_ANSWERS, "finish", ("length",)),
    RolloutMetric.REFUSALS: Rate(_ANSWERS, event=_REFUSALS),
    RolloutMetric.NEGATIVE_FEEDBACK: Rate(_FEEDBACK, "rating", ("negative",)),
}


def series_of(metric: RolloutMetric) -> tuple[str, ...]:
    """The names of the series that a metric is made of."""
    if metric in HISTOGRAMS:
        return (f"{HISTOGRAMS[metric]}_bucket", f"{HISTOGRAMS[metric]}_count")
    rate = RATES[metric]
    return (rate.of, rate.event) if rate.event else (rate.of,)


def selector(
    service: InferenceService, model: str, pair: Sequence[str], metrics: Iterable[RolloutMetric]
) -> str:
    """The series of these metrics, of both versions, from every gateway of the service."""
    versions = "|".join(version.replace(".", "[.]") for version in sorted(set(pair)))
    return f'{{{_of_model(service, model, metrics)},version=~"{versions}"}}'


def selector_of_all(service: InferenceService, model: str, metrics: Iterable[RolloutMetric]) -> str:
    """The same of every version that there was."""
    return f"{{{_of_model(service, model, metrics)}}}"


def selector_of_base(service: InferenceService, metrics: Iterable[RolloutMetric]) -> str:
    """The same of a base and of every name over it: all of them move together."""
    return f"{{{_named(service, metrics)}}}"


def gateways(service: InferenceService) -> str:
    """What all series of the service's gateways have in their labels."""
    return f'namespace="{service.metadata.namespace}",pod=~"{_pods(service)}"'


def once(series: Iterable[RawSeries]) -> tuple[RawSeries, ...]:
    """Each gateway as one scraper sees it: where two scrape it, every request would count twice."""
    found = list(series)
    first: dict[str, tuple[str, str]] = {}
    for each in found:
        pod = gateway(each)
        first[pod] = min(first.get(pod, _scraper(each)), _scraper(each))
    return tuple(s for s in found if first[gateway(s)] == _scraper(s))


def together(series: Sequence[RawSeries], rollout: RolloutStatus) -> Sequence[RawSeries]:
    """What adapters have answered that move with a base, as if the base itself had answered it.

    All names have the same shares at the same time, so that the mix of them is the same on both
    sides. Summed for each gateway, whose counters begin anew together: hundreds of names are no more
    to remember than one.
    """
    if not rollout.companions:
        return series
    sides = {rollout.stable: rollout.stable, rollout.candidate: rollout.candidate}
    sides |= {c.stable: rollout.stable for c in rollout.companions}
    sides |= {c.candidate: rollout.candidate for c in rollout.companions}
    found: dict[tuple[tuple[str, str], ...], list[RawSeries]] = {}
    for each in series:
        side = sides.get(each.labels.get("version", ""))
        if side is not None:
            labels = {k: v for k, v in each.labels.items() if k != "model"} | {"version": side}
            found.setdefault(tuple(sorted(labels.items())), []).append(each)
    return [RawSeries(dict(labels), _summed(of)) for labels, of in found.items()]


def before_it_went(series: Sequence[RawSeries], rollout: RolloutStatus) -> Sequence[RawSeries]:
    """Without what was asked of a stable version whose engines had gone: nobody could answer for it."""
    went = moment_of(rollout.replaced)
    if went is None:
        return series
    until = went.timestamp()
    return [
        replace(s, samples=tuple(x for x in s.samples if x.time <= until))
        if s.labels.get("version") == rollout.stable
        else s
        for s in series
    ]


def _summed(series: Sequence[RawSeries]) -> tuple[Sample, ...]:
    """The sum at each scrape; one in which a counter is missing that goes on later is left out."""
    totals: dict[float, float] = {}
    counted: dict[float, int] = {}
    spans = []
    for each in series:
        fit = [s for s in each.samples if math.isfinite(s.value)]
        for sample in fit:
            totals[sample.time] = totals.get(sample.time, 0.0) + sample.value
            counted[sample.time] = counted.get(sample.time, 0) + 1
        if fit:
            spans.append((min(s.time for s in fit), max(s.time for s in fit)))
    return tuple(
        Sample(time, totals[time])
        for time in sorted(totals)
        if counted[time] == sum(first <= time <= last for first, last in spans)
    )


def gateway(series: RawSeries) -> str:
    """The pod that has counted it."""
    return series.labels.get("pod", "")


def counters(
    metric: RolloutMetric, series: Iterable[RawSeries], rollout: RolloutStatus, bound: float | None
) -> tuple[Counter, ...]:
    """The counters of a metric, with what each increment means."""
    arms = {rollout.stable: Arm.STABLE, rollout.candidate: Arm.CANDIDATE}
    found = []
    for each in series:
        arm = arms.get(each.labels.get("version", ""))
        adds = _adds(metric, each, bound)
        if arm is not None and adds is not None:
            units, events = adds
            found.append(Counter(gateway(each), _name(each), arm, each.samples, units, events))
    return tuple(found)


def slow_above(
    metric: RolloutMetric, series: Iterable[RawSeries], rollout: RolloutStatus
) -> float | None:
    """Above which bound a request counts as slow, from the stable version's own latencies."""
    below: dict[float, float] = {}
    for each in series:
        is_bucket = each.name == f"{HISTOGRAMS[metric]}_bucket"
        bound = _bound(each)
        if is_bucket and bound is not None and each.labels.get("version") == rollout.stable:
            below[bound] = below.get(bound, 0.0) + gained(each.samples)
    return threshold(below)


def _of_model(service: InferenceService, model: str, metrics: Iterable[RolloutMetric]) -> str:
    return f'{_named(service, metrics)},model="{model}"'


def _named(service: InferenceService, metrics: Iterable[RolloutMetric]) -> str:
    wanted = sorted({name for metric in metrics for name in series_of(metric)})
    return f'__name__=~"{"|".join(wanted)}",{gateways(service)}'


def _pods(service: InferenceService) -> str:
    name = children.name(service, names.GATEWAY)
    if len(name) > _WHOLE_NAME:
        return f"{name[:_WHOLE_NAME]}.*"
    return f"{name}-[a-z0-9]+-[a-z0-9]+"


def _scraper(series: RawSeries) -> tuple[str, str]:
    return (series.labels.get("job", ""), series.labels.get("instance", ""))


def _adds(metric: RolloutMetric, series: RawSeries, bound: float | None) -> tuple[int, int] | None:
    """What one increment adds: units and events; None where the series is of another metric."""
    if metric in HISTOGRAMS:
        if series.name == f"{HISTOGRAMS[metric]}_count":
            return (1, 1)
        is_quick = series.name == f"{HISTOGRAMS[metric]}_bucket" and _bound(series) == bound
        return (0, -1) if is_quick and bound is not None else None
    rate = RATES[metric]
    if series.name == rate.of:
        value = series.labels.get(rate.label, "") if rate.label else ""
        return (1, int(bool(rate.values) and value.startswith(rate.values)))
    return (0, 1) if rate.event and series.name == rate.event else None


def _bound(series: RawSeries) -> float | None:
    text = series.labels.get("le")
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _name(series: RawSeries) -> str:
    told = (series.labels.get(label, "") for label in ("code", "finish", "rating", "le"))
    return "/".join([series.name.removeprefix(_PREFIX), *(text for text in told if text)])


def gained(samples: Sequence[Sample]) -> float:
    """What a counter has gained from the first sample to the last; one that fell began again."""
    values = [s.value for s in samples if math.isfinite(s.value) and s.value >= 0]
    steps = pairwise(values)
    return sum(after - before if after >= before else after for before, after in steps)
