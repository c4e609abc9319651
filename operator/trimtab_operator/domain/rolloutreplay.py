"""What would have happened when: a rollout's policy over recorded counters, look by look.

The very function that turns a live rollout is called with the times of the recording. It cannot send
requests elsewhere than they went, so the candidate's share is the recording's, whatever the step says.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_api.v1alpha1.rollout import (
    MetricEvidence,
    RollbackStatus,
    Rollout,
    RolloutStatus,
    RolloutVerdict,
)
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.inferenceservice import looks, measures, rollout
from trimtab_operator.domain.inferenceservice.courses import Circumstances, one_turn
from trimtab_operator.domain.inferenceservice.looks import Heard
from trimtab_operator.domain.inferenceservice.notes import Notes, notes_of
from trimtab_operator.domain.inferenceservice.steering import Steering
from trimtab_operator.domain.series import RawSeries

# A query's value counts for so long after it was recorded, as Prometheus has it.
VALUE_LASTS: Final = timedelta(minutes=5)
# Versions that are first seen so soon after one another came together, as far as scrapes tell.
_TOGETHER: Final = 30.0
_SCRAPE_AT_MOST: Final = 120.0
_NOT_RECORDED: Final = "it is not in the recording"


@dataclass(frozen=True)
class Pair:
    """Two versions of a model, and when the later one had its first requests."""

    stable: str
    candidate: str
    began: datetime


@dataclass(frozen=True)
class Look:
    """What one look would have said."""

    time: datetime
    step: int
    promoted: bool
    verdict: RolloutVerdict
    reason: str
    message: str
    metrics: tuple[MetricEvidence, ...]


@dataclass(frozen=True)
class Replay:
    """All looks, and how it would have ended."""

    model: str
    pair: Pair
    policy: Rollout
    looks: tuple[Look, ...] = ()
    rollback: RollbackStatus | None = None
    # What was left when the recording ended; None where it was over before.
    left: RolloutStatus | None = None

    @property
    def changes(self) -> tuple[Look, ...]:
        """The looks at which something else would have been said than before."""
        before = (None, *(_said(look) for look in self.looks))
        return tuple(
            look for look, said in zip(self.looks, before, strict=False) if _said(look) != said
        )

    @property
    def promoted(self) -> Look | None:
        """The look that gave the candidate all requests."""
        return next((look for look in self.looks if look.promoted), None)


@dataclass(frozen=True)
class Recording:
    """Series that can be asked for any stretch of time."""

    series: Sequence[RawSeries]
    values: Mapping[str, RawSeries] = field(default_factory=dict)

    def window(self, start: datetime, end: datetime) -> tuple[RawSeries, ...]:
        """As a server answers: both ends belong to it, and a series without samples is none."""
        cut = (_cut(one, start.timestamp(), end.timestamp()) for one in self.series)
        return tuple(one for one in cut if one.samples)

    def value(self, query: str, at: datetime) -> float | None:
        """What a query gave last."""
        found = _cut(self.values[query], (at - VALUE_LASTS).timestamp(), at.timestamp()).samples
        return found[-1].value if found else None

    @property
    def end(self) -> datetime | None:
        """The last sample's time."""
        last = max((one.samples[-1].time for one in self.series if one.samples), default=None)
        return None if last is None else datetime.fromtimestamp(last, UTC)


class Unclear(ValueError):
    """Which version is the candidate of which cannot be told from the recording."""


def pairs(series: Sequence[RawSeries]) -> list[Pair]:
    """Each version that came while another answered, beside the one that then answered most."""
    first = _first_seen(series)
    if not first:
        return []
    start = min(first.values())
    there = [version for version, time in first.items() if time - start <= _TOGETHER]
    if len(there) > 1:
        raise Unclear(
            f"{', '.join(sorted(there))} are there from the beginning of the recording: say which is which by "
            "--stable and --candidate"
        )
    found = []
    for version, time in sorted(first.items(), key=lambda item: item[1]):
        stable = _busiest(series, time, without=version)
        if stable is not None:
            found.append(Pair(stable, version, _before(series, time)))
    return found


def pair(series: Sequence[RawSeries], stable: str, candidate: str) -> Pair:
    """These two, from when both were there."""
    first = _first_seen(series)
    for version in (stable, candidate):
        if version not in first:
            raise Unclear(f"the recording has no series of {version}")
    return Pair(stable, candidate, _before(series, max(first[stable], first[candidate])))


def queries(service: InferenceService, model: ServedModel, both: Pair) -> Mapping[str, str]:
    """The user's own queries as the operator would ask them."""
    status = _begun(both)
    asked = looks.ask(service, model, status, notes_of(status, None), both.began)
    return asked.queries if asked is not None else {}


def replay(
    service: InferenceService, model: ServedModel, both: Pair, recording: Recording
) -> Replay:
    """Every look until the rollout is over, or the recording."""
    policy, status = model.rollout or Rollout(), _begun(both)
    notes, said = notes_of(status, None), list[Look]()
    for now in _moments(both.began, recording.end):
        heard = _heard(service, model, status, notes, now, recording)
        went, notes = one_turn(service, model, status, notes, heard, Circumstances(now, Steering()))
        if went.status is None:
            if went.rollback is not None:
                said.append(_last_look(went.rollback, status, now))
            return Replay(model.name, both, policy, tuple(said), went.rollback)
        status = went.status
        said.append(_look(status, now))
    return Replay(model.name, both, policy, tuple(said), left=status)


def lines(found: Replay) -> Iterator[str]:
    """For people: each change, and when; then the end."""
    both, count = found.pair, len(found.policy.steps)
    yield f"{found.model}: {both.candidate} beside {both.stable}, {len(found.looks)} looks from {timestamp(both.began)}"
    for look in found.changes:
        place = "promoted" if look.promoted else f"step {look.step} of {count}"
        yield f"  {timestamp(look.time)}  {place}, {look.verdict}, {look.reason}: {look.message}"
    yield f"  => {ending(found)}"


def ending(found: Replay) -> str:
    """How it would have ended, in one sentence."""
    back, left, count = found.rollback, found.left, len(found.policy.steps)
    if back is not None:
        since = _minutes(found.looks[-1].time - found.pair.began)
        return f"rolled back to {back.to_version} after {since}: {back.reason}: {back.message}"
    if found.promoted is not None:
        after = _minutes(found.promoted.time - found.pair.began)
        guard = "guarded to the end of its window" if left is None else "still guarded"
        return f"promoted after {after}, and {guard}"
    if left is None or not found.looks:
        return "the recording is over before the first look"
    return f"at step {left.step} of {count} when the recording ends: {left.reason}: {left.message}"


def _said(look: Look) -> tuple[object, ...]:
    return look.step, look.promoted, look.verdict, look.reason


def _minutes(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _look(status: RolloutStatus, now: datetime) -> Look:
    return Look(
        now,
        status.step,
        status.promoted is not None,
        status.verdict,
        status.reason,
        status.message,
        tuple(status.metrics),
    )


def _last_look(back: RollbackStatus, before: RolloutStatus, now: datetime) -> Look:
    return Look(
        now,
        before.step,
        before.promoted is not None,
        RolloutVerdict.ROLL_BACK,
        back.reason,
        back.message,
        tuple(back.evidence),
    )


def _begun(both: Pair) -> RolloutStatus:
    stable, candidate = (
        # Nothing is loaded by these digests; they only have to differ.
        RoutedVersion(version=version, digest=f"sha256:{digit * 64}", kind=ArtifactKind.ADAPTER)
        for version, digit in ((both.stable, "0"), (both.candidate, "1"))
    )
    return rollout.begin("", stable, candidate, both.began)


def _moments(began: datetime, end: datetime | None) -> Iterator[datetime]:
    """As the operator looks: every few seconds, until the last cell of the recording is over."""
    now = began
    while end is not None and now < end + looks.LOOK_EVERY:
        now += looks.LOOK_EVERY
        yield now


def _heard(
    service: InferenceService,
    model: ServedModel,
    status: RolloutStatus,
    notes: Notes,
    now: datetime,
    recording: Recording,
) -> Heard | None:
    asked = looks.ask(service, model, status, notes, now)
    if asked is None:
        return None
    values = {
        name: recording.value(name, now) for name in asked.queries if name in recording.values
    }
    missing = dict.fromkeys(set(asked.queries) - set(recording.values), _NOT_RECORDED)
    return Heard(
        now,
        recording.window(asked.start, asked.end),
        values=values,
        troubles={**asked.unreadable, **missing},
    )


def _cut(one: RawSeries, start: float, end: float) -> RawSeries:
    first = bisect_left(one.samples, start, key=lambda sample: sample.time)
    last = bisect_right(one.samples, end, lo=first, key=lambda sample: sample.time)
    return RawSeries(one.labels, one.samples[first:last])


def _first_seen(series: Sequence[RawSeries]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in series:
        version = one.labels.get("version", "")
        if version and one.samples:
            found[version] = min(found.get(version, one.samples[0].time), one.samples[0].time)
    return found


def _before(series: Sequence[RawSeries], time: float) -> datetime:
    """The last scrape before, from which on the first requests were gained."""
    times = {s.time for one in series for s in _cut(one, time - _SCRAPE_AT_MOST, time).samples}
    earlier = max((each for each in times if each < time), default=time)
    return datetime.fromtimestamp(earlier, UTC).replace(microsecond=0)


def _busiest(series: Sequence[RawSeries], time: float, *, without: str) -> str | None:
    gained: dict[str, float] = {}
    for one in series:
        version = one.labels.get("version", "")
        samples = _cut(one, time - looks.LEARNED_FROM.total_seconds(), time).samples
        if version and version != without and any(s.time < time for s in samples):
            gained[version] = gained.get(version, 0.0) + measures.gained(samples)
    busy = sorted(version for version, amount in gained.items() if amount > 0)
    return max(busy, key=lambda version: gained[version], default=None)
