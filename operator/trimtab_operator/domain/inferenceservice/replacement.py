"""After the present engines have made room for another base: the room is not given back, and the way back is the same.

    room made --> new engines answer --> guarded --> over: the former base is forgotten
                                            |
                                            +--> taken back: they make room for the former base again

What must never happen: engines of both bases that wait for the room of one; a base that was taken
back and makes room for itself a second time.
"""

from datetime import datetime

from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.pools import BaseChange, RoomVerdict
from trimtab_api.v1alpha1.rollout import BaseRollout, RolloutStatus
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.inferenceservice import companions, rollout
from trimtab_operator.domain.inferenceservice.companions import Served
from trimtab_operator.domain.inferenceservice.consent import Consent
from trimtab_operator.domain.inferenceservice.course import Change, Moving, Record
from trimtab_operator.domain.inferenceservice.pools import base_entry
from trimtab_operator.domain.inferenceservice.routes import Base
from trimtab_operator.domain.inferenceservice.versions import Fit, Versions, misfit


def guarded(
    service: InferenceService,
    ruling: BaseChange | None,
    change: Change | None,
    present: Base,
    table: RoutingTable,
    record: Record,
    now: datetime,
) -> RolloutStatus | None:
    """The rollout of a base that has just got all requests in the room that was made for it."""
    wished = service.spec.base_model.rollout
    if wished is None or not wished.rollback_window_seconds or record.rollout is not None:
        return None
    if ruling is None or ruling.verdict is not RoomVerdict.REPLACE or change is None:
        return None
    last = record.last_rollback
    if last is not None and last.to_digest == ruling.digest and last.from_digest == present.digest:
        return None  # it is known to be good: it was gone back to
    entry = base_entry(service, table)
    versions = entry.versions if entry else []
    if [v.digest for v in versions] != [ruling.digest, present.digest]:
        return None
    made_room = moment_of(ruling.since) or now
    together = companions.told(change.companions)
    candidate, stable = versions
    return rollout.replaced(service.metadata.uid, stable, candidate, made_room, now, together)


def may_return(
    model: ServedModel, status: RolloutStatus, versions: Versions, consent: Consent
) -> bool:
    """Whether engines of the former base may be started again, which takes the service down."""
    stable = versions.get(status.stable)
    is_allowed = isinstance(model.rollout, BaseRollout) and model.rollout.allow_downtime
    if not is_allowed or stable is None or stable.spec.artifact.digest != status.stable_digest:
        return False
    fit = Fit(status.stable_digest, 0, consent, is_base=True, is_way_back=True)
    return misfit(stable, fit) is None


def taken_back(
    service: InferenceService,
    present: Base,
    target: ModelVersion | None,
    record: Record,
    versions: Versions,
) -> ModelVersion | None:
    """The former base, while it is not there again in the place of one that was taken back."""
    told, last = service.status.base_change, record.last_rollback
    if told is None or last is None or record.rollout is not None:
        return None
    if last.from_digest != present.digest or told.digest not in (last.from_digest, last.to_digest):
        return None
    if target is not None and target.spec.artifact.digest != present.digest:
        return None  # somebody has named another one since
    return next((v for v in versions.values() if v.spec.artifact.digest == last.to_digest), None)


def returning(served: Served, former: str) -> tuple[Moving, ...]:
    """The adapters that go back with the former base: those that the table still has of it."""
    found = []
    for name, versions in served.items():
        now = next((v for v in versions if v.weight > 0), None)
        then = next((v for v in versions if v.base == former), None)
        if now is not None and then is not None and now is not then:
            found.append(Moving(name, now, then))
    return tuple(found)


def remembered(service: InferenceService, table: RoutingTable, record: Record) -> BaseChange | None:
    """Room that was made for what answers, while the table still has what it was made by.

    That one is a way back, or has just lost its requests; engines of it would only wait for room.
    """
    told, entry = service.status.base_change, base_entry(service, table)
    versions: list[RoutedVersion] = entry.versions if entry else []
    if told is None or told.verdict is not RoomVerdict.REPLACE or len(versions) < 2:
        return None
    answers, other = versions[0], versions[1]
    last, status = record.last_rollback, record.rollout
    former = {status.stable_digest} if status else set()
    former |= {last.from_digest, last.to_digest} if last else set()
    if answers.digest != told.digest or other.digest not in former:
        return None
    message = f"engines of {other.version} have made room for {told.version}, which answers"
    return told.model_copy(update={"message": message})
