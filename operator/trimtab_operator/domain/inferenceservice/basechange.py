"""Another base for a service: whether its engines may be started beside the present ones.

    engines asked for --> there --> table, steps, verdict as for any version
          |
          +--> no room for so long --> Refuse: they are taken away, nothing else happens
                                   +-> Replace, where downtime is allowed: the present engines go
                                         |
                                         +--> there --> all requests
                                         +--> not there in time, or cannot load --> Refuse

What must never happen: a new pool that waits for GPUs which the present one holds, while that one
waits for the new one. What the cluster has room for, and how long that is waited for, is in `room`; what
follows when the present engines have gone, in `replacement`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel, VersionSelector
from trimtab_api.v1alpha1.pools import BaseChange, RoomVerdict
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.companions import company, recorded
from trimtab_operator.domain.inferenceservice.consent import NOTHING_ASKED, Consent
from trimtab_operator.domain.inferenceservice.course import (
    STRAIGHT,
    Change,
    Direction,
)
from trimtab_operator.domain.inferenceservice.courses import Turned, record_of
from trimtab_operator.domain.inferenceservice.loads import EnginePod
from trimtab_operator.domain.inferenceservice.pools import (
    Pool,
    base_as_model,
    base_entry,
    pods_of_pool,
    pool_name,
)
from trimtab_operator.domain.inferenceservice.replacement import returning, taken_back
from trimtab_operator.domain.inferenceservice.room import (
    Candidate,
    due_in,
    going_back,
    lacking,
    ruled,
    standing,
    tried_again_in,
)
from trimtab_operator.domain.inferenceservice.routes import Base, routed, served
from trimtab_operator.domain.manifests import Manifest, is_deleting


@dataclass(frozen=True)
class Seen:
    """What there is of both bases."""

    base: Base
    previous: RoutingTable | None
    versions: Mapping[str, ModelVersion]
    pools: Sequence[Pool] = ()
    pods: Sequence[Manifest] = ()
    deployments: Sequence[Manifest] = ()
    engines: Sequence[EnginePod] = ()
    consent: Consent = NOTHING_ASKED
    # Each name after its turn.
    turned: Mapping[str, Turned] = field(default_factory=dict)

    @property
    def directions(self) -> Mapping[str, Direction]:
        """What steers each name."""
        return {name: each.direction for name, each in self.turned.items()}


@dataclass(frozen=True)
class Considered:
    """What follows for the table, and what is to be written down before."""

    change: Change | None = None
    ruling: BaseChange | None = None
    again_after: timedelta | None = None


def considered(service: InferenceService, seen: Seen, now: datetime) -> Considered:
    """What is to be done about another base, if there is one."""
    model = base_as_model(service)
    entry = base_entry(service, seen.previous)
    routed_now = entry.versions if entry else []
    if model is None:
        return Considered()
    # Guarded, a base has a way back, which a table that was lost no longer tells of.
    record = record_of(seen.turned, model.name)
    is_alone = len(routed_now) < 2 and record.rollout is None
    target = seen.versions.get(model.version.name or "")
    former = None
    if _is_barred(seen):
        former = taken_back(service, seen.base, target, record, seen.versions)
    if is_alone and former is None and model.version.name == seen.base.version:
        return Considered()
    adapters = served(seen.previous, seen.base)
    if record.rollout is not None:
        together = recorded(record.rollout, adapters, seen.versions)
        return Considered(Change(model, companions=together))
    if former is not None:
        return _gone_back(service, model, former, seen, now)
    if target is None or target.spec.artifact.digest == seen.base.digest:
        return Considered(Change(model))
    found = company(service, target, adapters, seen.versions, seen.consent, seen.directions)
    candidate = replace(_candidate(routed(target), routed_now, seen), companions=found.moving)
    ruling = standing(service, candidate, seen.base, now)
    if ruling is not None and ruling.verdict is RoomVerdict.REFUSE:
        return _refused(model, ruling, now)
    held = found.missing(target.metadata.name, seen.base.version) or (
        None if candidate.has_begun else _held_by_rollouts(seen) or _held_by_release(seen)
    )
    if held is not None:
        return Considered(Change(model, hold=held))
    return _decided(service, model, candidate, ruling, seen.base, now)


def _is_barred(seen: Seen) -> bool:
    """Whether something answers that must not be served."""
    directions = seen.directions
    return any(
        v.weight > 0 and v.digest in directions.get(m.name, STRAIGHT).barred
        for m in (seen.previous.models if seen.previous else [])
        for v in m.versions
    )


def _gone_back(
    service: InferenceService, model: ServedModel, former: ModelVersion, seen: Seen, now: datetime
) -> Considered:
    """The engines make room once more, for the base before: there is none for both, as is known."""
    entry, version = base_entry(service, seen.previous), routed(former)
    adapters = returning(served(seen.previous, seen.base), version.digest)
    candidate = replace(
        _candidate(version, entry.versions if entry else [], seen), companions=adapters
    )
    ruling = going_back(service, candidate, seen.base, now)
    selector = VersionSelector(name=former.metadata.name)
    model = model.model_copy(update={"version": selector})
    found = _decided(service, model, candidate, ruling, seen.base, now)
    change = replace(found.change, is_way_back=True) if found.change else None
    return replace(found, change=change)


def _decided(
    service: InferenceService,
    model: ServedModel,
    candidate: Candidate,
    before: BaseChange | None,
    present: Base,
    now: datetime,
) -> Considered:
    """What follows for the table from what there is of the new engines."""
    ruling = ruled(service, candidate, before, present, now)
    if ruling is not None and ruling.verdict is RoomVerdict.REFUSE:
        return _refused(model, ruling, now)
    is_replacing = ruling is not None
    change = Change(
        model.model_copy(update={"rollout": None}) if is_replacing else model,
        lacking=lacking(service, candidate, ruling, now),
        companions=candidate.companions,
    )
    return Considered(change, ruling, due_in(service, candidate, ruling, now))


def _candidate(version: RoutedVersion, before: Sequence[RoutedVersion], seen: Seen) -> Candidate:
    name = next((p.name for p in seen.pools if p.base.digest == version.digest), None)
    return Candidate(
        version,
        has_begun=any(v.digest == version.digest for v in before),
        pods=tuple(p for p in pods_of_pool(seen.pods, name) if not is_deleting(p)) if name else (),
        deployment=next((d for d in seen.deployments if pool_name(d) == name), None),
        engines=tuple(e for e in seen.engines if e.base == version.digest),
    )


def _refused(model: ServedModel, ruling: BaseChange, now: datetime) -> Considered:
    hold = Finding(ruling.reason, ruling.message)
    return Considered(Change(model, hold=hold), ruling, tried_again_in(ruling, now))


def _held_by_rollouts(seen: Seen) -> Finding | None:
    """A name has one candidate at a time, and its guarded version a way back."""
    moving = sorted(name for name, each in seen.turned.items() if each.record.rollout)
    if not moving:
        return None
    return Finding(
        ServiceReason.BASE_WAITS,
        f"{', '.join(moving)[:256]}: a rollout is under way or guarded, and another base has to wait until it is over; "
        "Decisions with action Promote or Abort, and rollbackWindowSeconds, end it sooner",
    )


def _held_by_release(seen: Seen) -> Finding | None:
    """Engines of another base would be of the same release, and answer under the present one's name."""
    reports = [(e.name, e.report) for e in seen.engines if e.base == seen.base.digest]
    unaware = [name for name, report in reports if report and not report.knows_pools]
    if not unaware:
        return None
    return Finding(
        ServiceReason.ENGINE_RELEASE_OUTDATED,
        f"{', '.join(unaware)[:256]}: an engine of this release knows no other base beside its own; move it by the "
        "annotation trimtab.dev/engine-release first, or name the present base again in spec.baseModel.modelVersion",
    )
