"""What Prometheus is asked for the plots of a history, and its answers as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from math import isfinite
from typing import Final

from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.inferenceservice import measures
from trimtab_operator.domain.series import RawSeries

# As many moments as a plot has room for.
MOMENTS: Final = 240
SHORTEST_STEP: Final = timedelta(seconds=15)
_SHORTEST_WINDOW: Final = timedelta(minutes=5)
# Of more versions a plot could not be read; those with the most samples are kept.
MOST_CURVES: Final = 5

Point = tuple[float, float]


class Course(StrEnum):
    """What is plotted over time."""

    SHARE = "Share"
    ERRORS = "Errors"
    DRIFT = "Drift"


@dataclass(frozen=True)
class Curve:
    """One line of a plot: seconds, and the value then."""

    name: str
    points: tuple[Point, ...]


Courses = Mapping[Course, Mapping[str, tuple[Curve, ...]]]


def step_of(span: timedelta) -> timedelta:
    """How far the moments of a plot are apart."""
    return max(timedelta(seconds=round(span.total_seconds() / MOMENTS)), SHORTEST_STEP)


def queries(service: InferenceService, step: timedelta) -> dict[Course, str]:
    """One expression for each course, of all models and versions of the service."""
    window = f"[{int(max(step, _SHORTEST_WINDOW).total_seconds())}s]"
    of = measures.gateways(service)
    requests = f"sum by (model, version) (rate(trimtab_gateway_requests_total{{{of}}}{window}))"
    errors = f'sum by (model, version) (rate(trimtab_gateway_requests_total{{{of},code=~"5.."}}{window}))'
    name, namespace = service.metadata.name, service.metadata.namespace
    drift = " or ".join(
        # Where a PodMonitor scrapes the operator, namespace is the operator's own.
        f'trimtab_operator_drift{{service="{name}",{label}="{namespace}"}}'
        for label in ("exported_namespace", "namespace")
    )
    return {
        Course.SHARE: f"{requests} / on (model) group_left () sum by (model) ({requests})",
        # A version without a failure has no series of failures, and a rate of nought.
        Course.ERRORS: f"({errors} or 0 * {requests}) / {requests}",
        Course.DRIFT: f"max by (model) ({drift})",
    }


def curves(series: Sequence[RawSeries]) -> dict[str, tuple[Curve, ...]]:
    """The curves by model, the version that came first ahead; what is no number leaves a gap."""
    found: dict[str, list[Curve]] = {}
    for one in series:
        points = tuple((s.time, s.value) for s in one.samples if isfinite(s.value))
        if points:
            model, version = one.labels.get("model", ""), one.labels.get("version", "")
            found.setdefault(model, []).append(Curve(version, points))
    return {model: _kept(each) for model, each in found.items()}


def _kept(found: list[Curve]) -> tuple[Curve, ...]:
    kept = sorted(found, key=lambda curve: len(curve.points), reverse=True)[:MOST_CURVES]
    return tuple(sorted(kept, key=lambda curve: (curve.points[0][0], curve.name)))
