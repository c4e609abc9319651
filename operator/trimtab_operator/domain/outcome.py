"""What became of a reconcile. The queue alone decides what follows from it."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Done:
    """What is wanted was written; look again after a time, or only when something changes."""

    again_after: timedelta | None = None


@dataclass(frozen=True)
class Retry:
    """It could not be done now; try again after a time, or with growing distance."""

    message: str
    after: timedelta | None = None


@dataclass(frozen=True)
class Reject:
    """It cannot be done until somebody changes something; status says why."""

    message: str


Outcome = Done | Retry | Reject


def soonest(*delays: timedelta | None) -> timedelta | None:
    """The nearest of several reasons to look again; None counts as never."""
    return min((d for d in delays if d is not None), default=None)


def also_after(outcome: Outcome, delay: timedelta | None) -> Outcome:
    """The same, but with a further reason to look again; what is tried again or rejected has its own."""
    return Done(soonest(outcome.again_after, delay)) if isinstance(outcome, Done) else outcome
