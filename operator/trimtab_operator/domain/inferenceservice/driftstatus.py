"""What is said of the drift of all models of a service: status, one condition, Events."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from trimtab_api.reasons import DriftReason
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.drift import DriftStatus
from trimtab_api.v1alpha1.inferenceservice import InferenceServiceStatus
from trimtab_operator.domain.conditions import condition, with_condition
from trimtab_operator.domain.events import Event, transitions
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.inferenceservice.children import KIND

CONDITION: Final = "DriftDetected"
# Those that say nothing about the traffic, the gravest first.
UNMEASURED: Final = (
    DriftReason.NO_PROMETHEUS,
    DriftReason.PROMETHEUS_UNAVAILABLE,
    DriftReason.NO_SERIES,
    DriftReason.LEARNING,
    DriftReason.NO_VERSION,
)


def with_drift(
    service: InferenceService,
    status: InferenceServiceStatus,
    found: Mapping[str, DriftStatus],
    now: datetime,
) -> tuple[InferenceServiceStatus, tuple[Event, ...]]:
    """The status with what was found, by public name; without a word where nothing is watched."""
    models = [m.model_copy(update={"drift": found.get(m.name)}) for m in status.models]
    others = [c for c in status.conditions if c.type != CONDITION]
    if not found:
        return status.model_copy(update={"models": models, "conditions": others}), ()
    answer = summary(found)
    said = condition(
        CONDITION,
        answer.holds,
        answer.reason,
        answer.message,
        generation=service.metadata.generation,
        now=now,
    )
    events = transitions(KIND, service, [said], warnings={DriftReason.DRIFTING})
    conditions = with_condition(status.conditions, said)
    updated = status.model_copy(update={"models": models, "conditions": conditions})
    return updated, tuple(events)


def measured(found: Mapping[str, DriftStatus]) -> dict[str, bool]:
    """Whether the traffic has moved, of the models of which that is known."""
    return {
        name: drift.reason == DriftReason.DRIFTING
        for name, drift in found.items()
        if drift.reason in {DriftReason.DRIFTING, DriftReason.NO_DRIFT}
    }


def summary(found: Mapping[str, DriftStatus]) -> Answer:
    """Drift of one model is drift; what was not measured is not known, and never drift."""
    moved = {name: d for name, d in found.items() if d.reason == DriftReason.DRIFTING}
    if moved:
        message = "; ".join(f"{name}: {d.message}" for name, d in sorted(moved.items()))
        return Answer(True, DriftReason.DRIFTING, message)
    for reason in UNMEASURED:
        same = sorted(name for name, d in found.items() if d.reason == reason)
        if same:
            message = found[same[0]].message
            return Answer(None, reason, f"{', '.join(same)[:512]}: {message}")
    return Answer(False, DriftReason.NO_DRIFT, f"the traffic of {len(found)} models is as it was")
