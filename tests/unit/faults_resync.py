"""The net under the watches has no holes: nothing puts it off for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from tests.servingkit import eventually

from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterUnreachable
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.handlers.dispatch import Dispatcher
from trimtab_operator.handlers.resync import Resync
from trimtab_operator.workqueue import Key, WorkQueue


class Lists(Api):
    """An API server that has one object, is away for the first lists, and never has what is broken."""

    def __init__(self, failing: int = 0, broken: str = "", after: timedelta | None = None) -> None:
        self.failing = failing
        self.broken = broken
        self.after = after
        self.asked: list[str] = []

    async def request(self, method: str, path: str, **_: object) -> Manifest:
        self.asked.append(path)
        if path == self.broken:
            raise ClusterUnreachable("one object cannot be read")
        if self.failing:
            self.failing -= 1
            raise ClusterUnreachable("away", after=self.after)
        item = {"metadata": {"namespace": "n", "name": "lost", "resourceVersion": "5"}}
        return {"metadata": {"resourceVersion": "9"}, "items": [item]}


LEFT = BY_NAME["Ingress"].path(None)


async def test_a_pause_that_was_asked_for_holds_for_whoever_lists_next() -> None:
    api = Lists(failing=1, after=timedelta(seconds=0.2))
    lister = Lister(api, BY_NAME["Job"], Store(), None, "")
    now = asyncio.get_running_loop().time
    with suppress(ClusterUnreachable):
        await lister.list()
    refused = now()
    await lister.list()
    assert now() - refused >= 0.19


@asynccontextmanager
async def resyncing(
    api: Api, store: Store, seconds: float, *queues: WorkQueue
) -> AsyncIterator[None]:
    jobs, left = ([Lister(api, BY_NAME[k], store, None, "")] for k in ("Job", "Ingress"))
    dispatcher = Dispatcher(store, {queue.kind: queue for queue in queues})
    resync = Resync(jobs, left, dispatcher, seconds=seconds, again_after_seconds=0.02)
    task = asyncio.create_task(resync.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_event_that_was_lost_is_found() -> None:
    store = Store()
    async with resyncing(Lists(), store, 0.05):
        await eventually(lambda: store.find("Job", ("n", "lost")))


async def test_everything_is_looked_at_though_nothing_has_changed() -> None:
    visits: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        visits.append(key)
        return Done()

    store, queue = Store(), WorkQueue("FineTuneJob", reconcile, Telemetry())
    for name in ("a", "b"):
        metadata = {"namespace": "n", "name": name, "resourceVersion": "3"}
        store.put("FineTuneJob", {"metadata": metadata})
    working = asyncio.create_task(queue.run())
    async with resyncing(Lists(), store, 0.05, queue):
        await eventually(lambda: {("n", "a"), ("n", "b")} <= set(visits))
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def test_what_nobody_follows_is_listed_at_the_start_and_alone() -> None:
    api = Lists()
    async with resyncing(api, Store(), 60):
        await asyncio.sleep(0.1)
    assert api.asked == [LEFT]


async def test_a_list_that_failed_is_not_put_off_until_the_next_time() -> None:
    api, store = Lists(failing=2), Store()
    async with resyncing(api, store, 60):
        await eventually(lambda: store.find("Ingress", ("n", "lost")))
    assert api.asked == [LEFT] * 3


async def test_a_kind_that_cannot_be_listed_holds_up_no_other() -> None:
    visits: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        visits.append(key)
        return Done()

    api, store = Lists(broken=LEFT), Store()
    queue = WorkQueue("FineTuneJob", reconcile, Telemetry())
    store.put("FineTuneJob", {"metadata": {"namespace": "n", "name": "a", "resourceVersion": "3"}})
    working = asyncio.create_task(queue.run())
    async with resyncing(api, store, 0.1, queue):
        await eventually(lambda: store.find("Job", ("n", "lost")))
        await eventually(lambda: len(visits) > 2)
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    assert api.asked.count(LEFT) > 3


async def test_a_list_that_is_asked_to_wait_is_not_tried_again_before() -> None:
    api = Lists(failing=1, after=timedelta(seconds=60))
    async with resyncing(api, Store(), 60):
        await asyncio.sleep(0.1)
    assert api.asked == [LEFT]
