"""What an engine should hold and what is to be done about it: pure.

One slot per artifact:

    Pending -> Loading -> Loaded -> Leaving -> (gone)
                  |          ^         |
                  v          +---------+      wanted again before it was unloaded
                Failed -> Loading             after a pause that grows

Loading ends in Loaded only through a check of what the engine really answers. Leaving lasts until
no request uses the adapter and gateways have had time to see the table that no longer has it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 60.0
# Gateways watch the same table; one that is a moment behind still gets its answer.
LEAVE_SECONDS: Final = 2.0


class SlotState(StrEnum):
    """Where an artifact stands in this engine; all but Leaving are told to the outside."""

    PENDING = "Pending"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "Failed"
    LEAVING = "Leaving"


@dataclass(frozen=True, slots=True)
class Slot:
    """One artifact in this engine."""

    state: SlotState = SlotState.PENDING
    engine_name: str | None = None
    reason: str | None = None
    message: str | None = None
    failures: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do now, and when to look again at the latest."""

    begin: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    unload: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    again_in_seconds: float | None = None


def pause_seconds(failures: int) -> float:
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (max(failures, 1) - 1))


def next_steps(
    wanted: Collection[str],
    slots: Mapping[str, Slot],
    now: float,
    *,
    engine_ready: bool,
    is_used: Callable[[str], bool],
) -> Steps:
    """The difference between the table and the engine, as far as it can be worked on now."""
    steps = Steps()
    waits: list[float] = []
    for digest in wanted:
        slot = slots.get(digest, Slot())
        if slot.state is SlotState.LEAVING:
            steps.keep.append(digest)
        elif slot.state in (SlotState.PENDING, SlotState.FAILED) and engine_ready:
            if slot.not_before <= now:
                steps.begin.append(digest)
            else:
                waits.append(slot.not_before - now)
    for digest, slot in slots.items():
        if digest not in wanted:
            _part_with(digest, slot, now, is_used, steps, waits)
    return Steps(
        steps.begin,
        steps.keep,
        steps.leave,
        steps.unload,
        steps.drop,
        min(waits, default=None),
    )


def _part_with(
    digest: str,
    slot: Slot,
    now: float,
    is_used: Callable[[str], bool],
    steps: Steps,
    waits: list[float],
) -> None:
    if slot.state is SlotState.LOADED:
        steps.leave.append(digest)
        waits.append(LEAVE_SECONDS)
    elif slot.state in (SlotState.PENDING, SlotState.FAILED):
        steps.drop.append(digest)
    elif slot.state is SlotState.LEAVING:
        if slot.not_before > now:
            waits.append(slot.not_before - now)
        elif slot.engine_name is None or not is_used(slot.engine_name):
            steps.unload.append(digest)
    # A slot that is loading is looked at again when its load has ended.
