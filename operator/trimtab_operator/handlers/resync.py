"""The net under all watches: what they have missed is found by listing.

When kopf lists anew it was away, and it never says what has vanished in the meantime. So what no
reflector follows is listed right after it, and everything now and then, whatever watches have said.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.domain.errors import ClusterError
from trimtab_operator.handlers.dispatch import Dispatcher

log = logging.getLogger(__name__)
# A list of kopf's comes as many events; they are over after a moment of silence.
SETTLED_SECONDS: Final = 5.0
# Over which part of the time until the next one everything is looked at.
SPREAD: Final = 0.2


class Resync:
    """Lists when it is due, when kopf has listed, and again soon after a list that failed."""

    def __init__(
        self,
        unwatched: Sequence[Lister],
        watched: Sequence[Lister],
        dispatcher: Dispatcher,
        *,
        seconds: float,
        settled_seconds: float = SETTLED_SECONDS,
    ) -> None:
        self._unwatched = unwatched
        self._watched = watched
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._settled_seconds = settled_seconds
        self._asked = asyncio.Event()

    def soon(self) -> None:
        """Something may have vanished unseen."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        now = asyncio.get_running_loop().time
        due = now() + self._seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._asked.wait()
                    await asyncio.sleep(self._settled_seconds)
            # Being asked often must not put off what is due.
            is_due = now() >= due
            self._asked.clear()
            if not await self._list(is_due=is_due):
                self._asked.set()
                await asyncio.sleep(self._settled_seconds)
            elif is_due:
                due = now() + self._seconds
                self._dispatcher.all_again(timedelta(seconds=self._seconds * SPREAD))

    async def _list(self, *, is_due: bool) -> bool:
        try:
            for lister in (*self._unwatched, *self._watched) if is_due else self._unwatched:
                await lister.list()
        except ClusterError as error:
            log.warning("resync put off", extra={"error": str(error)})
            return False
        return True
