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
