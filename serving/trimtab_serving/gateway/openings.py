"""Which requests open a conversation, and how many of them may speak for one caller.

Turns of a conversation are on one topic and in one language: counted one by one they would look
like a drift of the traffic, whatever test looks at them. So only openings are counted, and only a
few of each caller in a minute.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

MINUTE: Final = 60.0
MOST_PER_USER: Final = 2
# A key that names no user may stand for many people or for one program.
MOST_PER_KEY: Final = 6
MOST_PER_SECOND: Final = 20
MOST_CALLERS: Final = 16_384


def is_opening(content: object) -> bool:
    """Whether nothing was answered yet; `content` is the request's prompt or its messages."""
    if not isinstance(content, list):
        return True
    return not any(isinstance(m, Mapping) and m.get("role") == "assistant" for m in content)


class Openings:
    """A budget for each caller and minute, and one for all in a second."""

    def __init__(self) -> None:
        self._minute = -1
        self._counts: dict[bytes, int] = {}
        self._second = -1
        self._in_second = 0

    def admit(self, key: bytes, session: bytes | None, now: float) -> bool:
        """Whether one more opening of this caller is counted."""
        self._turn(now)
        if self._in_second >= MOST_PER_SECOND:
            return False
        caller, most = key, MOST_PER_KEY
        if session is not None:  # as long as users please
            caller = hashlib.blake2b(session, digest_size=16, key=key[:64]).digest()
            most = MOST_PER_USER
        count = self._counts.get(caller, 0)
        if count >= most or (not count and len(self._counts) >= MOST_CALLERS):
            return False
        self._counts[caller] = count + 1
        self._in_second += 1
        return True

    def _turn(self, now: float) -> None:
        minute, second = int(now // MINUTE), int(now)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        if second != self._second:
            self._second, self._in_second = second, 0
