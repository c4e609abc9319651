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
    """Lists everything now and then, sooner after a list that failed, and then looks at everything."""

    def __init__(
        self,
        listers: Sequence[Lister],
        dispatcher: Dispatcher,
        *,
        seconds: float,
        again_after_seconds: float = TRIED_AGAIN_AFTER_SECONDS,
    ) -> None:
        self._listers = listers
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._again_after_seconds = again_after_seconds

    async def run(self) -> None:
        """Until cancelled."""
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            pause = self._seconds
            try:
                for lister in self._listers:
                    await lister.list()
            except ClusterError as error:
                log.warning("resync put off", extra={"error": str(error)})
                pause = min(self._seconds, self._again_after_seconds)
            else:
                self._dispatcher.all_again(timedelta(seconds=self._seconds * SPREAD))
