"""The net under all watches: what they have missed is found by listing, whatever they have said."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from trimtab_operator.adapters.reflector import Lister, asked_to_wait
from trimtab_operator.domain.errors import ClusterError
from trimtab_operator.handlers.dispatch import Dispatcher

log = logging.getLogger(__name__)
TRIED_AGAIN_AFTER_SECONDS: Final = 5.0
# Over which part of the time until the next one everything is looked at.
SPREAD: Final = 0.2


class Resync:
    """Looks at everything now and then, and lists everything beside it.

    What no reflector follows it lists at its start, too.
    """

    def __init__(
        self,
        followed: Sequence[Lister],
        unfollowed: Sequence[Lister],
        dispatcher: Dispatcher,
        *,
        seconds: float,
        again_after_seconds: float = TRIED_AGAIN_AFTER_SECONDS,
    ) -> None:
        self._followed = followed
        self._unfollowed = unfollowed
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._again_after_seconds = again_after_seconds

    async def run(self) -> None:
        """Until cancelled."""
        listers = self._unfollowed
        while True:
            # What could not be listed by then is asked for anew.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._list(listers)
                    await asyncio.Event().wait()
            listers = [*self._followed, *self._unfollowed]
            # What a list brings to light wakes its key by itself: nobody has to wait for the lists.
            self._dispatcher.all_again(timedelta(seconds=self._seconds * SPREAD))

    async def _list(self, listers: Iterable[Lister]) -> None:
        """Each for itself: a kind that cannot be listed holds up no other."""
        async with asyncio.TaskGroup() as tasks:
            for lister in listers:
                tasks.create_task(self._listed(lister))

    async def _listed(self, lister: Lister) -> None:
        """However often it takes: what failed now is not put off until the next time."""
        while True:
            try:
                await lister.list()
            except ClusterError as error:
                told = {"list": lister.name, "error": str(error)}
                log.warning("resync put off", extra=told)
                await asyncio.sleep(max(self._again_after_seconds, asked_to_wait(error)))
            else:
                return
