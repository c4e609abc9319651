"""The load and the outside view: creates, changes, and watches that note when they saw what.

Of what comes in great numbers nothing is parsed: this process shares its core with the API server,
and what it uses is missing there.
"""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from bench.operator import objects
from bench.operator.controlplane import LOAD, ControlPlane
from bench.operator.objects import Manifest

PARALLEL = 16
MERGE = "application/merge-patch+json"
_OWNER = re.compile(rb'"name":"(ftj-\d{5})"')
_OBSERVED = b'"observedGeneration":1'


def connections(plane: ControlPlane) -> aiohttp.ClientSession:
    """Connections as whoever makes the load, without limits of their own."""
    context = ssl.create_default_context(cafile=str(plane.certificate))
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {LOAD}"},
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=2**20,
    )


class Load:
    """One client of the API server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @asynccontextmanager
    async def on(cls, plane: ControlPlane) -> AsyncIterator["Load"]:
        """With connections of its own, as long as the context lasts."""
        async with connections(plane) as session:
            yield cls(session, plane.url)

    async def create(self, path: str, manifests: Iterable[Manifest]) -> None:
        """All of them, as fast as a few connections can."""
        left = iter([json.dumps(manifest).encode() for manifest in manifests])

        async def work() -> None:
            for body in left:
                await self._send("POST", path, body, "application/json")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(PARALLEL):
                tasks.create_task(work())

    async def suspend(self, index: int, value: bool) -> None:
        """Change `suspend` of one object."""
        body = json.dumps({"spec": {"suspend": value}}).encode()
        await self._send("PATCH", f"{objects.JOBS}/{objects.name_of(index)}", body, MERGE)

    async def count(self, path: str) -> int:
        """How many there are, without reading them."""
        async with self._session.get(f"{self._url}{path}?limit=1") as answer:
            content = await answer.json()
        left: int = content["metadata"].get("remainingItemCount", 0)
        return len(content["items"]) + left

    async def answers(self, url: str) -> bool:
        """Whether the address says yes."""
        try:
            async with self._session.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    @asynccontextmanager
    async def watching(
        self, path: str, seen: Callable[[float, bytes], None]
    ) -> AsyncIterator[None]:
        """Call `seen` with the moment and the raw event, for each change from now on."""
        async with self._session.get(f"{self._url}{path}?limit=1") as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={version}"
        async with self._session.get(f"{self._url}{path}{query}") as answer:
            answer.raise_for_status()

            async def follow() -> None:
                async for line in answer.content:
                    seen(time.perf_counter(), line)
                raise RuntimeError("the bench's own watch has ended")

            following = asyncio.create_task(follow())
            try:
                yield
                if following.done():
                    following.result()
            finally:
                following.cancel()

    async def _send(self, method: str, path: str, body: bytes, style: str) -> None:
        headers = {"Content-Type": style}
        url = f"{self._url}{path}"
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            if answer.status >= 400:
                raise RuntimeError(await answer.text())
            await answer.read()


class Convergence:
    """Waits until every object has a status: the last thing that each system writes."""

    def __init__(self, count: int) -> None:
        self._missing = {objects.name_of(index).encode() for index in range(count)}
        self._done = asyncio.Event()
        self.last = 0.0

    def seen(self, moment: float, line: bytes) -> None:
        """An event of the watch on FineTuneJobs."""
        if _OBSERVED not in line:
            return
        found = _OWNER.search(line)
        if found and found[1] in self._missing:
            self._missing.remove(found[1])
            self.last = moment
            if not self._missing:
                self._done.set()

    async def wait(self, seconds: float) -> None:
        """Until all are there."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError as error:
            message = f"{len(self._missing)} objects have no status after {seconds:g} s"
            raise RuntimeError(message) from error


class Changes:
    """From a changed spec to the first write to a child, both seen by watches."""

    def __init__(self) -> None:
        self._spec: dict[tuple[str, bool], float] = {}
        self._child: dict[tuple[str, bool], float] = {}
        self._wanted: set[tuple[str, bool]] = set()
        self._sent: dict[tuple[str, bool], float] = {}
        self._done = asyncio.Event()

    def expect(self, index: int, value: bool) -> None:
        """This change is made now."""
        change = (objects.name_of(index), value)
        self._wanted.add(change)
        self._sent[change] = time.perf_counter()
        self._done.clear()

    def spec_seen(self, moment: float, line: bytes) -> None:
        """An event of the watch on FineTuneJobs."""
        item = json.loads(line)["object"]
        change = (item["metadata"]["name"], bool(item["spec"].get("suspend")))
        if change in self._wanted:
            self._spec.setdefault(change, moment)

    def child_seen(self, moment: float, line: bytes) -> None:
        """An event of the watch on Jobs."""
        item: dict[str, Any] = json.loads(line)["object"]
        owner = item["metadata"]["ownerReferences"][0]["name"]
        change = (owner, bool(item["spec"].get("suspend")))
        if change in self._wanted:
            self._child.setdefault(change, moment)
            if len(self._child) == len(self._wanted):
                self._done.set()

    async def wait(self, seconds: float) -> None:
        """Until each change has reached its child."""
        async with asyncio.timeout(seconds):
            await self._done.wait()

    @property
    def moments(self) -> list[float]:
        """When each change was seen at its child."""
        return list(self._child.values())

    def since_seen(self) -> list[float]:
        """Seconds from the changed spec to the changed child, as a bystander sees them."""
        return [self._child[change] - self._spec[change] for change in self._wanted]

    def since_sent(self) -> list[float]:
        """Seconds from the request for the change to the changed child."""
        return [self._child[change] - self._sent[change] for change in self._wanted]
