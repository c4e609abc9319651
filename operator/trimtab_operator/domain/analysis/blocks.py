"""Blocks of counts: both versions over the same few seconds, each request in exactly one of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trimtab_operator.domain.analysis.counters import Cursor, Sample, Series, gained


class Arm(StrEnum):
    """The two versions that are compared."""

    STABLE = "Stable"
    CANDIDATE = "Candidate"


@dataclass(frozen=True, slots=True)
class Counts:
    """So many units, and how many of them had the event."""

    n: int = 0
    events: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.n:
            raise ValueError(f"{self.events} events of {self.n} units cannot be")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.n + other.n, self.events + other.events)

    @property
    def rate(self) -> float | None:
        """The share that had the event; None where nothing was counted."""
        return self.events / self.n if self.n else None


NOTHING: Final = Counts()


@dataclass(frozen=True, slots=True)
class Block:
    """Both versions over the same few seconds, which end at `time`."""

    time: float
    stable: Counts = NOTHING
    candidate: Counts = NOTHING

    @property
    def is_comparison(self) -> bool:
        """Whether both versions were at work; one alone compares nothing."""
        return self.stable.n > 0 and self.candidate.n > 0


@dataclass(frozen=True, slots=True)
class Counter:
    """One series of one gateway: its raw samples, and what each increment means.

    Requests by code, say, add (1, 0) for 200 and (1, 1) for 500; refusals add (0, 1) beside all
    requests with (1, 0); a histogram's `_count` adds (1, 1) and the bucket of what was quick (0, -1).
    """

    instance: str
    name: str
    arm: Arm
    samples: Sequence[Sample]
    adds_units: int = 1
    adds_events: int = 0

    @property
    def series(self) -> Series:
        # By one letter: it is kept for every counter of every gateway.
        return Series(self.instance, f"{self.arm[0]}/{self.name}", self.samples)


def counted(
    cursor: Cursor, counters: Iterable[Counter], until: float, breaks: Sequence[float] = ()
) -> tuple[Cursor, tuple[Block, ...]]:
    """The blocks that are over by `until`, and the cursor from which the next call goes on."""
    given = list(counters)
    cursor, gains = gained(cursor, [counter.series for counter in given], until, breaks)
    cells: dict[float, dict[Arm, list[int]]] = {}
    for gain in gains:
        counter = given[gain.of]
        sums = cells.setdefault(gain.time, {}).setdefault(counter.arm, [0, 0])
        sums[0] += gain.amount * counter.adds_units
        sums[1] += gain.amount * counter.adds_events
    return cursor, tuple(_block(time, cells[time]) for time in sorted(cells))


def _block(time: float, arms: Mapping[Arm, Sequence[int]]) -> Block:
    stable, candidate = (_counts(arms.get(arm, (0, 0))) for arm in Arm)
    return Block(time, stable, candidate)


def _counts(sums: Sequence[int]) -> Counts:
    """What is seen off the request's path may come a scrape later than the request: never above it."""
    n = max(sums[0], 0)
    return Counts(n, min(max(sums[1], 0), n))
