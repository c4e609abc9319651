"""The right to write, and its end: past its deadline no write leaves this process.

A process may be stopped at any instruction, and find on waking that another has taken over. So the
right is not a flag that somebody has to take away in time but a moment on a clock, looked at before
each write, and again when its bytes leave: for a connection it may have had to wait. What is on its
way then is cut off. What the API server has already got is beyond a fence: every write carries what
it was decided on (see `cluster`).
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from trimtab_operator.domain.errors import NotLeader

# Goes on while a process is stopped, as CLOCK_MONOTONIC does, and while the machine sleeps, which
# that one does not; nobody can set it. Only Linux has it.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds on a clock that nothing stops or sets."""
    return time.clock_gettime(_CLOCK)


class Fence:
    """Lets writes through until a moment that can be put off, and never again after `close`."""

    def __init__(self, now: Callable[[], float] = boot_seconds) -> None:
        self._now = now
        self._until = -math.inf
        self._closed = False
        self._was_cut = False
        self._writes: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def seconds_left(self) -> float:
        """How far away the deadline is; negative once it has passed."""
        return self._until - self._now()

    def open_until(self, moment: float) -> None:
        """Writes may go on until then; an earlier moment than before changes nothing."""
        if not self._was_cut:
            self._until = max(self._until, moment)
            self._limit(self.seconds_left)

    def close(self) -> None:
        """No write begins from now on; those on their way have what is left of their time."""
        self._closed = True

    def cut(self) -> None:
        """No write from now on, and none goes on."""
        self._closed = self._was_cut = True
        self._until = -math.inf
        self._limit(0)

    async def idle(self, seconds: float) -> bool:
        """Wait until no write is on its way; False when that takes too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def check(self) -> None:
        """Raises NotLeader past the deadline: to be asked again when the bytes are about to leave."""
        if self.seconds_left <= 0:
            raise NotLeader("this replica may not write")

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        """Around one write. Raises NotLeader in place of it, or in the middle of it."""
        if self._closed:
            raise NotLeader("this replica may not write")
        self.check()
        limit = asyncio.timeout(_finite(self.seconds_left))
        try:
            async with limit:
                self._writes.add(limit)
                self._idle.clear()
                yield
        except TimeoutError as error:
            if limit.expired():
                raise NotLeader("this replica may no longer write") from error
            raise
        finally:
            self._writes.discard(limit)
            if not self._writes:
                self._idle.set()

    def _limit(self, seconds: float) -> None:
        finite = _finite(seconds)
        moment = None if finite is None else asyncio.get_running_loop().time() + finite
        for limit in self._writes:
            if not limit.expired():
                limit.reschedule(moment)


def _finite(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds
