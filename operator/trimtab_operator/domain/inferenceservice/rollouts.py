"""What is said and written about the rollouts of a service: conditions, Events, and quarantines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import RolloutReason
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.rollout import RollbackStatus, RolloutStatus, RolloutVerdict
from trimtab_operator.domain.events import Event, about, correlation_of
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.barring import condemns, is_pending
from trimtab_operator.domain.inferenceservice.courses import Turned
from trimtab_operator.domain.inferenceservice.pools import named_models
from trimtab_operator.domain.inferenceservice.routes import ModelRoute
from trimtab_operator.domain.inferenceservice.versions import Versions
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import fitted, short_hash

KIND: Final = children.KIND
PROGRESSING: Final = "RolloutProgressing"
ROLLED_BACK: Final = "RolledBack"
# What a version can be quarantined for by the operator.
ROLLOUT: Final = "rollout"
DRIFT: Final = "drift"
_WHY_LENGTH: Final = 1024


def answers(service: InferenceService, routes: Sequence[ModelRoute]) -> dict[str, Answer]:
    """The two conditions; of a service without rollouts and what came of them nothing is said."""
    has_rollouts = any(model.rollout is not None for model in named_models(service))
    recorded = any(r.record.rollout or r.record.last_rollback for r in routes)
    if not (has_rollouts or recorded):
        return {}
    return {PROGRESSING: _progressing(routes), ROLLED_BACK: _rolled_back(routes)}


def started(before: ServedModelStatus | None, turned: Turned) -> bool:
    """Whether something was decided that has to be written down before anything follows from it."""
    old, new = before.rollout if before else None, turned.record.rollout
    is_moved = _place(old) != _place(new)
    last = before.last_rollback if before else None
    return is_moved or last != turned.record.last_rollback


def announced(
    service: InferenceService, turned: Iterable[Turned], versions: Versions
) -> tuple[Event, ...]:
    """What is new about rollouts, but for rollbacks: those are told once they are carried out."""
    found = list[Event]()
    before = {m.name: m.rollout for m in service.status.models}
    for each in turned:
        earlier = before.get(each.model.name)
        event = _news(service, each, earlier)
        about_whom = each.record.rollout or earlier
        if event is not None and about_whom is not None:
            # Why there is a candidate at all is where its story began.
            version = versions.get(about_whom.candidate)
            found.append(replace(event, correlation=correlation_of(version)))
    return tuple(found)


def promotions(service: InferenceService, turned: Iterable[Turned]) -> tuple[str, ...]:
    """The models whose candidate gets all requests now."""
    before = {m.name: m.rollout for m in service.status.models}
    return tuple(
        each.model.name for each in turned if _is_promoted(before.get(each.model.name), each)
    )


def rolled_back(
    service: InferenceService, model: str, rollback: RollbackStatus, bad: ModelVersion | None
) -> Event:
    """A rollback that was carried out, of a version that may be gone by now."""
    message = f"{model}: {rollback.from_version} was rolled back to {rollback.to_version}: {rollback.message}"
    occasion = f"{model}/{rollback.from_digest}/{rollback.time}"
    reason = RolloutReason.ROLLED_BACK
    return about(
        KIND,
        service,
        reason,
        message,
        warning=True,
        occasion=occasion,
        correlation=correlation_of(bad),
    )


def pending(models: Iterable[ServedModelStatus]) -> Mapping[str, RollbackStatus]:
    """The rollbacks that are written down and not yet carried out to the end, by model."""
    found = ((m.name, m.last_rollback) for m in models)
    return {name: last for name, last in found if last is not None and is_pending(last)}


def quarantined_for(service: InferenceService, model: str, what: str) -> str:
    """How the reason of such a quarantine begins."""
    return f"{what} of {model} in InferenceService {service.metadata.name}: "


def quarantine(
    service: InferenceService, model: str, rollback: RollbackStatus, by: str
) -> Manifest | None:
    """The Decision that keeps the digest away; it outlives the service. None where nothing condemns it."""
    if not condemns(rollback):
        return None
    inputs = (service.metadata.uid, model, rollback.from_digest, rollback.time)
    what = DRIFT if rollback.reason == RolloutReason.DRIFTED else ROLLOUT
    why = f"{quarantined_for(service, model, what)}{rollback.message}"
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Decision",
        "metadata": {
            "name": f"{fitted(rollback.from_version, 200)}-quarantine-{short_hash(*inputs)}",
            "namespace": service.metadata.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "spec": {
            "action": Action.QUARANTINE.value,
            "target": {
                "kind": "ModelVersion",
                "name": rollback.from_version,
                "digest": rollback.from_digest,
            },
            "by": by,
            "reason": why[:_WHY_LENGTH],
        },
    }


def _progressing(routes: Sequence[ModelRoute]) -> Answer:
    found = ((r.name, r.record.rollout) for r in routes)
    under_way = [(name, status) for name, status in found if status is not None]
    moving = [(name, status) for name, status in under_way if status.promoted is None]
    lacking = [r for r in routes if r.record.rollout and r.weight == 0 and r.finding is not None]
    if lacking:
        told = "; ".join(f"{r.name}: {r.finding.message}" for r in lacking if r.finding)
        return Answer(True, RolloutReason.NOT_LOADED, told)
    if moving:
        _, first = moving[0]
        return Answer(True, first.reason, _told(moving))
    waiting = [r for r in routes if r.begins is not None]
    if waiting:
        told = "; ".join(
            f"{r.name}: {r.candidate} is loaded, and begins on Resume" for r in waiting
        )
        return Answer(True, RolloutReason.PAUSED, told)
    if under_way:
        return Answer(False, RolloutReason.GUARDING, _told(under_way))
    return Answer(False, RolloutReason.NO_ROLLOUT, "no model is being rolled out")


def _told(rollouts: Iterable[tuple[str, RolloutStatus]]) -> str:
    return "; ".join(f"{name}: {s.candidate}: {s.message or s.reason}" for name, s in rollouts)


def _rolled_back(routes: Sequence[ModelRoute]) -> Answer:
    found = [
        (r.name, last)
        for r in routes
        if (last := r.record.last_rollback) is not None and last.to_version == r.active
    ]
    if not found:
        reason = RolloutReason.NOT_ROLLED_BACK
        return Answer(False, reason, "no name is answered by a version that was gone back to")
    told = "; ".join(f"{n}: {b.from_version} ({b.reason}): {b.message}" for n, b in found)
    return Answer(True, RolloutReason.ROLLED_BACK, told)


def _place(status: RolloutStatus | None) -> tuple[object, ...]:
    """Where a rollout is, without its figures."""
    if status is None:
        return ()
    return (
        status.candidate_digest,
        status.stable_digest,
        status.since,
        status.step,
        status.promoted,
    )


def _is_promoted(before: RolloutStatus | None, turned: Turned) -> bool:
    now = turned.record.rollout
    return bool(now and now.promoted) and not (before and before.promoted)


def _news(service: InferenceService, turned: Turned, before: RolloutStatus | None) -> Event | None:
    name, now = turned.model.name, turned.record.rollout
    if now is None:
        if before is None or turned.ended is None:
            return None
        message = f"{name}: the rollout of {before.candidate} has ended: {turned.ended}"
        return _event(service, name, before, RolloutReason.ENDED, message)
    if now.replaced is not None and before is None:
        message = f"{name}: {now.candidate} has all requests in the place of {now.stable}"
        return _event(service, name, now, RolloutReason.PROMOTED, message)
    if (
        before is None
        or before.since != now.since
        or before.candidate_digest != now.candidate_digest
    ):
        message = f"{name}: {now.candidate} has its first share beside {now.stable}"
        return _event(service, name, now, RolloutReason.STARTED, message)
    if _is_promoted(before, turned):
        message = f"{name}: {now.candidate} has all requests: {now.message}"
        return _event(service, name, now, RolloutReason.PROMOTED, message)
    if now.step != before.step:
        message = f"{name}: {now.candidate} goes on to step {now.step}"
        return _event(service, name, now, RolloutReason.STEP_TAKEN, message)
    if now.reason == RolloutReason.DRY_RUN != before.reason:
        is_bad = now.verdict is RolloutVerdict.ROLL_BACK
        message = f"{name}: {now.candidate}: {now.message}"
        return _event(service, name, now, RolloutReason.DRY_RUN, message, warning=is_bad)
    return None


def _event(
    service: InferenceService,
    model: str,
    status: RolloutStatus,
    reason: str,
    message: str,
    *,
    warning: bool = False,
) -> Event:
    occasion = f"{model}/{status.candidate_digest}/{status.since}/{status.step}/{status.verdict}"
    return about(KIND, service, reason, message, warning=warning, occasion=occasion)
