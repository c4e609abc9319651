"""Nobody but the leader writes: the fence around all writes."""

import asyncio
import math
import ssl
from typing import Any

import pytest
from tests.leading import Hand, slow_write
from tests.wireserver import OK, says, serving

from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.credentials import Credentials
from trimtab_operator.adapters.fence import Fence, boot_seconds
from trimtab_operator.adapters.lease import Unopposed
from trimtab_operator.adapters.wire import Place, Wire
from trimtab_operator.domain.errors import NotLeader
from trimtab_operator.domain.manifests import Manifest


async def test_nothing_is_written_before_the_fence_opens_and_after_its_deadline() -> None:
    now = Hand()
    fence = Fence(now)
    assert await slow_write(fence, 0) == "cut"
    fence.open_until(now() + 10)
    now.seconds += 9.9
    assert await slow_write(fence, 0) == "written"
    now.seconds += 0.2
    assert await slow_write(fence, 0) == "cut"


async def test_a_write_on_its_way_is_cut_at_the_deadline() -> None:
    fence = Fence()
    fence.open_until(boot_seconds() + 0.05)
    assert await slow_write(fence, 5) == "cut"


async def test_a_write_on_its_way_goes_on_when_the_deadline_is_put_off() -> None:
    fence = Fence()
    fence.open_until(boot_seconds() + 0.05)
    writing = asyncio.create_task(slow_write(fence, 0.15))
    await asyncio.sleep(0.02)
    fence.open_until(boot_seconds() + 5)
    assert await writing == "written"


async def test_closing_lets_writes_on_their_way_end_and_begins_none() -> None:
    fence = Fence()
    fence.open_until(boot_seconds() + 5)
    writing = asyncio.create_task(slow_write(fence, 0.1))
    await asyncio.sleep(0.02)
    fence.close()
    assert await slow_write(fence, 0) == "cut"
    assert not await fence.idle(0.01)
    assert await fence.idle(5)
    assert await writing == "written"


async def test_a_fence_that_was_cut_never_opens_again() -> None:
    fence = Fence()
    fence.open_until(boot_seconds() + 5)
    writing = asyncio.create_task(slow_write(fence, 5))
    await asyncio.sleep(0.02)
    fence.cut()
    fence.open_until(boot_seconds() + 5)
    assert await writing == "cut"
    assert await slow_write(fence, 0) == "cut"


async def test_an_error_of_the_write_itself_stays_what_it_is() -> None:
    fence = Fence()
    fence.open_until(math.inf)
    with pytest.raises(TimeoutError):
        async with fence.write(), asyncio.timeout(0.01):
            await asyncio.sleep(5)


class Noting(Api):
    """An API connection that notes what is sent."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self.sent: list[str] = []

    async def _request(self, method: str, *_: Any) -> Manifest:
        self.sent.append(method)
        return {}


async def test_every_request_but_a_read_goes_through_the_fence() -> None:
    fence = Fence()
    wire = Noting(fence)
    await wire.request("GET", "/")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        with pytest.raises(NotLeader):
            await wire.request(method, "/")
    fence.open_until(math.inf)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        await wire.request(method, "/")
    assert wire.sent == ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def test_a_write_that_is_ready_too_late_sends_nothing() -> None:
    """As in a process that is stopped in between, and goes on when another one leads."""
    now = Hand()
    fence = Fence(now)
    fence.open_until(now() + 10)

    async def stopped() -> None:
        now.seconds += 11

    async with serving(says(OK)) as server:
        place = Place(f"http://127.0.0.1:{server.port}", ssl.create_default_context())
        api = Api(Credentials(place, stopped), Wire(place), fence)
        with pytest.raises(NotLeader):
            await api.request("POST", "/", body={})
        await api.close()
    assert (server.connections, server.requests) == (1, [])


async def test_without_an_election_writes_are_always_let_through() -> None:
    fence = Fence()
    alone = Unopposed(fence)
    await alone.win()
    await alone.keep()
    assert await slow_write(fence, 0.01) == "written"
