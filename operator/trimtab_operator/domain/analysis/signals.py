"""What is remembered of one signal, and how a block of openings changes it.

Two detectors watch each signal (`edetector`). One has a tolerance, a point or three tenths of a
share, so that day and night do not alarm it, and goes on learning. The other has none and compares
with the same hour of the days before; it sees smaller changes and absorbs slow ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from pydantic import FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt

from trimtab_operator.domain.analysis import edetector
from trimtab_operator.domain.analysis.edetector import STAKES, log_sum

# So many openings are learned from before any is judged, unless told otherwise.
ANCHOR: Final = 2000
# What cannot be told apart or was not thought of beforehand, such as a language nobody spoke.
OTHER: Final = "other"
# What is new is mostly near nothing that is known, so OTHER has so much of the stake.
_PART_OF_OTHER: Final = 0.5
_PROFILE_WEIGHT: Final = 50.0
_TOLERANCE_POINTS: Final = 0.01
_TOLERANCE_SHARE: Final = 0.3
# An hour counts as known once so many openings of it were seen on earlier days.
_HOUR_KNOWN: Final = 500
_HOUR_PRIOR: Final = 200.0
_RECENT: Final = 500.0
_HOUR_SECONDS: Final = 3600


@dataclass(frozen=True)
class Moved:
    """One category's share in the reference, and of late."""

    category: str
    before: float
    now: float


@dataclass(frozen=True)
class SignalState:
    """What is remembered of one signal. All tuples go by `categories`, the last of which is OTHER."""

    categories: tuple[str, ...]
    profile: tuple[FiniteFloat, ...]
    anchor: tuple[NonNegativeInt, ...]
    seen: tuple[NonNegativeInt, ...]
    recent: tuple[FiniteFloat, ...]
    bets: tuple[FiniteFloat | None, ...]
    hourly_bets: tuple[FiniteFloat | None, ...]
    # By hour of the day, of the days before; and of the hour that is running.
    hours: Mapping[int, tuple[NonNegativeInt, ...]]
    hour: int
    this_hour: tuple[NonNegativeInt, ...]
    # How many openings the anchor is made of.
    reference: PositiveInt = ANCHOR
    # What a rise is news of; without any, of every category.
    rising: tuple[str, ...] = ()
    # So many openings the profile counts for.
    profile_weight: PositiveFloat = _PROFILE_WEIGHT

    def __post_init__(self) -> None:
        rows = (self.profile, self.anchor, self.seen, self.recent, self.this_hour)
        if any(len(row) != len(self.categories) for row in (*rows, *self.hours.values())):
            raise ValueError("the counts do not go with the categories")
        if any(len(b) != len(STAKES) * len(self.categories) for b in (self.bets, self.hourly_bets)):
            raise ValueError("the bets do not go with the categories")
        if self.categories[-1:] != (OTHER,):
            raise ValueError(f"the last category is {OTHER}")
        if not set(self.rising) <= set(self.categories):
            raise ValueError("what is to rise is no category")

    @classmethod
    def begun(
        cls,
        profile: Mapping[str, float],
        reference: int = ANCHOR,
        rising: Sequence[str] = (),
        profile_weight: float = _PROFILE_WEIGHT,
    ) -> Self:
        """Nothing seen yet; the profile's counts or shares are taken as shares."""
        names = (*(name for name in profile if name != OTHER), OTHER)
        counts = [max(profile.get(name, 0.0), 0.0) + 0.5 for name in names]
        none = (0,) * len(names)
        return cls(
            categories=names,
            profile=tuple(count / sum(counts) for count in counts),
            anchor=none,
            seen=none,
            recent=(0.0,) * len(names),
            bets=edetector.none_yet(len(names)),
            hourly_bets=edetector.none_yet(len(names)),
            hours={},
            hour=-1,
            this_hour=none,
            reference=reference,
            rising=tuple(rising),
            profile_weight=profile_weight,
        )

    @property
    def is_anchored(self) -> bool:
        """Whether enough was seen to judge by."""
        return sum(self.anchor) >= self.reference

    @property
    def log_evidence(self) -> float:
        """The sum of both detectors, as a logarithm."""
        return log_sum(*self.bets, *self.hourly_bets)

    @property
    def baseline(self) -> tuple[float, ...]:
        """The shares that the version is held against: the anchor's, with a little of the profile."""
        rows = zip(self.profile, self.anchor, strict=True)
        counts = [self.profile_weight * p + a for p, a in rows]
        return _shares(counts)

    @property
    def psi(self) -> float:
        """The population stability index of the latest openings: a size for people, not the test."""
        total, k = sum(self.recent), len(self.categories)
        now = [(count + 0.5) / (total + 0.5 * k) for count in self.recent]
        pairs = zip(now, self.baseline, strict=True)
        return sum((a - b) * math.log(a / b) for a, b in pairs) if total else 0.0

    def moved(self, most: int = 5) -> tuple[Moved, ...]:
        """What has changed most, with its share in the reference and of late."""
        if not sum(self.recent):
            return ()
        rows = zip(self.categories, self.baseline, _shares(self.recent), strict=True)
        changes = [Moved(name, before, now) for name, before, now in rows]
        return tuple(sorted(changes, key=lambda m: -abs(m.now - m.before))[:most])


def fold(state: SignalState, time: float, found: Mapping[str, int]) -> SignalState:
    """The state after the openings of one block; None of them may have been folded before."""
    counts = _by_category(state.categories, found)
    n = sum(counts)
    if not n:
        return state
    state = _at_hour(state, math.floor(time / _HOUR_SECONDS))
    judged = _judged(state, counts) if state.is_anchored else {"anchor": _sum(state.anchor, counts)}
    fading = math.exp(-n / _RECENT)
    recent = (round(r * fading + k, 6) for r, k in zip(state.recent, counts, strict=True))
    return replace(state, recent=tuple(recent), this_hour=_sum(state.this_hour, counts), **judged)


def _judged(state: SignalState, counts: tuple[int, ...]) -> dict[str, Any]:
    """Both detectors share the new stake, so that their sum is worth what one would be."""
    edges = _of_the_hour(state)
    parts = _parts(state, 0.5 if edges else 1.0)
    after = {
        "bets": edetector.fold(state.bets, counts, _bet_on(state, _tolerant(state)), parts),
        "seen": _sum(state.seen, counts),
    }
    if edges:
        of_the_hour = _bet_on(state, edges)
        after["hourly_bets"] = edetector.fold(state.hourly_bets, counts, of_the_hour, parts)
    return after


def _bet_on(state: SignalState, edges: Sequence[float]) -> list[float | None]:
    """The edges of the categories whose rise is news."""
    if not state.rising:
        return list(edges)
    pairs = zip(state.categories, edges, strict=True)
    return [edge if name in state.rising else None for name, edge in pairs]


def _parts(state: SignalState, whole: float) -> list[float]:
    """How much of the new stake each category has: OTHER its part, and the rest evenly."""
    names = state.rising or state.categories
    if OTHER not in names or len(names) == 1:
        return [whole / len(names)] * len(state.categories)
    even = (1 - _PART_OF_OTHER) / (len(names) - 1)
    return [whole * (_PART_OF_OTHER if name == OTHER else even) for name in state.categories]


def _tolerant(state: SignalState) -> list[float]:
    """The baseline of all that was seen, and above it what is let pass."""
    rows = zip(state.profile, state.anchor, state.seen, strict=True)
    shares = _shares([state.profile_weight * p + a + s + 0.5 for p, a, s in rows])
    return [_below_one(p + max(_TOLERANCE_POINTS, _TOLERANCE_SHARE * p)) for p in shares]


def _of_the_hour(state: SignalState) -> list[float] | None:
    """The baseline of the same hour of the days before; None while too little is known of it."""
    before = state.hours.get(state.hour % 24, ())
    if sum(before) < _HOUR_KNOWN:
        return None
    rows = zip(before, state.this_hour, state.baseline, strict=True)
    return [_below_one(p) for p in _shares([b + t + _HOUR_PRIOR * r + 0.01 for b, t, r in rows])]


def _at_hour(state: SignalState, hour: int) -> SignalState:
    """When an hour is over, what was seen in it joins the days before."""
    if hour <= state.hour:  # the same; or a clock that went back
        return state
    hours = dict(state.hours)
    if state.hour >= 0:
        of_day = state.hour % 24
        hours[of_day] = _sum(hours.get(of_day, (0,) * len(state.categories)), state.this_hour)
    return replace(state, hours=hours, hour=hour, this_hour=(0,) * len(state.categories))


def _by_category(categories: Sequence[str], found: Mapping[str, int]) -> tuple[int, ...]:
    known = {name: max(found.get(name, 0), 0) for name in categories}
    known[OTHER] += sum(max(k, 0) for name, k in found.items() if name not in known)
    return tuple(known.values())


def _sum(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _shares(counts: Sequence[float]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / total for count in counts)


def _below_one(edge: float) -> float:
    return min(max(edge, 1e-6), 1 - 1e-6)
