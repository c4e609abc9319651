"""Whether the traffic of a served model has moved: what is asked of Prometheus, and what is said of it.

Three pure steps. `due` and `selector` say when and what to ask; `looked` folds what came back into
what was known; `told` makes the status of it. What must never happen: drift is called because
nothing was measured, because a version is new, or because somebody looked twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import isfinite, log
from typing import Final

from trimtab_api import features, names
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.reasons import DriftReason
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.drift import Drift, DriftSignal, DriftStatus, MovedShare
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_operator.domain.analysis import drift as analysis
from trimtab_operator.domain.analysis.drift import Bucket, Watch
from trimtab_operator.domain.analysis.signals import OTHER, SignalState
from trimtab_operator.domain.conditions import moment_of, timestamp
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import child_name
from trimtab_operator.domain.series import RawSeries

METRIC: Final = "trimtab_gateway_signal_total"
COMPONENT: Final = "drift"
WATCH_KEY: Final = "watch.json"
LOOKED_KEY: Final = "looked"
# Scrapes come every few seconds; drift goes by hundreds of conversations.
EVERY: Final = timedelta(seconds=60)
# Samples that a scrape may have brought late; what was read before is not counted again.
OVERLAP: Final = timedelta(seconds=60)
# Prometheus keeps more, but a first look, or one after an outage, must be small.
FARTHEST: Final = timedelta(hours=1)
# A Prometheus that is away for a moment is no news about the traffic.
STALE_AFTER: Final = timedelta(minutes=10)
RENEWED_AFTER: Final = timedelta(minutes=10)
MOVED_AT_MOST: Final = 5
# A rollback is decided at the next visit, when status has what it rests on.
ROLLED_BACK_AFTER: Final = timedelta(milliseconds=50)


@dataclass(frozen=True)
class Watched:
    """A model whose traffic is watched, and the version that answers."""

    model: ServedModel
    drift: Drift
    version: ModelVersion

    @property
    def digest(self) -> str:
        """What the watch is about: another content is other answers."""
        return self.version.metadata.name + "@" + self.version.spec.artifact.digest


@dataclass(frozen=True)
class Memory:
    """What is kept of one model between two looks."""

    watch: Watch
    looked: datetime | None = None

    @property
    def heard(self) -> datetime | None:
        """When Prometheus last scraped a counter of it."""
        heard = self.watch.cursor.heard
        return None if heard is None else datetime.fromtimestamp(heard, UTC)

    @property
    def since(self) -> datetime | None:
        """When the change is thought to have begun."""
        quiet = self.watch.state.quiet_until
        return None if quiet is None else datetime.fromtimestamp(quiet, UTC)


def name(service: InferenceService, model: str) -> str:
    """The ConfigMap in which a model's watch is kept."""
    return child_name(service.metadata.name, COMPONENT, model)


def memories(config_maps: Iterable[Manifest]) -> list[Manifest]:
    """Those in which a watch is kept."""
    return [m for m in config_maps if WATCH_KEY in (m.get("data") or {})]


def remembered(stored: Manifest | None, watched: Watched) -> Memory:
    """What was kept of this very version and these signals; else a beginning."""
    data = (stored or {}).get("data") or {}
    watch = Watch.resumed(data.get(WATCH_KEY), watched.digest, beginning(watched.drift, None))
    return Memory(watch, moment_of(data.get(LOOKED_KEY)))


def is_new(memory: Memory) -> bool:
    """Whether nothing was counted yet, so that the version's profile may still be set."""
    return memory.watch.cursor.heard is None


def config_map(service: InferenceService, model: str, memory: Memory) -> Manifest:
    """What is to be kept."""
    looked = timestamp(memory.looked) if memory.looked else ""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(service, COMPONENT, name(service, model)),
        "data": {WATCH_KEY: memory.watch.stored(), LOOKED_KEY: looked},
    }


def is_due(memory: Memory, now: datetime) -> bool:
    """Whether it is time to ask again. A clock that went back does not keep us from it for long."""
    return memory.looked is None or abs(now - memory.looked) >= EVERY


def selector(service: InferenceService, watched: Watched) -> str:
    """The counters of the service's own gateways about this version."""
    own = children.name(
        service, names.GATEWAY
    )  # a label: nothing in it means anything to a pattern
    labels = {
        "namespace": f'="{service.metadata.namespace}"',
        "pod": f'=~"{own}-[a-z0-9]+-[a-z0-9]+"',
        "model": f'="{watched.model.name}"',
        "version": f'="{watched.version.metadata.name}"',
    }
    return METRIC + "{" + ",".join(f"{label}{match}" for label, match in labels.items()) + "}"


def asked_from(memory: Memory, now: datetime) -> datetime:
    """From when on samples are asked for."""
    return max((memory.heard or now) - OVERLAP, now - FARTHEST)


def beginning(drift: Drift, profile: ReferenceProfile | None) -> analysis.DriftState:
    """Nothing seen yet; the profile is a first guess at the shares."""
    learned = drift.reference_requests
    return analysis.beginning_with({s.value: _signal(s, profile, learned) for s in drift.signals})


def _signal(signal: DriftSignal, profile: ReferenceProfile | None, learned: int) -> SignalState:
    """Of ratings there are few, and fewer bad ones are no news."""
    prior = _prior(signal, profile)
    if signal is DriftSignal.NEGATIVE_FEEDBACK:
        return SignalState.begun(prior, RATINGS_LEARNED, (NEGATIVE,), GUESS_WEIGHT)
    return SignalState.begun(prior, learned)


def looked(memory: Memory, watched: Watched, series: Sequence[RawSeries], now: datetime) -> Memory:
    """What is known after these samples. Given twice, they change nothing."""
    wanted = {signal.value for signal in watched.drift.signals}
    buckets = [
        Bucket(one.labels.get("pod", ""), signal, one.labels.get("bucket", ""), one.samples)
        for one in series
        if (signal := one.labels.get("signal", "")) in wanted
    ]
    until = (now - timedelta(seconds=2)).timestamp()  # a scrape that is just being stored
    threshold = float(watched.drift.requests_per_false_alarm)
    return Memory(analysis.watched(memory.watch, buckets, until, threshold), now)


def told(
    watched: Watched,
    memory: Memory,
    trouble: Finding | None,
    before: DriftStatus | None,
    now: datetime,
) -> DriftStatus:
    """What status says of the model now."""
    finding = _unmeasured(memory, trouble, now) or _judged(memory)
    state = memory.watch.state
    is_drifting = finding.reason == DriftReason.DRIFTING
    leader = state.leader
    signal = state.signals[leader] if leader else None
    evidence = state.log_evidence
    status = DriftStatus(
        version=watched.version.metadata.name,
        reason=finding.reason,
        message=finding.message[:512],
        measured=timestamp(now),
        requests=_requests(memory),
        signal=leader,
        psi=round(signal.psi, 3) if signal else None,
        log_evidence=round(evidence, 2) if isfinite(evidence) else None,
        alarm_at=round(log(watched.drift.requests_per_false_alarm), 2),
        since=timestamp(memory.since) if is_drifting and memory.since else None,
        moved=[
            MovedShare(category=m.category[:64], before=round(m.before, 4), now=round(m.now, 4))
            for m in (signal.moved(MOVED_AT_MOST) if signal else ())
        ],
    )
    if before is None:
        return status
    is_same = (before.version, before.since) == (status.version, status.since)
    kept = {"retrainings": before.retrainings, "plan": before.plan if is_same else None}
    status = status.model_copy(update=kept)
    return before if is_old_news(before, status, now) else status


def is_old_news(before: DriftStatus, after: DriftStatus, now: datetime) -> bool:
    """Figures change with every request; what is said of them seldom does."""
    if (before.version, before.reason, before.since) != (after.version, after.reason, after.since):
        return False
    written = moment_of(before.measured)
    return written is not None and timedelta(0) <= now - written < RENEWED_AFTER


def _unmeasured(memory: Memory, trouble: Finding | None, now: datetime) -> Finding | None:
    """Why nothing can be said; what was measured a short while ago still can."""
    if trouble is None:
        return None
    is_fresh = memory.heard is not None and now - memory.heard < STALE_AFTER
    return None if is_fresh and trouble.reason != DriftReason.NO_PROMETHEUS else trouble


def _judged(memory: Memory) -> Finding:
    state = memory.watch.state
    if not any(signal.is_anchored for signal in state.signals.values()):
        return Finding.unknown(
            DriftReason.LEARNING,
            f"{_known(memory)} are known, by which later ones are judged",
        )
    if not state.is_drifting or state.leader is None:
        return Finding(DriftReason.NO_DRIFT, f"as in the first {_reference(memory)}")
    signal = state.signals[state.leader]
    rows = ", ".join(f"{m.category} {m.before:.1%} to {m.now:.1%}" for m in signal.moved(3))
    since = f" since {timestamp(memory.since)}" if memory.since else ""
    return Finding(
        DriftReason.DRIFTING, f"{state.leader} has moved{since} (PSI {signal.psi:.2f}): {rows}"
    )


def _known(memory: Memory) -> str:
    """How much is known of the signal that will be judged first."""
    signals = memory.watch.state.signals
    name = max(signals, key=lambda n: sum(signals[n].anchor) / signals[n].reference)
    return f"{sum(signals[name].anchor)} of {signals[name].reference} {_unit(name)}"


def _reference(memory: Memory) -> str:
    signals = memory.watch.state.signals
    name = max(signals, key=lambda n: (signals[n].is_anchored, signals[n].reference))
    return f"{signals[name].reference} {_unit(name)}"


def _unit(signal: str) -> str:
    return "ratings" if signal == DriftSignal.NEGATIVE_FEEDBACK else "opening requests"


def _requests(memory: Memory) -> int:
    signals = memory.watch.state.signals.values()
    return max(sum(s.anchor) + sum(s.seen) for s in signals)


def _prior(signal: DriftSignal, profile: ReferenceProfile | None) -> Mapping[str, float]:
    """Counts by category; every category that can come is among them, with or without a profile."""
    match signal:
        case DriftSignal.PROMPT_LENGTH:
            return _lengths(profile.prompt_characters if profile else ())
        case DriftSignal.COMPLETION_LENGTH:
            return _lengths(profile.answer_characters if profile else ())
        case DriftSignal.FINISH_REASONS:
            known = profile.finish_reasons if profile else {}
            return {each: known.get(each, 0) for each in FINISH_REASONS}
        case DriftSignal.REFUSALS:
            refused = profile.refusals if profile else 0
            return {"yes": refused, "no": profile.answers - refused if profile else 0}
        case DriftSignal.LANGUAGES:
            known = profile.languages if profile else {}
            return {each: known.get(each, 0) for each in (*features.LANGUAGES, *known)}
        case DriftSignal.TOPICS:
            counts = profile.topics.counts if profile and profile.topics else ()
            # The last is what is near no centroid, which the gateway counts by a number of its own.
            near = {str(number): count for number, count in enumerate(counts[:-1])}
            return {**near, OTHER: sum(counts[-1:])}
        case DriftSignal.NEGATIVE_FEEDBACK:
            return FEEDBACK_GUESSED


# Nobody knows before the first rating, so that the guess counts for little.
NEGATIVE: Final = "negative"
FEEDBACK_GUESSED: Final = {NEGATIVE: 1.0, "positive": 4.0}
GUESS_WEIGHT: Final = 2.0
RATINGS_LEARNED: Final = 200
FINISH_REASONS: Final = ("stop", "length", "tool_calls", "content_filter", "empty")


def _lengths(counts: Sequence[int]) -> Mapping[str, float]:
    buckets = range(len(features.LENGTH_BOUNDS) + 1)
    return {str(n): counts[n] if n < len(counts) else 0 for n in buckets}


def with_profile(memory: Memory, watched: Watched, profile: ReferenceProfile | None) -> Memory:
    """A beginning that knows what the version was evaluated on."""
    usable = profile if profile and profile.features == features.FEATURES_VERSION else None
    return replace(memory, watch=Watch(watched.digest, beginning(watched.drift, usable)))


def without_version(before: DriftStatus | None, now: datetime) -> DriftStatus:
    """Nothing answers the name yet, so that there is nothing to watch."""
    status = DriftStatus(
        version="",
        reason=DriftReason.NO_VERSION,
        message="no version answers it yet",
        measured=timestamp(now),
        retrainings=before.retrainings if before else [],
    )
    return before if before and is_old_news(before, status, now) else status


def unavailable(url: str, why: str) -> Finding:
    """There is no Prometheus, or it does not answer."""
    if not url:
        return Finding.unknown(DriftReason.NO_PROMETHEUS, why)
    return Finding.unknown(DriftReason.PROMETHEUS_UNAVAILABLE, why)


def no_series(asked: str) -> Finding:
    """Prometheus answers, and has nothing."""
    return Finding.unknown(
        DriftReason.NO_SERIES,
        f"Prometheus has no series {asked}: does it scrape the gateways, and were there requests?",
    )
