"""The course of a rollout, as a function of what was judged, what people decided, and the time.

    begun --> step 1 --> ... --> last step --> promoted, guarded --> over
                 |                   |               |
                 +-------------------+---------------+--> rolled back, or aborted

What must never happen: a promotion by time alone, or because nothing is known. So every way from one
step to the next asks for requests that were counted, and the way to all requests for the proof or
for a person's word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.reasons import RolloutReason
from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_api.v1alpha1.rollout import (
    Companion,
    RollbackStatus,
    Rollout,
    RolloutStatus,
    RolloutVerdict,
)
from trimtab_operator.domain.conditions import moment_of, timestamp
from trimtab_operator.domain.inferenceservice.looks import Judged
from trimtab_operator.domain.inferenceservice.steering import Steering, told
from trimtab_operator.domain.naming import short_hash

MESSAGE_LENGTH: Final = 1024
# What a version is quarantined for; a person's word is no such thing.
CONDEMNING: Final = frozenset(
    {
        RolloutReason.CANDIDATE_WORSE,
        RolloutReason.QUERY_FAILED,
        RolloutReason.DEADLINE_EXCEEDED,
        RolloutReason.DRIFTED,
    }
)

# What is known of a version whose engines make room is what it has shown so long before.
COUNTED_BEFORE: Final = timedelta(minutes=10)

# Nothing is known just now, or time is over: then no step is left either.
HOLDING: Final = frozenset(
    {
        RolloutReason.METRICS_UNAVAILABLE,
        RolloutReason.QUERY_UNDECIDED,
        RolloutReason.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True)
class Situation:
    """Everything that the next turn rests on."""

    judged: Judged
    steering: Steering
    now: datetime
    # Decisions about the candidate's content, if there were any.
    isolation: Ruling | None = None
    # Whether the previous version could answer at once.
    has_way_back: bool = True
    query: str | None = None


@dataclass(frozen=True)
class Turn:
    """The rollout afterwards; None when it is over, with the rollback where it ended by one."""

    status: RolloutStatus | None
    rollback: RollbackStatus | None = None


def begin(
    service_uid: str,
    stable: RoutedVersion,
    candidate: RoutedVersion,
    now: datetime,
    companions: Sequence[Companion] = (),
) -> RolloutStatus:
    """The first step; of a base, with the adapters that take it together."""
    since = timestamp(now)
    return RolloutStatus(
        candidate=candidate.version,
        candidate_digest=candidate.digest,
        stable=stable.version,
        stable_digest=stable.digest,
        salt=short_hash(service_uid, candidate.digest, since, length=16),
        since=since,
        step_since=since,
        reason=RolloutReason.STEPPING,
        companions=list(companions),
    )


def replaced(
    service_uid: str,
    stable: RoutedVersion,
    candidate: RoutedVersion,
    made_room: datetime,
    now: datetime,
    companions: Sequence[Companion] = (),
) -> RolloutStatus:
    """All requests at once, in the place of what had to go before: there is nothing left but to guard it."""
    status = begin(service_uid, stable, candidate, made_room - COUNTED_BEFORE, companions)
    changes = {"promoted": timestamp(now), "replaced": timestamp(made_room)}
    message = f"it has all requests in the place of {stable.version}"
    return _held(status.model_copy(update=changes), RolloutReason.GUARDING, message)


def weight(rollout: Rollout, status: RolloutStatus) -> int:
    """The candidate's share."""
    if status.promoted is not None:
        return 100
    return rollout.steps[min(status.step, len(rollout.steps)) - 1].weight


def turn(rollout: Rollout, before: RolloutStatus, seen: Situation) -> Turn:
    """What follows now."""
    status = _with_figures(before, seen)
    if (word := _against(before, seen)) is not None:
        return _back(status, *word, seen)
    if seen.judged.verdict is RolloutVerdict.ROLL_BACK:
        return _condemned(rollout, status, seen)
    if before.promoted is not None:
        return _guarded(rollout, status, seen)
    by = seen.steering.promotion(before.candidate_digest, seen.isolation)
    if by is not None:
        message = f"promoted {told(by)}"
        return Turn(_promoted(status, RolloutReason.PROMOTED_BY_DECISION, message, seen.now))
    if (pause := seen.steering.pause) is not None:
        return Turn(_held(status, RolloutReason.PAUSED, f"paused {told(pause)}"))
    return Turn(_forward(rollout, status, seen))


def _against(before: RolloutStatus, seen: Situation) -> tuple[str, str] | None:
    """What people have decided against the candidate."""
    isolation = seen.isolation
    if isolation is not None and isolation.action is Action.QUARANTINE:
        why = f"quarantined by {isolation.by}: {isolation.reason}"
        return RolloutReason.QUARANTINED_BY_DECISION, why
    by = seen.steering.abortion(before.candidate_digest)
    return None if by is None else (RolloutReason.ABORTED, f"aborted {told(by)}")


def next_due(rollout: Rollout, status: RolloutStatus, now: datetime) -> timedelta | None:
    """When time alone brings something."""
    dates = [
        (status.promoted, rollout.rollback_window_seconds)
        if status.promoted is not None
        else (status.step_since, rollout.step_seconds),
        (status.since, rollout.analysis.deadline_seconds),
    ]
    left = [(moment_of(since) or now) + timedelta(seconds=s) - now for since, s in dates]
    return min((each for each in left if each > timedelta()), default=None)


def _condemned(rollout: Rollout, status: RolloutStatus, seen: Situation) -> Turn:
    judged = seen.judged
    if rollout.dry_run:
        message = f"it would be rolled back ({judged.reason}): {judged.message}"
        return Turn(_held(status, RolloutReason.DRY_RUN, message))
    return _back(status, judged.reason, judged.message, seen)


def _guarded(rollout: Rollout, status: RolloutStatus, seen: Situation) -> Turn:
    over = _since(status.promoted, seen.now) >= timedelta(seconds=rollout.rollback_window_seconds)
    return Turn(None if over else status)


def _forward(rollout: Rollout, status: RolloutStatus, seen: Situation) -> RolloutStatus:
    is_due = _since(status.step_since, seen.now) >= timedelta(seconds=rollout.step_seconds)
    is_answered = status.step_requests >= rollout.step_requests
    judged, is_last = seen.judged, status.step >= len(rollout.steps)
    if status.reason == RolloutReason.DRY_RUN and status.verdict is RolloutVerdict.ROLL_BACK:
        return status  # an alarm that was told stays told
    if judged.reason in HOLDING or judged.is_blind:
        return status
    if not (is_due and is_answered):
        if judged.reason in (RolloutReason.GATHERING, RolloutReason.NOT_WORSE):
            return _held(status, RolloutReason.STEPPING, _until(rollout, status, seen.now))
        return status
    if not is_last:
        return _held(
            status.model_copy(
                update={
                    "step": status.step + 1,
                    "step_since": timestamp(seen.now),
                    "step_requests": 0,
                }
            ),
            RolloutReason.STEPPING,
            f"step {status.step + 1} of {len(rollout.steps)} begins",
        )
    if judged.verdict is not RolloutVerdict.PROMOTE:
        return status
    if rollout.dry_run:
        return _held(status, RolloutReason.DRY_RUN, f"it would be promoted: {judged.message}")
    return _promoted(status, RolloutReason.NOT_WORSE, judged.message, seen.now)


def _until(rollout: Rollout, status: RolloutStatus, now: datetime) -> str:
    seconds = max(rollout.step_seconds - int(_since(status.step_since, now).total_seconds()), 0)
    requests = max(rollout.step_requests - status.step_requests, 0)
    return f"step {status.step} of {len(rollout.steps)} lasts at least {seconds} s and {requests} requests more"


def _with_figures(before: RolloutStatus, seen: Situation) -> RolloutStatus:
    judged = seen.judged
    return before.model_copy(
        update={
            "verdict": judged.verdict,
            "reason": judged.reason,
            "message": judged.message[:MESSAGE_LENGTH],
            "metrics": list(judged.metrics),
            "requests_needed": judged.requests_needed,
            "step_requests": judged.step_requests,
        }
    )


def _held(status: RolloutStatus, reason: str, message: str) -> RolloutStatus:
    return status.model_copy(update={"reason": reason, "message": message[:MESSAGE_LENGTH]})


def _promoted(status: RolloutStatus, reason: str, message: str, now: datetime) -> RolloutStatus:
    changed = {"promoted": timestamp(now), "requests_needed": None}
    return _held(status.model_copy(update=changed), reason, message)


def _back(status: RolloutStatus, reason: str, message: str, seen: Situation) -> Turn:
    if not seen.has_way_back:
        lacking = f"{message}; there is no version to go back to that is loaded"
        return Turn(_held(status, reason, lacking))
    return Turn(
        None,
        RollbackStatus(
            from_version=status.candidate,
            from_digest=status.candidate_digest,
            to_version=status.stable,
            to_digest=status.stable_digest,
            reason=reason,
            message=message[:MESSAGE_LENGTH],
            evidence=status.metrics,
            query=seen.query,
            time=timestamp(seen.now),
        ),
    )


def _since(text: str | None, now: datetime) -> timedelta:
    """How long ago; a clock that went back makes nothing happen sooner."""
    return max(now - (moment_of(text) or now), timedelta())
