"""Events, written beside the reconciles.

What should worry somebody is written before the reconcile goes on: a decision that follows may be
the last time that anybody looks. Everything else goes when there is time: an Event costs the API
server as much as a child, so a crowd of new objects gets its children first, and its "Preparing"
after them.
"""

import asyncio
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from trimtab_api import names
from trimtab_operator.adapters.api import AlreadyThere, Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.kinds import EVENT
from trimtab_operator.adapters.reflector import asked_to_wait
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.errors import ClusterError
from trimtab_operator.domain.events import WARNING, Event
from trimtab_operator.domain.manifests import Manifest

log = logging.getLogger(__name__)
REMEMBERED: Final = 4096
# Older ones give way: nobody reads ten thousand Events, and they are kept for an hour at most.
WAITING_AT_MOST: Final = 10_000
AT_ONCE: Final = 100
PER_SECOND: Final = 25.0
# While keys wait for a worker; not none, since that may go on for long.
PER_SECOND_BESIDE_A_CROWD: Final = 5.0
LONGEST_MESSAGE: Final = 1024


class Recorder:
    """Says each Event once, as far as it remembers; the name derived from it keeps the rest apart."""

    def __init__(self, api: Api, clock: SystemClock, counted: Callable[[], None]) -> None:
        self._api = api
        self._clock = clock
        self._counted = counted
        self._said: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[Manifest] = deque(maxlen=WAITING_AT_MOST)
        self._woken = asyncio.Event()
        self._not_before = 0.0  # the server has asked for a pause until then

    async def record(self, event: Event) -> None:
        """Say it, or see to it that it is said. A failure to say it is never an error."""
        if event.name in self._said:
            return
        self._said[event.name] = None
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        body = self._body(event)
        if event.type == WARNING and asyncio.get_running_loop().time() >= self._not_before:
            await self._write(body)
        else:
            self._waiting.append(body)
            self._woken.set()

    async def run(self, is_crowded: Callable[[], bool] = lambda: False) -> None:
        """Write what waits, until cancelled: a hundred at once, and then no faster than readers read.

        `is_crowded` says whether there is more to do than can be done at once.
        """
        now = asyncio.get_running_loop().time
        allowance, looked = float(AT_ONCE), now()
        while True:
            self._woken.clear()
            while self._waiting:
                moment = now()
                if moment < self._not_before:
                    await asyncio.sleep(self._not_before - moment)
                    continue
                allowance = min(allowance + (moment - looked) * PER_SECOND, AT_ONCE)
                looked = moment
                if allowance < 1:
                    await asyncio.sleep((1 - allowance) / PER_SECOND)
                    continue
                if is_crowded():
                    await asyncio.sleep(1 / PER_SECOND_BESIDE_A_CROWD)
                allowance -= 1
                await self._write(self._waiting.popleft())
            await self._woken.wait()

    async def _write(self, body: Manifest) -> None:
        metadata = body["metadata"]
        self._counted()
        try:
            await self._api.request("POST", EVENT.path(metadata["namespace"]), body=body)
        except AlreadyThere:
            log.debug("event was said before", extra={"event": metadata["name"]})
        except ClusterError as error:
            # It may be said again when it is true again.
            self._said.pop(metadata["name"], None)
            told = {"reason": body["reason"], "error": str(error)}
            log.warning("event was not said", extra=told)
            # Whatever comes next waits as well: it may be the same Event, said again.
            self._not_before = asyncio.get_running_loop().time() + asked_to_wait(error)

    def _body(self, event: Event) -> Manifest:
        now = timestamp(self._clock.now())
        metadata: Manifest = {"name": event.name, "namespace": event.namespace}
        if event.correlation:
            metadata["labels"] = {names.LABEL_CORRELATION: event.correlation}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": event.kind,
                "namespace": event.namespace,
                "name": event.object_name,
                "uid": event.uid,
            },
            "reason": event.reason,
            "message": event.message[:LONGEST_MESSAGE],
            "type": event.type,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": names.FIELD_MANAGER},
            "reportingComponent": f"{names.GROUP}/operator",
            "reportingInstance": socket.gethostname(),
        }
