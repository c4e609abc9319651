"""What to ask Prometheus about a rollout, and what its answer says of the candidate.

Nothing is asked while no rollout is under way. A look that brings nothing new changes nothing, and
one that brings an error says so and leaves the evidence as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.reasons import RolloutReason
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.rollout import (
    MetricEvidence,
    OnInconclusive,
    Rollout,
    RolloutMetric,
    RolloutQuery,
    RolloutStatus,
    RolloutVerdict,
)
from trimtab_operator.domain.analysis import sharing
from trimtab_operator.domain.analysis.counters import CELL_SECONDS
from trimtab_operator.domain.analysis.evidence import begun, folded, guarded
from trimtab_operator.domain.analysis.promotion import Margin
from trimtab_operator.domain.analysis.verdict import (
    PROMOTION_LEVEL,
    Figures,
    Policy,
    Query,
    Situation,
    judge,
    judge_guard,
)
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.inferenceservice import measures
from trimtab_operator.domain.inferenceservice.notes import Notes, QueryNotes
from trimtab_operator.domain.naming import short_hash
from trimtab_operator.domain.promql import Unreadable, confined
from trimtab_operator.domain.series import RawSeries

LOOK_EVERY: Final = timedelta(seconds=CELL_SECONDS)
SETTLED_AFTER_SECONDS: Final = 0.25
SPREAD_OVER_SECONDS: Final = 1.0
# Older samples are not asked for: what a counter has gained is known from the last one that was read.
LOOKED_BACK: Final = timedelta(minutes=15)
# A counter that was not scraped for so long has gone with its gateway, or will go on from where it was;
# minutes of all others are not read again for it.
GONE_AFTER: Final = timedelta(minutes=3)
# A latency's bound is fixed by what the stable version has shown before.
LEARNED_FROM: Final = timedelta(minutes=10)
MISSES_ALLOWED: Final = 2


@dataclass(frozen=True)
class Ask:
    """What to ask now about one model."""

    selector: str
    start: datetime
    end: datetime
    queries: Mapping[str, str] = field(default_factory=dict)
    # Queries that cannot be asked, and why.
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """What came back: series or trouble, and for each query a number, nothing, or its trouble."""

    at: datetime
    series: tuple[RawSeries, ...] = ()
    trouble: str | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """What the evidence says now."""

    verdict: RolloutVerdict
    reason: str
    message: str
    metrics: tuple[MetricEvidence, ...] = ()
    requests_needed: int | None = None
    # What the candidate has answered in this step, as far as it was counted.
    step_requests: int = 0
    # Whether no metric has seen both versions of late: then nobody knows how the candidate does.
    is_blind: bool = False


def due_in(notes: Notes, now: datetime) -> timedelta:
    """How long until the next look: soon after each cell of time is over, when there is news.

    Not at once: what was scraped last must have been stored, and not all rollouts may ask together.
    """
    if notes.looked is None:
        return timedelta()
    every = LOOK_EVERY.total_seconds()
    after = SETTLED_AFTER_SECONDS + _spread(notes) * SPREAD_OVER_SECONDS
    due = (math.floor((notes.looked - after) / every) + 1) * every + after
    # A clock that went back must not put the next look off for long.
    return timedelta(seconds=min(max(due - now.timestamp(), 0.0), every))


def _spread(notes: Notes) -> float:
    """Where in a row of rollouts this one asks, from 0 to 1: its own, and always the same."""
    return int(short_hash(notes.evidence.candidate, notes.since, length=4), 16) / 0x10000


def ask(
    service: InferenceService,
    model: ServedModel,
    rollout: RolloutStatus,
    notes: Notes,
    now: datetime,
) -> Ask | None:
    """What to ask now; None while it is too early to ask again."""
    wanted = model.rollout
    if wanted is None or due_in(notes, now) > timedelta():
        return None
    readable, unreadable = {}, {}
    for query in wanted.analysis.queries:
        try:
            readable[query.name] = confined(
                _filled(query.query, model.name, rollout), service.metadata.namespace
            )
        except Unreadable as fault:
            unreadable[query.name] = str(fault)
    asked = asked_for(service, model, rollout)
    return Ask(asked, _start(wanted, rollout, notes, now), now, readable, unreadable)


def asked_for(service: InferenceService, model: ServedModel, rollout: RolloutStatus) -> str:
    """The selector of everything that the metrics of a rollout are made of."""
    metrics = model.rollout.analysis.metrics if model.rollout else ()
    if rollout.companions:
        return measures.selector_of_base(service, metrics)
    return measures.selector(service, model.name, (rollout.stable, rollout.candidate), metrics)


def noted(rollout: Rollout, status: RolloutStatus, notes: Notes, heard: Heard) -> Notes:
    """The notes after an answer."""
    queries = {q.name: _query_notes(q, notes, heard) for q in rollout.analysis.queries}
    notes = replace(notes, looked=heard.at.timestamp(), trouble=heard.trouble, queries=queries)
    if heard.trouble is None:
        kept = measures.once(s for s in heard.series if notes.counts(measures.gateway(s)))
        series = measures.before_it_went(measures.together(kept, status), status)
        for metric in rollout.analysis.metrics:
            notes = _folded(metric, rollout, status, notes, series, heard.at)
    return at_step(status, notes).bounded()


def judged(rollout: Rollout, status: RolloutStatus, notes: Notes, now: datetime) -> Judged:
    """What the notes say of the candidate."""
    levels = _levels(rollout)
    queries = [_query(q, notes) for q in rollout.analysis.queries]
    if status.promoted is not None:
        return _guarded(rollout, notes, levels, queries)
    deadline = timedelta(seconds=rollout.analysis.deadline_seconds)
    began = moment_of(status.since) or now
    policy = Policy(
        levels=levels,
        rolls_back_when_overdue=rollout.analysis.on_inconclusive is OnInconclusive.ROLL_BACK,
    )
    found = judge(
        notes.evidence,
        policy,
        Situation(
            now=now.timestamp(),
            share=rollout.steps[min(status.step, len(rollout.steps)) - 1].weight / 100,
            trouble=notes.trouble,
            is_overdue=now - began > deadline,
            queries=queries,
        ),
    )
    needed = [f.still_needed for f in found.figures]
    known = [n for n in needed if n is not None]
    return Judged(
        RolloutVerdict(found.action),
        RolloutReason(found.reason.value),
        found.message,
        (*(_figures(f) for f in found.figures), *_query_figures(rollout, notes)),
        max(known) if known and len(known) == len(needed) else None,
        notes.answered - notes.counted_before if notes.step == status.step else 0,
        is_blind=all(
            one.compared is None or now.timestamp() - one.compared > policy.silence_seconds
            for one in notes.evidence.metrics.values()
        ),
    )


def _guarded(
    rollout: Rollout, notes: Notes, levels: Mapping[str, float], queries: Sequence[Query]
) -> Judged:
    found = judge_guard(notes.evidence, Policy(levels))
    verdict, reason, message = RolloutVerdict(found.action), found.reason.value, found.message
    failed = [q for q in queries if q.passes is False]
    if failed and verdict is RolloutVerdict.HOLD:
        verdict, reason = RolloutVerdict.ROLL_BACK, RolloutReason.QUERY_FAILED
        message = "; ".join(f"{q.name}: {q.message}" for q in failed)
    elif notes.trouble is not None and verdict is RolloutVerdict.HOLD:
        reason, message = RolloutReason.METRICS_UNAVAILABLE, notes.trouble
    figures = tuple(_guard_figures(name, level, notes) for name, level in levels.items())
    return Judged(verdict, reason, message, (*figures, *_query_figures(rollout, notes)))


def _levels(rollout: Rollout) -> dict[str, float]:
    analysis = rollout.analysis
    return sharing.levels(
        analysis.false_alarm_rate, sharing.weights([str(m) for m in analysis.metrics])
    )


def _start(wanted: Rollout, rollout: RolloutStatus, notes: Notes, now: datetime) -> datetime:
    """From where on samples are needed."""
    began = moment_of(rollout.since) or now
    read = [one.cursor.heard for one in notes.evidence.metrics.values()]
    heard = [moment for moment in read if moment is not None]
    needs = [m for m in wanted.analysis.metrics if str(m) not in notes.evidence.metrics]
    if needs or len(heard) < len(read):
        since = began - LEARNED_FROM if any(m in measures.HISTOGRAMS for m in needs) else began
    else:
        times = [s.time for one in notes.evidence.metrics.values() for s in one.cursor.scrapes]
        still = max(times) - GONE_AFTER.total_seconds()
        since = datetime.fromtimestamp(min(t for t in times if t >= still), now.tzinfo)
    return min(max(since, _oldest(rollout, now)), now - LOOK_EVERY)


def _oldest(rollout: RolloutStatus, now: datetime) -> datetime:
    """How far back to ask: of a version that had to go, to when it was there, as long as that is near."""
    promoted = moment_of(rollout.promoted)
    is_fresh = promoted is not None and now - promoted < LOOKED_BACK
    if rollout.replaced is not None and is_fresh:
        return moment_of(rollout.since) or now
    return now - LOOKED_BACK


def _folded(
    metric: RolloutMetric,
    rollout: Rollout,
    status: RolloutStatus,
    notes: Notes,
    series: Sequence[RawSeries],
    at: datetime,
) -> Notes:
    """The notes after these samples of one metric."""
    name, evidence = str(metric), notes.evidence
    if name not in evidence.metrics:
        is_latency = metric in measures.HISTOGRAMS
        bound = measures.slow_above(metric, series, status) if is_latency else None
        if is_latency and bound is None:
            return notes  # the stable version has not shown yet what is usual
        evidence = begun(evidence, name, _margin(rollout), bound)
    if status.promoted is not None:
        evidence = guarded(evidence, is_alone=status.replaced is not None)
    one = evidence.metrics[name]
    began = moment_of(status.since) or at
    fresh = [_since(each, began) for each in series] if one.cursor.heard is None else series
    found = measures.counters(metric, fresh, status, one.threshold)
    evidence = folded(evidence, name, found, at.timestamp(), _breaks(status))
    return replace(notes, evidence=evidence)


def _margin(rollout: Rollout) -> Margin:
    points = rollout.analysis.margin
    return Margin() if points is None else Margin(points, 0.0)


def _since(series: RawSeries, began: datetime) -> RawSeries:
    """Without what was scraped before the rollout: it has no second version in it."""
    kept = tuple(s for s in series.samples if s.time >= began.timestamp())
    return replace(series, samples=kept)


def _breaks(status: RolloutStatus) -> list[float]:
    """When weights were changed; what was gained across such a moment belongs to neither side."""
    moments = (status.since, status.step_since, status.promoted)
    found = (moment_of(m) for m in moments)
    return sorted({m.timestamp() for m in found if m is not None})


def at_step(status: RolloutStatus, notes: Notes) -> Notes:
    """A new step counts from what there is when it is first seen."""
    if notes.step == status.step:
        return notes
    return replace(notes, step=status.step, counted_before=notes.answered)


# --- the user's own queries -----------------------------------------------------------------------


def _filled(query: str, model: str, rollout: RolloutStatus) -> str:
    filled = query.replace("$candidate", rollout.candidate)
    return filled.replace("$stable", rollout.stable).replace("$model", model)


def _query_notes(query: RolloutQuery, notes: Notes, heard: Heard) -> QueryNotes:
    before = notes.queries.get(query.name, QueryNotes())
    trouble = heard.trouble or heard.troubles.get(query.name)
    value = heard.values.get(query.name)
    if trouble is not None:
        return replace(before, value=None, trouble=trouble[:256])
    if value is None or not math.isfinite(value):
        return replace(before, value=None, trouble="it gives no number now")
    is_miss = (query.at_most is not None and value > query.at_most) or (
        query.at_least is not None and value < query.at_least
    )
    return QueryNotes(before.misses + 1 if is_miss else 0, value)


def _query(query: RolloutQuery, notes: Notes) -> Query:
    found = notes.queries.get(query.name)
    if found is None:
        return Query(query.name, None, "it was not asked yet")
    if found.trouble is not None:
        return Query(query.name, None, found.trouble)
    bounds = " and ".join(
        f"{word} {bound:g}"
        for word, bound in (("at least", query.at_least), ("at most", query.at_most))
        if bound is not None
    )
    told = f"{found.value:g}, where {bounds} is asked" if found.value is not None else bounds
    if found.misses > MISSES_ALLOWED:
        return Query(query.name, False, f"{told}, at {found.misses} looks in a row")
    return Query(query.name, None if found.misses else True, told)


def _query_figures(rollout: Rollout, notes: Notes) -> list[MetricEvidence]:
    return [
        MetricEvidence(
            name=q.name,
            value=notes.queries[q.name].value if q.name in notes.queries else None,
            message=_query(q, notes).message,
        )
        for q in rollout.analysis.queries
    ]


# --- the numbers for status -----------------------------------------------------------------------


def _figures(figures: Figures) -> MetricEvidence:
    return MetricEvidence(
        name=figures.metric,
        level=_short(figures.level),
        candidate_requests=figures.candidate.n,
        candidate_events=figures.candidate.events,
        stable_requests=figures.stable.n,
        stable_events=figures.stable.events,
        log_evidence=_short(figures.peak),
        alarm_at=_short(-math.log(figures.level)),
        log_no_worse=_short(figures.no_worse_log_evidence),
        proven_at=_short(-math.log(PROMOTION_LEVEL)),
    )


def _guard_figures(name: str, level: float, notes: Notes) -> MetricEvidence:
    one = notes.evidence.metrics.get(name)
    if one is None or one.guard is None:
        was_counted = one is not None and one.promotion.stable.n > 0
        unknown = (
            "the guard begins with the next look"
            if was_counted
            else "the stable version was not counted, so that there is nothing to hold this one against"
        )
        return MetricEvidence(name=name, level=_short(level), message=unknown)
    return MetricEvidence(
        name=name,
        level=_short(level),
        candidate_requests=one.guard.candidate.n,
        candidate_events=one.guard.candidate.events,
        log_evidence=_short(one.guard.peak),
        alarm_at=_short(-math.log(level)),
    )


def _short(number: float) -> float:
    return round(number, 4)
