"""Promote, roll back or hold: from the evidence of all metrics and what was agreed beforehand.

What must never happen: a promotion without proof for every metric; a promotion because time ran
out, because Prometheus was gone, or because nobody sent a request; a rollback by a number that is
none. Evidence that is complete stays so when Prometheus goes away a moment later.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from trimtab_operator.domain.analysis.blocks import Counts
from trimtab_operator.domain.analysis.evidence import Evidence, MetricEvidence

PROMOTION_LEVEL = 0.05


class Action(StrEnum):
    """What is to be done with the candidate."""

    PROMOTE = "Promote"
    ROLL_BACK = "RollBack"
    HOLD = "Hold"


class Reason(StrEnum):
    """Why; the message has the numbers."""

    CANDIDATE_WORSE = "CandidateWorse"
    NOT_WORSE = "NotWorse"
    QUERY_FAILED = "QueryFailed"
    QUERY_UNDECIDED = "QueryUndecided"
    GUARDING = "Guarding"
    GATHERING = "GatheringEvidence"
    NO_TRAFFIC = "NoTraffic"
    NO_SERIES = "NoSeries"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    DEADLINE_EXCEEDED = "DeadlineExceeded"


@dataclass(frozen=True)
class Query:
    """A user's own query, judged by its limits; None where its result was no number."""

    name: str
    passes: bool | None
    message: str


@dataclass(frozen=True)
class Policy:
    """What was agreed before the first request: each metric's level, and what silence means."""

    levels: Mapping[str, float]
    promotion_level: float = PROMOTION_LEVEL
    # For so long a comparison may be missing before it is said.
    silence_seconds: float = 60.0
    rolls_back_when_overdue: bool = False


@dataclass(frozen=True)
class Situation:
    """What else there is to know at this moment."""

    now: float
    # The candidate's part of the requests.
    share: float
    # Why Prometheus gave nothing, if so.
    trouble: str | None = None
    is_overdue: bool = False
    queries: Sequence[Query] = ()


@dataclass(frozen=True)
class Figures:
    """The numbers of one metric, as they go into status."""

    metric: str
    level: float
    stable: Counts
    candidate: Counts
    log_evidence: float
    peak: float
    no_worse_log_evidence: float
    still_needed: int | None


@dataclass(frozen=True)
class Verdict:
    """What to do, why, and on which numbers."""

    action: Action
    reason: Reason
    message: str
    figures: tuple[Figures, ...] = ()


def judge(evidence: Evidence, policy: Policy, situation: Situation) -> Verdict:
    """The verdict after any number of looks."""
    known = {m: evidence.metrics.get(m, MetricEvidence()) for m in policy.levels}
    figures = tuple(_figures(m, one, policy, situation.share) for m, one in known.items())
    action, reason, message = (
        _worse(figures) or _failed(situation) or _open(known, figures, policy, situation)
    ) or (Action.PROMOTE, Reason.NOT_WORSE, _proven(figures))
    if action is Action.HOLD and situation.is_overdue:
        action = Action.ROLL_BACK if policy.rolls_back_when_overdue else Action.HOLD
        reason, message = Reason.DEADLINE_EXCEEDED, f"the deadline is over, and {message}"
    return Verdict(action, reason, message, figures)


def judge_guard(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict on a version that was promoted: back, or no reason to."""
    found = [
        (metric, one.guard, policy.levels[metric])
        for metric, one in sorted(evidence.metrics.items())
        if one.guard is not None and metric in policy.levels
    ]
    alarms = [(m, test, level) for m, test, level in found if test.is_alarm(level)]
    if not alarms:
        return Verdict(Action.HOLD, Reason.GUARDING, "nothing speaks against the promoted version")
    told = "; ".join(
        f"{metric}: {_told(test.candidate)} where at most {100 * test.bound:.2f} % were expected, "
        f"evidence {_power(test.peak)} of {1 / level:.4g}"
        for metric, test, level in alarms
    )
    return Verdict(Action.ROLL_BACK, Reason.CANDIDATE_WORSE, told)


Found = tuple[Action, Reason, str]


def _worse(figures: Sequence[Figures]) -> Found | None:
    alarms = [f for f in figures if math.isfinite(f.peak) and f.peak >= -math.log(f.level)]
    if not alarms:
        return None
    told = "; ".join(
        f"{f.metric}: {_told(f.candidate)} against {_told(f.stable)} of the stable version, "
        f"evidence {_power(f.peak)} of {1 / f.level:.4g}"
        for f in alarms
    )
    return Action.ROLL_BACK, Reason.CANDIDATE_WORSE, told


def _failed(situation: Situation) -> Found | None:
    failed = [query for query in situation.queries if query.passes is False]
    if not failed:
        return None
    told = "; ".join(f"{query.name}: {query.message}" for query in failed)
    return Action.ROLL_BACK, Reason.QUERY_FAILED, told


def _open(
    known: Mapping[str, MetricEvidence],
    figures: Sequence[Figures],
    policy: Policy,
    situation: Situation,
) -> Found | None:
    """Whatever is still in the way of a promotion, the plainest first."""
    if situation.trouble is not None:
        return Action.HOLD, Reason.METRICS_UNAVAILABLE, situation.trouble
    if not known:
        return Action.HOLD, Reason.NO_SERIES, "no metric is tested"
    for metric, one in known.items():
        if one.cursor.heard is None:
            return Action.HOLD, Reason.NO_SERIES, f"{metric} has no series yet"
        if one.compared is None or situation.now - one.compared > policy.silence_seconds:
            message = (
                f"{metric}: no requests of both versions in the last {policy.silence_seconds:g} s"
            )
            return Action.HOLD, Reason.NO_TRAFFIC, message
    undecided = [query for query in situation.queries if query.passes is None]
    if undecided:
        told = "; ".join(f"{query.name}: {query.message}" for query in undecided)
        return Action.HOLD, Reason.QUERY_UNDECIDED, told
    wanting = [
        f for f in figures if not f.no_worse_log_evidence >= -math.log(policy.promotion_level)
    ]
    if wanting:
        return Action.HOLD, Reason.GATHERING, "; ".join(_needed(f) for f in wanting)
    return None


def _figures(metric: str, one: MetricEvidence, policy: Policy, share: float) -> Figures:
    return Figures(
        metric=metric,
        level=policy.levels[metric],
        stable=one.rollback.stable,
        candidate=one.rollback.candidate,
        log_evidence=one.rollback.log_evidence,
        peak=one.rollback.peak,
        no_worse_log_evidence=one.promotion.log_evidence,
        still_needed=one.promotion.still_needed(policy.promotion_level, share),
    )


def _proven(figures: Sequence[Figures]) -> str:
    told = (
        f"{f.metric}: {_told(f.candidate)} against {_told(f.stable)}, no worse by more than the margin"
        for f in figures
    )
    return "; ".join(told)


def _needed(figures: Figures) -> str:
    if figures.still_needed is None:
        return f"{figures.metric}: nothing is known yet"
    return f"{figures.metric}: about {figures.still_needed} more requests if both are alike"


def _told(counts: Counts) -> str:
    rate = counts.rate
    return f"{counts.events} of {counts.n}" + ("" if rate is None else f" ({100 * rate:.2f} %)")


def _power(logarithm: float) -> str:
    return f"{math.exp(logarithm):.4g}" if logarithm < 600 else "above 1e260"
