"""What is said about a Decision."""

from datetime import datetime
from typing import Final

from trimtab_api.reasons import DecisionReason
from trimtab_api.v1alpha1 import Decision
from trimtab_api.v1alpha1.decision import DecisionStatus
from trimtab_operator.domain.conditions import condition, with_condition
from trimtab_operator.domain.events import Event, transitions
from trimtab_operator.domain.finding import Answer

KIND: Final = "Decision"
WORRYING: Final = frozenset(
    {
        DecisionReason.AUTHOR_APPROVES,
        DecisionReason.AUTHOR_UNKNOWN,
        DecisionReason.DIGEST_MISMATCH,
        DecisionReason.TARGET_MISSING,
    }
)


def status(decision: Decision, effect: Answer, now: datetime) -> DecisionStatus:
    """The status that says what came of it."""
    generation = decision.metadata.generation
    said = condition(
        "Effective", effect.holds, effect.reason, effect.message, generation=generation, now=now
    )
    return DecisionStatus(
        observed_generation=generation,
        conditions=with_condition(decision.status.conditions, said),
    )


def events(decision: Decision, told: DecisionStatus) -> list[Event]:
    """What is new about it."""
    return transitions(KIND, decision, told.conditions, warnings=WORRYING)
