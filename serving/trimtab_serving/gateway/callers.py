"""What each key asks for, beside its own past: who is unusual, and who has to wait.

A key is unusual while it asks for far more in a minute than it ever did on the days before, or while
too many of its answers decline. What is unusual is no part of its past: a flood that goes on makes a
day's busiest minute at most twice as busy as the one before it. All of it is in memory and bounded, so
that a gateway that begins anew learns for an hour before it finds anything.

`admit` runs on the path of requests: one look-up and a little arithmetic.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from trimtab_serving import openai
from trimtab_serving.gateway.metrics import CallerMetrics
from trimtab_serving.keys import Caller
from trimtab_serving.settings import AbuseSettings

MINUTE: Final = 60.0
# A key is learned from for so long before it is judged, and then by whole days.
LEARNING_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 86_400.0
DAYS_KEPT: Final = 7
# Fewer requests in a minute harm nobody, whatever the key did before.
FEWEST_REQUESTS: Final = 60
FEWEST_ANSWERS: Final = 20
ANSWERS_SECONDS: Final = 600.0
# Who was unusual stays so for a while: what comes and goes by the minute can be neither told nor slowed.
HELD_SECONDS: Final = 600.0
MOST_KEYS: Final = 4096
MOST_TOLD: Final = 32
_GROWTH: Final = 2
# Why a request has to wait.
LIMIT: Final = "limit"
SLOWED: Final = "unusual"


class Unusual(StrEnum):
    """In what way."""

    REQUESTS = "Requests"
    REFUSALS = "Refusals"


@dataclass(slots=True)
class _Use:
    """One key's present minute, its past, its bucket, and until when it is unusual."""

    id: str
    period_end: float
    at: float
    left: float
    minute: int = -1
    in_minute: int = 0
    busiest: int = 0
    past: list[int] = field(default_factory=list)
    most: float = math.inf
    answers: float = 0.0
    declined: float = 0.0
    answered_at: float = 0.0
    until: dict[Unusual, float] = field(default_factory=dict)

    def is_unusual(self, now: float) -> bool:
        return any(now < until for until in self.until.values())


class Callers:
    """All keys of a service, as one gateway knows them."""

    def __init__(
        self, settings: AbuseSettings, metrics: CallerMetrics, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._uses: dict[bytes, _Use] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def admit(self, caller: Caller) -> None:
        """Count a request; raises ApiError where the key has to wait."""
        now = self._clock()
        use = self._uses.get(caller.name)
        if use is None:
            use = self._known(caller, now)
        minute = int(now // MINUTE)
        if minute != use.minute:
            self._turn(use, minute, now)
        use.in_minute += 1
        if use.in_minute > use.most:
            use.until[Unusual.REQUESTS] = now + HELD_SECONDS
        is_slowed = bool(use.until) and use.is_unusual(now)
        self._take(use, now, is_slowed=is_slowed)

    def answered(self, name: bytes, *, is_declined: bool) -> None:
        """Count an answer that was looked at, and whether it declines."""
        use = self._uses.get(name)
        if use is None:
            return
        now = self._clock()
        fading = math.exp((use.answered_at - now) / ANSWERS_SECONDS)
        use.answers = use.answers * fading + 1
        use.declined = use.declined * fading + is_declined
        use.answered_at = now
        too_many = use.declined * 100 >= use.answers * self._settings.refused_percent
        if use.answers >= FEWEST_ANSWERS and too_many:
            use.until[Unusual.REFUSALS] = now + HELD_SECONDS

    def unusual(self) -> Iterator[tuple[str, Unusual]]:
        """The keys that are unusual now."""
        now = self._clock()
        for use in self._uses.values():
            for how, until in use.until.items():
                if now < until:
                    yield use.id, how

    def tell(self) -> None:
        """Bring the series up to date; called before they are read."""
        found = sorted(self.unusual())
        self._metrics.tell(found[:MOST_TOLD])

    def _known(self, caller: Caller, now: float) -> _Use:
        if len(self._uses) >= MOST_KEYS:  # keys that are no more, or hardly used
            newest = sorted(self._uses.items(), key=lambda item: item[1].at)
            self._uses = dict(newest[len(newest) // 2 :])
        settings = self._settings
        use = _Use(caller.id, now + LEARNING_SECONDS, now, float(settings.requests_per_minute or 0))
        self._uses[caller.name] = use
        return use

    def _turn(self, use: _Use, minute: int, now: float) -> None:
        """A minute is over: it belongs to the past, as far as it was usual."""
        counted = use.in_minute
        if use.past:
            counted = min(counted, _GROWTH * max(*use.past, FEWEST_REQUESTS))
        use.busiest = max(use.busiest, counted)
        use.minute, use.in_minute = minute, 0
        if now < use.period_end:
            return
        days = 1 + int((now - use.period_end) // DAY_SECONDS)
        use.past = [*use.past, use.busiest, *[0] * min(days - 1, DAYS_KEPT)][-DAYS_KEPT:]
        use.busiest = 0
        use.period_end += days * DAY_SECONDS
        use.most = max(self._settings.times_busiest_minute * max(use.past), FEWEST_REQUESTS)

    def _take(self, use: _Use, now: float, *, is_slowed: bool) -> None:
        """One request out of the key's bucket, which holds a minute's worth."""
        settings = self._settings
        rate, reason = settings.requests_per_minute, LIMIT
        slow = settings.throttled_per_minute if is_slowed else None
        if slow is not None and (rate is None or slow < rate):
            rate, reason = slow, SLOWED
        if rate is None:
            use.at, use.left = now, math.inf
            return
        use.left = min(float(rate), use.left + (now - use.at) * rate / MINUTE)
        use.at = now
        if use.left < 1:
            self._metrics.throttled(reason)
            raise openai.too_many_requests(rate, math.ceil((1 - use.left) * MINUTE / rate))
        use.left -= 1
