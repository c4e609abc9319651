"""Conditions: one observation each, with one owner, in the form of metav1.Condition."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from trimtab_api.v1alpha1.common import Condition, ConditionStatus

TRUE: Final = ConditionStatus.TRUE
FALSE: Final = ConditionStatus.FALSE
UNKNOWN: Final = ConditionStatus.UNKNOWN
MESSAGE_LENGTH: Final = 2048


def timestamp(moment: datetime) -> str:
    """RFC 3339 in whole seconds of UTC, as the API server writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: str | None) -> datetime | None:
    """The reverse of `timestamp`; None for what is absent or no time."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def condition(
    kind: str,
    status: ConditionStatus | bool | None,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> Condition:
    """A condition as observed now; True, False and None stand for the three statuses."""
    if not isinstance(status, ConditionStatus):
        status = UNKNOWN if status is None else TRUE if status else FALSE
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:MESSAGE_LENGTH],
        last_transition_time=timestamp(now),
        observed_generation=generation,
    )


def with_condition(old: Sequence[Condition], new: Condition) -> list[Condition]:
    """Replace in place by type; the transition time moves only on a flip."""
    return with_conditions(old, (new,))


def with_conditions(old: Sequence[Condition], new: Iterable[Condition]) -> list[Condition]:
    """Several replacements at once."""
    by_type = {c.type: c for c in old}
    for each in new:
        before = by_type.get(each.type)
        if before and before.status == each.status:
            kept = {"last_transition_time": before.last_transition_time}
            by_type[each.type] = each.model_copy(update=kept)
        else:
            by_type[each.type] = each
    return list(by_type.values())


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, if it was ever observed."""
    return next((c for c in conditions if c.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether it holds; what was not observed does not hold."""
    found = find(conditions, kind)
    return found is not None and found.status == TRUE


def is_false(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether it is known not to hold; what was not observed is not known."""
    found = find(conditions, kind)
    return found is not None and found.status == FALSE
