"""From drift to the version before: whether there is a way back, and the rollback that takes it.

What must never happen: requests given to a version that is only on its way, was taken back itself or
is not loaded; a rollback against somebody's word; a second rollback because the first was not yet
carried out. Hence it is decided from the routing table, where the version before stays loaded, it is
written down like any other rollback, and whatever stands in the way is told in `drift.plan`.
"""

from dataclasses import dataclass
from datetime import datetime

from trimtab_api.reasons import DriftReason, RolloutReason
from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.drift import DriftStatus, OnDrift
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.rollout import MetricEvidence, ModelRuling, RollbackStatus
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.steering import told

_EVIDENCE = "Drift"


@dataclass(frozen=True)
class Place:
    """Where a model stands: what answers, what is loaded beside it, what is asked for, what people said."""

    active: RoutedVersion | None
    resident: RoutedVersion | None
    # By every engine: drift is no emergency, and half of them may be too few for all requests.
    is_loaded: bool
    wanted: ModelVersion | Finding
    before: ModelVersion | None
    against: Finding | None
    hold: ModelRuling | None


def obstacle(place: Place) -> str | None:
    """Why there is no way back now."""
    if place.active is None:
        return "no version answers"
    if place.hold is not None:
        return f"the model is held by a Decision {told(place.hold)}"
    if isinstance(place.wanted, Finding):
        return place.wanted.message
    if place.wanted.spec.artifact.digest != place.active.digest:
        return f"{place.wanted.metadata.name} is on its way"
    if place.resident is None or place.before is None:
        return "there is no version before it that is still loaded"
    if place.against is not None:
        return place.against.message
    if not place.is_loaded:
        return f"{place.resident.version}, the version before, is not loaded on every engine"
    return None


def plan(model: ServedModel, place: Place) -> str | None:
    """What follows from drift, in one sentence; None where it leads to no rollback."""
    if model.drift is None or model.drift.on_drift is not OnDrift.ROLLBACK:
        return None
    if (why := obstacle(place)) is not None:
        return f"no rollback: {why}"
    active, resident = place.active, place.resident
    if active is None or resident is None:  # as an obstacle has told
        return None
    if model.drift.dry_run:
        return f"dryRun: {active.version} would be rolled back to {resident.version}"
    return f"{active.version} is rolled back to {resident.version}"


def decided(
    model: ServedModel, found: DriftStatus | None, place: Place, now: datetime
) -> RollbackStatus | None:
    """The rollback that the drift in status leads to, if it leads to one."""
    drift, active, resident = model.drift, place.active, place.resident
    if drift is None or drift.on_drift is not OnDrift.ROLLBACK or drift.dry_run:
        return None
    if found is None or found.reason != DriftReason.DRIFTING or obstacle(place) is not None:
        return None
    if active is None or resident is None or found.version != active.version:
        return None
    return RollbackStatus(
        from_version=active.version,
        from_digest=active.digest,
        to_version=resident.version,
        to_digest=resident.digest,
        reason=RolloutReason.DRIFTED,
        message=found.message,
        evidence=[_evidence(found)],
        time=timestamp(now),
    )


def _evidence(found: DriftStatus) -> MetricEvidence:
    return MetricEvidence(
        name=found.signal or _EVIDENCE,
        candidate_requests=found.requests,
        log_evidence=found.log_evidence,
        alarm_at=found.alarm_at,
        message=f"{found.version} beside its own beginning",
    )
