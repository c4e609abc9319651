"""Whether there is room for engines of another base: what the cluster says, and what is decided of it.

The present engines make room only by a decision that is in status before, and for one that failed in
it only when somebody asks again. Waiting has an end, and every end leaves engines that answer, or that
are being started.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.pools import BaseChange, RoomVerdict
from trimtab_api.v1alpha1.rollout import BaseRollout
from trimtab_operator.domain.conditions import moment_of, timestamp
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import engine
from trimtab_operator.domain.inferenceservice.course import Moving
from trimtab_operator.domain.inferenceservice.health import Part, trouble
from trimtab_operator.domain.inferenceservice.loads import FAILED, EnginePod, state_of
from trimtab_operator.domain.inferenceservice.routes import Base
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.naming import short_hash
from trimtab_operator.domain.observation import unscheduled
from trimtab_operator.domain.outcome import soonest

# What found no room is tried again: somebody else may have made some. A pod that waits holds nothing.
TRIED_AGAIN_AFTER: Final = timedelta(minutes=30)
# Engines that make room finish begun answers first; then the new ones load, large weights for long.
ROOM_MADE_WITHIN: Final = timedelta(seconds=engine.GRACE_SECONDS)
UP_WITHIN: Final = ROOM_MADE_WITHIN + timedelta(
    seconds=engine.HUNG_PERIOD_SECONDS * engine.HUNG_TRIES
)
MESSAGE_LENGTH: Final = 512


@dataclass(frozen=True)
class _Stuck:
    """Since when there is no room, and in whose words."""

    since: datetime
    message: str


@dataclass(frozen=True)
class Candidate:
    """The new base and what there is of its engines."""

    version: RoutedVersion
    has_begun: bool
    pods: tuple[Manifest, ...] = ()
    deployment: Manifest | None = None
    engines: tuple[EnginePod, ...] = field(default=())
    companions: tuple[Moving, ...] = ()


def standing(
    service: InferenceService, candidate: Candidate, present: Base, now: datetime
) -> BaseChange | None:
    """What was decided about this base, as long as it counts."""
    told = service.status.base_change
    if told is None:
        return None
    if told.digest != candidate.version.digest:
        # Room that was made for one base is there for the next.
        is_free = told.verdict is RoomVerdict.REPLACE and told.digest != present.digest
        makes_room = is_free and _wishes(service).allow_downtime
        return _replacing(service, candidate, present, now) if makes_room else None
    if told.verdict is RoomVerdict.REPLACE:
        return told
    if told.asked != _asked(service):
        return None
    left = tried_again_in(told, now)
    return told if left is None or left > timedelta() else None


def going_back(
    service: InferenceService, candidate: Candidate, present: Base, now: datetime
) -> BaseChange:
    """There is no room for both, as is known: the present engines make room once more."""
    told = service.status.base_change
    if told is not None and (told.digest, told.asked) == (
        candidate.version.digest,
        _asked(service),
    ):
        return told
    return _replacing(service, candidate, present, now)


def tried_again_in(ruling: BaseChange, now: datetime) -> timedelta | None:
    """None for what has failed in the room that was made: each attempt takes the service down."""
    if ruling.reason == ServiceReason.REPLACEMENT_FAILED:
        return None
    return (moment_of(ruling.since) or now) + TRIED_AGAIN_AFTER - now


def ruled(
    service: InferenceService,
    candidate: Candidate,
    before: BaseChange | None,
    present: Base,
    now: datetime,
) -> BaseChange | None:
    """The decision that stands now: the one of before, a new one, or none."""
    stuck = _stuck(candidate)
    if before is not None and before.verdict is RoomVerdict.REFUSE:
        return before
    if before is not None:
        failure = _failure(service, candidate, before, stuck, now)
        if failure is None:
            return before
        # The remedy first: what a cluster says may be long.
        message = (
            f"engines of {present.version} are started again, and {candidate.version.version} is not tried again by "
            f"itself; change spec.baseModel, or set the annotation {names.ANNOTATION_RETRY}: {failure}"
        )
        reason = ServiceReason.REPLACEMENT_FAILED
        return _decision(service, candidate, RoomVerdict.REFUSE, reason, message, now)
    if stuck is None or now - stuck.since < _patience(service):
        return None
    if _wishes(service).allow_downtime:
        return _replacing(service, candidate, present, now)
    message = (
        f"there is no room for engines of {candidate.version.version} beside those of {present.version}; add nodes, or "
        f"set spec.baseModel.rollout.allowDowntime; it is tried again later: {stuck.message}"
    )
    reason = ServiceReason.NO_SPARE_CAPACITY
    return _decision(service, candidate, RoomVerdict.REFUSE, reason, message, now)


def _replacing(
    service: InferenceService, candidate: Candidate, present: Base, now: datetime
) -> BaseChange:
    message = f"engines of {present.version} make room for {candidate.version.version}, and nothing answers until it is there"
    reason = ServiceReason.REPLACING_ENGINES
    return _decision(service, candidate, RoomVerdict.REPLACE, reason, message, now)


def _failure(
    service: InferenceService,
    candidate: Candidate,
    before: BaseChange,
    stuck: _Stuck | None,
    now: datetime,
) -> str | None:
    """Why it is given up to wait for engines that room was made for."""
    version = candidate.version
    awaited = (version, *(m.candidate for m in candidate.companions))
    states = (state_of(each, one) for one in awaited for each in candidate.engines)
    failed = next((s for s in states if s is not None and s.state == FAILED), None)
    if failed is not None:
        return f"{failed.version} cannot be loaded: {failed.message or 'no cause given'}"
    waited = now - (moment_of(before.since) or now)
    if stuck is not None and waited >= ROOM_MADE_WITHIN + _patience(service):
        return f"there is no room for {version.version} even so: {stuck.message}"
    is_up = len(candidate.engines) >= engine.replicas(service)
    if waited >= UP_WITHIN and not is_up:
        return (
            f"engines of {version.version} were not ready after {int(UP_WITHIN.total_seconds())} s"
        )
    return None


def _decision(
    service: InferenceService,
    candidate: Candidate,
    verdict: RoomVerdict,
    reason: str,
    message: str,
    now: datetime,
) -> BaseChange:
    return BaseChange(
        version=candidate.version.version,
        digest=candidate.version.digest,
        verdict=verdict,
        asked=_asked(service),
        since=timestamp(now),
        reason=reason,
        message=message[:MESSAGE_LENGTH],
    )


def lacking(
    service: InferenceService, candidate: Candidate, ruling: BaseChange | None, now: datetime
) -> Finding | None:
    """What the pool still lacks: a share on half of it would be too much for that half."""
    wanted, ready = engine.replicas(service), len(candidate.engines)
    if ready >= wanted:
        return None
    name = candidate.version.version
    part = Part("engine", ServiceReason.ENGINE_READY, wanted, candidate.deployment, candidate.pods)
    found = trouble(part, now)
    told = f"{ready} of {wanted} engines of {name} are ready"
    if ruling is not None:
        return Finding(ServiceReason.REPLACING_ENGINES, f"{ruling.message}; {told}")
    if found is None:
        return Finding(ServiceReason.STARTING, told)
    return Finding(found.reason, f"{told}; {found.message}")


def _stuck(candidate: Candidate) -> _Stuck | None:
    """The word of the scheduler, or of a quota, that has stood for longest."""
    found = []
    for pod in candidate.pods:
        told = unscheduled(pod)
        since = moment_of(get(told, "lastTransitionTime"))
        if since is not None:
            found.append(_Stuck(since, f"{name_of(pod)}: {get(told, 'message', default='')}"))
    for told in get(candidate.deployment, "status", "conditions", default=[]):
        since = moment_of(told.get("lastTransitionTime"))
        if told.get("type") == "ReplicaFailure" and told.get("status") == "True" and since:
            found.append(_Stuck(since, str(told.get("message", ""))))
    return min(found, key=lambda each: each.since, default=None)


def due_in(
    service: InferenceService, candidate: Candidate, ruling: BaseChange | None, now: datetime
) -> timedelta | None:
    """When waiting has an end, although nothing may change until then."""
    stuck = _stuck(candidate)
    dates = []
    if ruling is not None:
        since = moment_of(ruling.since) or now
        dates += [since + ROOM_MADE_WITHIN + _patience(service), since + UP_WITHIN]
    elif stuck is not None:
        dates.append(stuck.since + _patience(service))
    return soonest(*(date - now for date in dates if date > now))


def _wishes(service: InferenceService) -> BaseRollout:
    return service.spec.base_model.rollout or BaseRollout()


def _patience(service: InferenceService) -> timedelta:
    return timedelta(seconds=_wishes(service).scheduling_deadline_seconds)


def _asked(service: InferenceService) -> str:
    """Stands for what a user has asked for that decides about room; with something else it is tried at once.

    Not the number of replicas: an autoscaler changes it, and no attempt that takes the service down may follow from that.
    """
    spec = service.spec
    return short_hash(
        spec.base_model.model_dump_json(exclude_defaults=True),
        spec.engine.model_dump_json(exclude_defaults=True),
        spec.pod.model_dump_json(exclude_defaults=True),
        service.metadata.annotations.get(names.ANNOTATION_RETRY, ""),
        length=16,
    )
