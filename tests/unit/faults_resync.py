"""The net under the watches has no holes: nothing puts it off for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from tests.servingkit import eventually

from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.adapters.store import Store
from trimtab_operator.domain.errors import ClusterUnreachable
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.handlers.dispatch import Dispatcher
from trimtab_operator.handlers.resync import Resync


class Lists(Api):
    """An API server that has one object, and is away for the first lists."""

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.asked: list[str] = []

    async def request(self, method: str, path: str, **_: object) -> Manifest:
        self.asked.append(path)
        if self.failing:
            self.failing -= 1
            raise ClusterUnreachable("away")
        item = {"metadata": {"namespace": "n", "name": "lost", "resourceVersion": "5"}}
        return {"metadata": {"resourceVersion": "9"}, "items": [item]}


JOBS = BY_NAME["Job"].path(None)
OURS = BY_NAME["FineTuneJob"].path(None)


@asynccontextmanager
async def resyncing(api: Api, store: Store, seconds: float) -> AsyncIterator[Resync]:
    ours, jobs = (Lister(api, BY_NAME[k], store, None, "") for k in ("FineTuneJob", "Job"))
    dispatcher = Dispatcher(store, {})
    resync = Resync([ours], [jobs], dispatcher, seconds=seconds, settled_seconds=0.02)
    task = asyncio.create_task(resync.run())
    try:
        yield resync
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_childs_event_that_was_lost_is_found() -> None:
    store = Store()
    async with resyncing(Lists(), store, 0.05):
        await eventually(lambda: store.find("Job", ("n", "lost")))


async def test_what_kopf_has_missed_is_found_at_once_and_alone() -> None:
    api = Lists()
    async with resyncing(api, Store(), 60) as resync:
        resync.soon()
        await eventually(lambda: api.asked)
        await asyncio.sleep(0.1)
    assert api.asked == [OURS]


async def test_a_kopf_that_lists_all_the_time_does_not_put_it_off() -> None:
    api = Lists()
    async with resyncing(api, Store(), 0.2) as resync:
        for _ in range(100):
            resync.soon()
            await asyncio.sleep(0.01)
            if JOBS in api.asked:
                return
    pytest.fail("it was never due")


async def test_a_list_that_failed_is_not_put_off_until_the_next_time() -> None:
    api = Lists(failing=2)
    async with resyncing(api, Store(), 60) as resync:
        resync.soon()
        await eventually(lambda: len(api.asked) > 2)
