"""The net under all watches: what they have missed is found by listing, whatever they have said."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.domain.errors import ClusterError
from trimtab_operator.handlers.dispatch import Dispatcher

log = logging.getLogger(__name__)
TRIED_AGAIN_AFTER_SECONDS: Final = 5.0
# Over which part of the time until the next one everything is looked at.
SPREAD: Final = 0.2


class Resync:
    """Lists everything now and then, and looks at everything afterwards.

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
        await self._list(self._unfollowed)
        while True:
            await asyncio.sleep(self._seconds)
            await self._list([*self._followed, *self._unfollowed])
            self._dispatcher.all_again(timedelta(seconds=self._seconds * SPREAD))

    async def _list(self, listers: Sequence[Lister]) -> None:
        """However often it takes: what failed now is not put off until the next time."""
        while True:
            try:
                for lister in listers:
                    await lister.list()
            except ClusterError as error:
                log.warning("resync put off", extra={"error": str(error)})
                await asyncio.sleep(self._again_after_seconds)
            else:
                return
