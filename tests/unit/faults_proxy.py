"""The bench's proxy does what a plan says, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.builders import Manifest
from tests.faults.plans import Fault, Plan
from tests.faults.proxy import Proxy
from tests.registries import free_port

JOBS = "/apis/batch/v1/namespaces/n/jobs"
EVENTS = [f'{{"type":"ADDED","object":{{"n":{n}}}}}\n'.encode() for n in range(6)]


@dataclass
class Upstream:
    """An API server of one kind; it says of each request what it was, and counts."""

    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        if "watch" not in request.query:
            status = 201 if request.method == "POST" else 200
            metadata = {"name": "a", "resourceVersion": str(len(self.asked))}
            return web.json_response({"metadata": metadata}, status=status)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in EVENTS:
            await response.write(event)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return response


@dataclass
class Client:
    """Who asks, what is in front of it, and what is behind that."""

    proxy: Proxy
    upstream: Upstream
    address: str
    session: aiohttp.ClientSession

    async def ask(self, method: str = "GET", path: str = JOBS) -> tuple[int, Manifest]:
        async with self.session.request(method, self.address + path) as answer:
            return answer.status, json.loads(await answer.read())

    async def watch(self, seconds: float = 0.5) -> list[bytes]:
        """The lines that come within this time, whole or not."""
        seen = b""
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(seconds):
                url = f"{self.address}{JOBS}?watch=1"
                async with self.session.get(url) as answer:
                    async for data in answer.content.iter_any():
                        seen += data
        return seen.splitlines(keepends=True)


@asynccontextmanager
async def spoiled(*faults: Fault) -> AsyncIterator[Client]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    # Watches end with their clients.
    async with TestServer(app, handler_cancellation=True) as server:
        proxy, port = Proxy(f"http://127.0.0.1:{server.port}"), free_port()
        proxy.behave(Plan(1, faults))
        async with proxy.running(port), aiohttp.ClientSession() as session:
            yield Client(proxy, upstream, f"http://127.0.0.1:{port}", session)


async def test_without_a_plan_everything_passes_and_is_recorded() -> None:
    async with spoiled() as client:
        assert (await client.ask("POST"))[0] == 201
        assert (await client.ask("PATCH", f"{JOBS}/a/status"))[0] == 200
        assert await client.watch() == EVENTS
        made, patched, watched = client.proxy.calls
    assert (made.verb, made.group, made.resource, made.key) == ("create", "batch", "jobs", "jobs/a")
    assert (patched.verb, patched.resource, patched.has_created) == ("patch", "jobs/status", False)
    assert (watched.verb, made.has_created, client.proxy.writes) == ("watch", True, 2)


@pytest.mark.parametrize(
    ("kind", "method", "status"),
    [
        ("conflict", "PATCH", 409),
        ("too-many-requests", "GET", 429),
        ("internal-error", "POST", 500),
        ("unavailable", "DELETE", 503),
        ("quota-denied", "POST", 403),
        ("webhook-down", "PATCH", 500),
    ],
)
async def test_a_refusal_comes_so_often_and_reaches_nobody(
    kind: str, method: str, status: int
) -> None:
    async with spoiled(Fault(kind, times=2)) as client:
        path = JOBS if method == "POST" else f"{JOBS}/a"
        assert [(await client.ask(method, path))[0] for _ in range(2)] == [status] * 2
        assert client.upstream.asked == []
        assert (await client.ask(method, path))[0] < 400


async def test_the_next_page_has_expired_where_all_pages_are_short() -> None:
    async with spoiled(Fault("page-expired")) as client:
        assert (await client.ask(path=f"{JOBS}?limit=500"))[0] == 200
        assert client.upstream.asked == [f"GET {JOBS}?limit=2"]
        assert (await client.ask(path=f"{JOBS}?limit=500&continue=x"))[0] == 410


async def test_a_lost_answer_is_one_to_a_write_that_took_place() -> None:
    async with spoiled(Fault("answer-lost")) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.ask("PATCH", f"{JOBS}/a")
        assert client.upstream.asked == [f"PATCH {JOBS}/a"]
        assert client.proxy.writes == 1
        assert (await client.ask("PATCH", f"{JOBS}/a"))[0] == 200


async def test_a_stale_list_is_the_one_before() -> None:
    async with spoiled(Fault("stale-list", times=9)) as client:
        lists = [(await client.ask())[1] for _ in range(3)]
    assert [found["metadata"]["resourceVersion"] for found in lists] == ["1", "1", "2"]


CUT = EVENTS[2][: len(EVENTS[2]) // 2]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        pytest.param(Fault("watch-cut", after=2), [*EVENTS[:2], CUT], id="cut in the middle"),
        pytest.param(Fault("watch-silent", after=2), EVENTS[:2], id="silent"),
        pytest.param(Fault("event-dropped", share=1.0), [], id="dropped"),
        pytest.param(Fault("events-doubled"), [e for e in EVENTS for _ in range(2)], id="doubled"),
        pytest.param(Fault("events-late", seconds=0.1), EVENTS, id="late but in order"),
    ],
)
async def test_what_a_watch_shows(fault: Fault, seen: list[bytes]) -> None:
    async with spoiled(fault) as client:
        assert await client.watch() == seen


@pytest.mark.parametrize(
    ("fault", "before", "code"),
    [
        (Fault("watch-expired"), 0, 410),
        (Fault("watch-failed", after=3), 3, 500),
        (Fault("event-dropped-then-expired", after=3), 3, 410),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_a_watch_ends_in_an_error_once(fault: Fault, before: int, code: int) -> None:
    async with spoiled(fault) as client:
        *events, last = await client.watch()
        assert events == EVENTS[:before]
        assert json.loads(last)["object"]["code"] == code
        assert await client.watch() == EVENTS
