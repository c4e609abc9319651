"""What becomes of the rollouts of a service now: each name's turn, before the table is decided.

    status, notes, answers of Prometheus, decisions --> turn of each name --> direction for the routing
                                                                         +--> record for status, notes

Everything here can be done again from what is stored: an operator that died goes on to the same end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import Decision, InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel, ServedModelStatus
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_api.v1alpha1.rollout import Rollout, RolloutStatus
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import (
    barring,
    companions,
    driftrollback,
    looks,
    replacement,
    rollout,
)
from trimtab_operator.domain.inferenceservice.companions import served_models
from trimtab_operator.domain.inferenceservice.consent import Consent, isolated
from trimtab_operator.domain.inferenceservice.course import (
    NOTHING_RECORDED,
    Course,
    Direction,
    Moving,
    Record,
)
from trimtab_operator.domain.inferenceservice.loads import EnginePod, is_at_hand, unloaded
from trimtab_operator.domain.inferenceservice.looks import Ask, Heard
from trimtab_operator.domain.inferenceservice.notes import Notes, notes_of
from trimtab_operator.domain.inferenceservice.pools import base_as_model, named_models
from trimtab_operator.domain.inferenceservice.steering import Steering, steering, told
from trimtab_operator.domain.inferenceservice.versions import not_ready, wanted
from trimtab_operator.domain.outcome import soonest

# What has lost its requests stays loaded for those that are under way on it.
LEAVES_AFTER: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Surroundings:
    """What the turns of all names rest on beside spec and status."""

    versions: Mapping[str, ModelVersion]
    engines: Sequence[EnginePod]
    previous: RoutingTable | None
    consent: Consent
    # Digest of what the engines hold that answer.
    base: str | None = None
    decisions: Sequence[Decision] = ()
    # The last Quarantine or LiftQuarantine of each digest.
    isolations: Mapping[str, Ruling] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    heard: Mapping[str, Heard] = field(default_factory=dict)
    # What steers the other names, which the base has to heed.
    others: Mapping[str, Direction] = field(default_factory=dict)


@dataclass(frozen=True)
class Turned:
    """One name after its turn."""

    model: ServedModel
    direction: Direction
    record: Record
    notes: Notes | None = None
    again_after: timedelta | None = None
    # Why a rollout that was under way is none any more, where that was no verdict.
    ended: str | None = None
    is_paused: bool = False
    # What drift leads to, where it leads to a rollback.
    drift_plan: str | None = None


@dataclass(frozen=True)
class Circumstances:
    """What one turn of a rollout rests on beside what was measured."""

    now: datetime
    steering: Steering
    # Decisions about the candidate's content, if there were any.
    isolation: Ruling | None = None
    has_way_back: bool = True


def one_turn(
    service: InferenceService,
    model: ServedModel,
    status: RolloutStatus,
    notes: Notes,
    heard: Heard | None,
    around: Circumstances,
) -> tuple[rollout.Turn, Notes]:
    """A rollout after one look, or after none; a replay of the past goes by it too."""
    wished = model.rollout or Rollout()
    if heard is not None:
        notes = looks.noted(wished, status, notes, heard)
    went = rollout.turn(
        wished,
        status,
        rollout.Situation(
            judged=looks.judged(wished, status, notes, around.now),
            steering=around.steering,
            now=around.now,
            isolation=around.isolation,
            has_way_back=around.has_way_back,
            query=looks.asked_for(service, model, status),
        ),
    )
    return went, looks.at_step(went.status, notes) if went.status else notes


def turns(service: InferenceService, around: Surroundings, now: datetime) -> dict[str, Turned]:
    """Each name's turn."""
    before = {m.name: m for m in service.status.models}

    def turn(model: ServedModel, around: Surroundings) -> Turned:
        status = before.get(model.name) or ServedModelStatus(name=model.name)
        return _turn(service, model, status, around, now)

    base = base_as_model(service)
    found = {m.name: turn(m, around) for m in served_models(service)}
    if base is None:
        return found
    others = {name: each.direction for name, each in found.items()}
    return {base.name: turn(base, replace(around, others=others)), **found}


def begun(
    service: InferenceService,
    turned: Turned,
    pair: tuple[RoutedVersion, RoutedVersion],
    now: datetime,
    together: Sequence[Moving] = (),
) -> Turned:
    """The name with the first step of a rollout taken."""
    if turned.model.rollout is None or turned.is_paused:
        return turned
    status = rollout.begin(service.metadata.uid, *pair, now, companions.told(together))
    return under_way(turned, status)


def under_way(turned: Turned, status: RolloutStatus) -> Turned:
    """The name with a rollout that has just begun, whatever it begins with."""
    wished = turned.model.rollout or Rollout()
    return replace(
        turned,
        direction=replace(turned.direction, course=_course(wished, status)),
        record=replace(turned.record, rollout=status),
        notes=notes_of(status, None),
        again_after=soonest(turned.again_after, looks.LOOK_EVERY),
    )


def record_of(turned: Mapping[str, Turned], name: str) -> Record:
    """What is known of a name after its turn; nothing where it has none."""
    return turned[name].record if name in turned else NOTHING_RECORDED


def asks(
    service: InferenceService, written: Mapping[str, str], now: datetime
) -> Iterator[tuple[str, Ask]]:
    """What to ask Prometheus now, by model; nothing where no rollout is under way."""
    before = {m.name: m.rollout for m in service.status.models}
    for model in named_models(service):
        status = before.get(model.name)
        if status is not None and model.rollout is not None:
            notes = notes_of(status, written.get(model.name))
            found = looks.ask(service, model, status, notes, now)
            if found is not None:
                yield model.name, found


def _turn(
    service: InferenceService,
    model: ServedModel,
    before: ServedModelStatus,
    around: Surroundings,
    now: datetime,
) -> Turned:
    steers = steering(model.name, around.decisions, before.decisions)
    record = Record(before.rollout, before.last_rollback, steers.remembered)
    barred = barring.barred(steers, around.versions, around.isolations, before.last_rollback)
    active, resident = _served(model.name, around.previous)
    pin = steers.pin(active.digest) if active else None
    turned = Turned(
        model,
        Direction(barred=barred, pin=f"pinned {told(pin)}" if pin else None),
        replace(record, rollout=None),
        is_paused=steers.pause is not None,
    )
    status = before.rollout
    place = _place(model, steers, barred, active, resident, around)
    turned = replace(turned, drift_plan=driftrollback.plan(model, place))
    drifted = (
        None
        if barring.is_pending(before.last_rollback)
        else driftrollback.decided(model, before.drift, place, now)
    )
    if drifted is not None:
        turned = replace(turned, record=replace(turned.record, last_rollback=drifted))
    elif status is not None and model.rollout is not None:
        ended = "the name is pinned" if pin and status.promoted is None else None
        consent = replace(around.consent, barred=barred)
        ended = (
            ended
            or _ended(model, status, active, consent, around)
            or companions.fallen(service, status, around.versions, around.consent, around.others)
        )
        if ended is not None:
            turned = replace(turned, ended=ended)
        else:
            has_way_back = _has_way_back(model, status, active, resident, around)
            turned = _gone_on(service, turned, status, around, steers, has_way_back, now)
    elif status is not None:
        turned = replace(turned, ended="the model has no rollout in the spec any more")
    return _with_leaving(turned, barred, now)


def _place(
    model: ServedModel,
    steers: Steering,
    barred: Mapping[str, Finding],
    active: RoutedVersion | None,
    resident: RoutedVersion | None,
    around: Surroundings,
) -> driftrollback.Place:
    consent = replace(around.consent, barred=barred)
    before = around.versions.get(resident.version) if resident else None
    if resident and before and before.spec.artifact.digest != resident.digest:
        before = None  # another artifact has come under its name
    return driftrollback.Place(
        active=active,
        resident=resident,
        is_loaded=resident is not None and unloaded(resident, around.engines, None) is None,
        wanted=wanted(model, around.versions, consent, around.base),
        before=before,
        against=(consent.against(before) or not_ready(before)) if before else None,
        hold=steers.hold,
    )


def _gone_on(
    service: InferenceService,
    turned: Turned,
    status: RolloutStatus,
    around: Surroundings,
    steers: Steering,
    has_way_back: bool,
    now: datetime,
) -> Turned:
    model = turned.model
    wished = model.rollout or Rollout()
    circumstances = Circumstances(
        now, steers, barring.isolation(status, around.isolations), has_way_back
    )
    went, notes = one_turn(
        service,
        model,
        status,
        notes_of(status, around.notes.get(model.name)),
        around.heard.get(model.name),
        circumstances,
    )
    if went.status is None:
        rollback = went.rollback or turned.record.last_rollback
        return replace(turned, record=replace(turned.record, last_rollback=rollback))
    return replace(
        turned,
        direction=replace(turned.direction, course=_course(wished, went.status)),
        record=replace(turned.record, rollout=went.status),
        notes=notes,
        again_after=soonest(
            looks.due_in(notes, now) or looks.LOOK_EVERY,
            rollout.next_due(wished, went.status, now),
        ),
    )


def _with_leaving(turned: Turned, barred: Mapping[str, Finding], now: datetime) -> Turned:
    """What was rolled back just now must not be served, and is not unloaded at once either."""
    last = turned.record.last_rollback
    if last is None:
        return turned
    direction = turned.direction
    if barring.is_pending(last):
        finding = isolated(last.from_version, last.message)
        direction = replace(direction, barred={**barred, last.from_digest: finding})
    left = (moment_of(last.time) or now) + LEAVES_AFTER - now
    if timedelta() < left <= LEAVES_AFTER:
        direction = replace(direction, leaving=last.from_digest)
        turned = replace(turned, again_after=soonest(turned.again_after, left))
    return replace(turned, direction=direction)


def _ended(
    model: ServedModel,
    status: RolloutStatus,
    active: RoutedVersion | None,
    consent: Consent,
    around: Surroundings,
) -> str | None:
    """Why the rollout cannot go on; a candidate that people decided against has its own end."""
    steered = consent.barred.get(status.candidate_digest)
    if steered is None:
        found = wanted(model, around.versions, consent, around.base)
        if isinstance(found, Finding):
            return found.message
        if found.spec.artifact.digest != status.candidate_digest:
            return f"{found.metadata.name} is wanted now"
        if found.metadata.deletion_timestamp is not None:
            return f"ModelVersion {found.metadata.name} is being deleted"
        if (against := consent.against(found)) is not None:
            return against.message
    expected = {status.stable_digest, *([status.candidate_digest] if status.promoted else [])}
    if active is None or active.digest not in expected:
        return "another version has the requests"
    return None


def _has_way_back(
    model: ServedModel,
    status: RolloutStatus,
    active: RoutedVersion | None,
    resident: RoutedVersion | None,
    around: Surroundings,
) -> bool:
    """Whether the stable version has requests now, or could have them: at once, but for a base that had to go."""
    if active is not None and active.digest == status.stable_digest:
        return True
    if status.replaced is not None:
        return replacement.may_return(model, status, around.versions, around.consent)
    is_stable = resident is not None and resident.digest == status.stable_digest
    return is_stable and resident is not None and is_at_hand(resident, around.engines)


def _served(
    model: str, table: RoutingTable | None
) -> tuple[RoutedVersion | None, RoutedVersion | None]:
    """What has the requests by the table of before, and what is loaded beside it."""
    versions = next((m.versions for m in (table.models if table else []) if m.name == model), [])
    active = next((v for v in versions if v.weight > 0), None)
    others = (v for v in versions if v is not active)
    # An adapter over another base comes and goes with that base alone.
    return active, next((v for v in others if active is None or v.base == active.base), None)


def _course(wished: Rollout, status: RolloutStatus) -> Course:
    return Course(
        status.stable_digest,
        status.candidate_digest,
        rollout.weight(wished, status),
        status.salt,
    )
