"""The real clock; nothing else in the operator asks for the time of day."""

from datetime import UTC, datetime


class SystemClock:
    """The machine's time, in UTC."""

    def now(self) -> datetime:
        """Now."""
        return datetime.now(UTC)
