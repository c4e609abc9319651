"""What a check found wrong: a reason for machines and a sentence for people."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A fault, or (`is_unknown`) something that could not be measured."""

    reason: str
    message: str
    is_unknown: bool = False

    @classmethod
    def unknown(cls, reason: str, message: str) -> "Finding":
        """Something that could not be found out; it is neither a pass nor a fault."""
        return cls(reason, message, is_unknown=True)


@dataclass(frozen=True)
class Answer:
    """One observation: it holds, it does not hold, or (None) it is not known."""

    holds: bool | None
    reason: str
    message: str

    @classmethod
    def of(cls, finding: Finding) -> "Answer":
        """A fault as an observation."""
        return cls(None if finding.is_unknown else False, finding.reason, finding.message)


def gravest(*answers: Answer) -> Answer | None:
    """The first that is known not to hold, else the first that is not known; None if all hold."""
    faults = [a for a in answers if a.holds is False]
    return next(iter([*faults, *(a for a in answers if a.holds is None)]), None)
