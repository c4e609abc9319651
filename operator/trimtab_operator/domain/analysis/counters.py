"""From raw samples of counters to what was gained in each few seconds, once and for all.

Differences of raw values, never `increase()` or `rate()`: those extrapolate to the edges of their
window, so that windows overlap and a request counts by a fraction or twice, which no test allows for.

Time is cut into cells of the same few seconds for every gateway. What a counter has gained between
two scrapes belongs to the cell of the second; a cell is handed on once, when it is over. So the
cells follow from the samples and not from when somebody looked.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from pydantic import FiniteFloat

CELL_SECONDS: Final = 5.0
# A counter that was last seen so long before the others is forgotten; if it returns, it begins anew.
FORGOTTEN_AFTER_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a counter showed at a scrape; the time is the scrape's own, in seconds."""

    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One counter of one gateway; the name is its own among that gateway's."""

    instance: str
    name: str
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Gain:
    """What the series at this place in the list has gained in the cell that ends at `time`."""

    of: int
    time: float
    amount: int


@dataclass(frozen=True)
class Scrape:
    """What counters of a gateway showed when they were last read; most are read at one time."""

    instance: str
    time: FiniteFloat
    values: Mapping[str, FiniteFloat]


Place = tuple[str, str]
Reading = tuple[float, float]


@dataclass(frozen=True)
class Cursor:
    """How far each counter has been read. A time is written once for all counters of a scrape."""

    scrapes: tuple[Scrape, ...] = ()

    @property
    def heard(self) -> float | None:
        """When a sample was last read; None before the first."""
        return max((scrape.time for scrape in self.scrapes), default=None)

    @property
    def last(self) -> dict[Place, Reading]:
        """Time and value of each counter's last sample, by gateway and name."""
        return {
            (scrape.instance, name): (scrape.time, value)
            for scrape in self.scrapes
            for name, value in scrape.values.items()
        }

    def of_gateways(self, kept: Callable[[str], bool]) -> Self:
        """What was read of these."""
        return replace(self, scrapes=tuple(s for s in self.scrapes if kept(s.instance)))

    @classmethod
    def at(cls, last: Mapping[Place, Reading]) -> Self:
        """The cursor of these readings, less those that are long gone.

        Measured by the newest one, not by the clock: nothing is forgotten while nobody scrapes.
        """
        oldest = max((time for time, _ in last.values()), default=0.0) - FORGOTTEN_AFTER_SECONDS
        grouped: dict[tuple[str, float], dict[str, float]] = {}
        for (instance, name), (time, value) in sorted(last.items()):
            if time >= oldest:
                grouped.setdefault((instance, time), {})[name] = value
        return cls(tuple(Scrape(*of, values) for of, values in grouped.items()))


def gained(
    cursor: Cursor, series: Sequence[Series], until: float, breaks: Sequence[float] = ()
) -> tuple[Cursor, tuple[Gain, ...]]:
    """What was gained in the cells that are over by `until`, and the cursor to go on from.

    A gain between two scrapes that lie on both sides of a break (a change of the routing weight)
    belongs to neither side: with other weights and other rates in one cell, a version that merely
    had more of the bad minutes would look worse. It is left out.
    """
    closed = math.floor(until / CELL_SECONDS) * CELL_SECONDS
    usable = [_usable(one.samples, closed) for one in series]
    scrapes = _scrapes(cursor, series, usable)
    last, gains = cursor.last, list[Gain]()
    for index, (one, samples) in enumerate(zip(series, usable, strict=True)):
        if not samples:
            continue
        place = (one.instance, one.name)
        at = last.get(place) or _beginning(samples[0], scrapes[one.instance])
        for since, sample, amount in _steps(at, samples):
            if amount and not any(since < moment < sample.time for moment in breaks):
                cell = math.ceil(sample.time / CELL_SECONDS) * CELL_SECONDS
                gains.append(Gain(index, cell, amount))
        if place not in last or samples[-1].time > at[0]:
            last[place] = (samples[-1].time, samples[-1].value)
    return Cursor.at(last), tuple(gains)


def _usable(samples: Sequence[Sample], closed: float) -> list[Sample]:
    """What can be read of a counter: neither NaN nor below zero, and of cells that are over."""
    fit = [s for s in samples if math.isfinite(s.time) and math.isfinite(s.value) and s.value >= 0]
    return sorted((s for s in fit if s.time <= closed), key=lambda s: s.time)


def _scrapes(
    cursor: Cursor, series: Sequence[Series], usable: Sequence[Sequence[Sample]]
) -> dict[str, list[float]]:
    """When each gateway was scraped, as any of its counters shows."""
    found: dict[str, set[float]] = {}
    for scrape in cursor.scrapes:
        found.setdefault(scrape.instance, set()).add(scrape.time)
    for one, samples in zip(series, usable, strict=True):
        found.setdefault(one.instance, set()).update(s.time for s in samples)
    return {instance: sorted(times) for instance, times in found.items()}


def _beginning(first: Sample, scrapes: Sequence[float]) -> Reading:
    """From where a counter is read that was not read before.

    A gateway that was scraped without it had counted nothing of the kind: the first error makes its
    series, and it must not be lost. Of a gateway that is itself new nobody knows since when it has
    been counting, so its first sample is where it begins.
    """
    before = bisect_left(scrapes, first.time)
    return (scrapes[before - 1], 0.0) if before else (first.time, first.value)


def _steps(at: Reading, samples: Sequence[Sample]) -> Iterator[tuple[float, Sample, int]]:
    """What was gained up to each new sample. A counter that fell has begun again at zero."""
    time, value = at
    for sample in samples:
        if sample.time <= time:
            continue  # read before; or a clock that went back, which must not count twice
        gain = sample.value - value if sample.value >= value else sample.value
        yield time, sample, round(gain)
        time, value = sample.time, sample.value
