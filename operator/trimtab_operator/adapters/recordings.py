"""What a Prometheus remembers of hours and days, asked for in pieces: one answer would be too large."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from trimtab_operator.adapters.prometheus import Prometheus
from trimtab_operator.domain.series import RawSeries

PIECE: Final = timedelta(minutes=30)


async def recorded(
    server: Prometheus, selector: str, start: datetime, end: datetime
) -> tuple[RawSeries, ...]:
    """Raw samples, each once: a piece ends where the next begins."""
    found = _Joined()
    while start < end:
        until = min(start + PIECE, end)
        found.add(await server.samples(selector, start, until))
        start = until
    return found.series


async def recorded_values(
    server: Prometheus, query: str, start: datetime, end: datetime, step: timedelta
) -> tuple[RawSeries, ...]:
    """What an expression gave, step by step."""
    found = _Joined()
    while start <= end:
        until = min(start + PIECE, end)
        found.add(await server.values(query, start, until, step))
        # The next piece begins at its own step, not at the end of this one.
        start += ((until - start) // step + 1) * step
    return found.series


class _Joined:
    """Series by their labels, piece after piece."""

    def __init__(self) -> None:
        self._found: dict[tuple[tuple[str, str], ...], list[RawSeries]] = {}

    def add(self, piece: Sequence[RawSeries]) -> None:
        for one in piece:
            self._found.setdefault(tuple(sorted(one.labels.items())), []).append(one)

    @property
    def series(self) -> tuple[RawSeries, ...]:
        return tuple(_one(parts) for parts in self._found.values())


def _one(parts: list[RawSeries]) -> RawSeries:
    samples = list(parts[0].samples)
    for part in parts[1:]:
        last = samples[-1].time if samples else 0.0
        samples += (s for s in part.samples if s.time > last)
    return RawSeries(parts[0].labels, tuple(samples))
