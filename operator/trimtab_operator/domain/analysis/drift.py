"""Has the traffic moved? Several signals of one version, each a count by category.

What is counted are requests that open a conversation, a few per user and minute: turns of one
conversation are about one thing, and no detector survives taking them for independent.

Training data is not traffic, so the first requests are learned from and not judged: the profile of
the version is a weak guess, and the anchor is what came while the version was still proving itself.
The two detectors of a signal (`signals`) share each new stake, and several signals are averaged by
weights that are 1 together, so that one threshold holds for all: the mean number of openings until
a false alarm is at least that threshold where the shares are within the tolerance. The baseline is
learned, so this is a mean over what the baseline may have been (the Dirichlet posterior), not a
promise for each.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import FiniteFloat, PositiveFloat, TypeAdapter, ValidationError

from trimtab_operator.domain.analysis import signals as signals_of
from trimtab_operator.domain.analysis.counters import Cursor, Sample, Series, gained
from trimtab_operator.domain.analysis.edetector import log_sum
from trimtab_operator.domain.analysis.signals import ANCHOR, SignalState

# The mean number of openings between false alarms.
THRESHOLD: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """One series of one gateway: the openings of one category of one signal."""

    instance: str
    signal: str
    category: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Tally:
    """Openings by category in the few seconds that end at `time`, by signal."""

    time: float
    signals: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class DriftState:
    """All signals of one version, and whether there is drift."""

    signals: Mapping[str, SignalState]
    weights: Mapping[str, PositiveFloat]
    is_drifting: bool = False
    # Until when the evidence was low: the change is thought to have come after it.
    quiet_until: FiniteFloat | None = None
    judged_until: FiniteFloat | None = None

    def __post_init__(self) -> None:
        if not self.signals or set(self.weights) != set(self.signals):
            raise ValueError("each signal, of at least one, has a weight")
        if min(self.weights.values()) <= 0 or sum(self.weights.values()) > 1 + 1e-9:
            raise ValueError("weights are above 0 and are 1 together")

    @property
    def log_evidence(self) -> float:
        """The weighted mean over the signals, as a logarithm; minus infinity before the first."""
        logs = (s.log_evidence + math.log(self.weights[n]) for n, s in self.signals.items())
        return log_sum(*logs)

    @property
    def references(self) -> dict[str, int]:
        """How many openings each signal learns from."""
        return {name: signal.reference for name, signal in self.signals.items()}

    @property
    def leader(self) -> str | None:
        """The signal that adds most to the evidence."""
        known = {
            name: signal.log_evidence + math.log(self.weights[name])
            for name, signal in self.signals.items()
            if signal.log_evidence > -math.inf
        }
        return max(known, key=lambda name: known[name], default=None)


def begun(
    profiles: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, float] | None = None,
    reference: int = ANCHOR,
) -> DriftState:
    """Nothing seen yet of these signals; without weights all weigh the same.

    So many openings as `reference` are learned from before any is judged.
    """
    return beginning_with(
        {n: SignalState.begun(p, reference) for n, p in profiles.items()}, weights
    )


def beginning_with(
    signals: Mapping[str, SignalState], weights: Mapping[str, float] | None = None
) -> DriftState:
    """These signals as they are; without weights all weigh the same."""
    weights = weights or dict.fromkeys(signals, 1 / max(len(signals), 1))
    return DriftState(dict(signals), dict(weights))


def fold(state: DriftState, tallies: Iterable[Tally], threshold: float = THRESHOLD) -> DriftState:
    """The state after these tallies, in the order of time, each of which must be folded once.

    Drift is called at the threshold, and taken back only when the evidence has fallen to its square
    root: what hovers about the threshold must not flap.
    """
    for tally in tallies:
        signals = {
            name: signals_of.fold(signal, tally.time, tally.signals.get(name, {}))
            for name, signal in state.signals.items()
        }
        state = replace(state, signals=signals)
        if not any(signal.is_anchored for signal in signals.values()):
            continue
        value, limit = state.log_evidence, math.log(threshold)
        is_quiet = value < limit / 2
        state = replace(
            state,
            is_drifting=value >= limit or (state.is_drifting and not is_quiet),
            quiet_until=tally.time if is_quiet else state.quiet_until,
            judged_until=tally.time,
        )
    return state


def tallied(
    cursor: Cursor, buckets: Sequence[Bucket], until: float
) -> tuple[Cursor, tuple[Tally, ...]]:
    """The tallies that are over by `until`, and the cursor from which the next call goes on."""
    series = [Series(b.instance, f"{b.signal}/{b.category}", b.samples) for b in buckets]
    cursor, gains = gained(cursor, series, until)
    cells: dict[float, dict[str, dict[str, int]]] = {}
    for gain in gains:
        bucket = buckets[gain.of]
        counts = cells.setdefault(gain.time, {}).setdefault(bucket.signal, {})
        counts[bucket.category] = counts.get(bucket.category, 0) + gain.amount
    return cursor, tuple(Tally(time, cells[time]) for time in sorted(cells))


@dataclass(frozen=True)
class Watch:
    """What is kept of a version: how far its counters were read, and the state."""

    version: str
    state: DriftState
    cursor: Cursor = field(default_factory=Cursor)
    form: Literal[1] = 1  # another form is not read: better to begin anew than to misread

    @classmethod
    def resumed(cls, stored: str | None, version: str, beginning: DriftState) -> "Watch":
        """What was stored, if it is of this version and these signals and whole; else a beginning."""
        nothing = Watch(version, beginning)
        try:
            found = _DOCUMENT.validate_json(stored or "")
        except ValidationError:
            return nothing  # none, cut short or edited: never drift
        is_same = (
            found.version == version
            and found.state.weights == beginning.weights
            and found.state.references == beginning.references
        )
        return found if is_same else nothing

    def stored(self) -> str:
        """The document; equal states, equal text."""
        return _DOCUMENT.dump_json(self).decode()


_DOCUMENT: Final = TypeAdapter(Watch)


def watched(
    watch: Watch, buckets: Sequence[Bucket], until: float, threshold: float = THRESHOLD
) -> Watch:
    """The watch after these samples. Samples that were given before change nothing."""
    cursor, tallies = tallied(watch.cursor, buckets, until)
    return replace(watch, cursor=cursor, state=fold(watch.state, tallies, threshold))
