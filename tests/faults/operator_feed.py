"""kopf gives up at the first answer that it did not expect; the feed does not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests import builders
from tests.builders import Manifest
from tests.servingkit import eventually

from trimtab_api import names
from trimtab_operator.adapters.kinds import OURS
from trimtab_operator.adapters.store import Store
from trimtab_operator.handlers import feed

KEY = ("default", "tune")
GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
LEADER_CHANGED = {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}


class TinyApi:
    """As much of an API server as kopf asks for; it can fail once in two places."""

    def __init__(self) -> None:
        self.failing_lists = 0
        self.failing_watches = 0
        self.lists = 0
        self._jobs: list[Manifest] = []

    def holds(self, name: str) -> None:
        """From now on a list has this job."""
        self._jobs.append(builders.with_metadata(builders.fine_tune_job(name), resourceVersion="7"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        group, version = names.GROUP, {"groupVersion": names.API_VERSION, "version": names.VERSION}
        found = {"name": group, "versions": [version], "preferredVersion": version}
        root = f"/apis/{names.API_VERSION}"
        answers: dict[str, Manifest] = {
            "/api": {"versions": ["v1"]},
            # Without these kopf does not begin, although it is told to leave them alone.
            "/api/v1": {"resources": [_resource("namespaces", "Namespace")]},
            "/apis": {"groups": [found]},
            root: {"resources": [_resource(kind.plural, kind.name) for kind in OURS]},
        }
        for path, answer in answers.items():
            app.router.add_get(path, _says(answer))
        app.router.add_get(root + "/{plural}", self._list_or_watch)
        async with TestServer(app) as server:
            yield f"http://127.0.0.1:{server.port}"

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        if request.match_info["plural"] != "finetunejobs":
            return web.json_response({"metadata": {"resourceVersion": "8"}, "items": []})
        self.lists += 1
        if self.failing_lists:
            self.failing_lists -= 1
            return web.json_response(GONE, status=410)
        return web.json_response({"metadata": {"resourceVersion": "8"}, "items": self._jobs})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if self.failing_watches:
            self.failing_watches -= 1
            line = {"type": "ERROR", "object": LEADER_CHANGED}
            await response.write(json.dumps(line).encode() + b"\n")
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return response


def _resource(plural: str, kind: str) -> Manifest:
    verbs = ["list", "watch"]
    named = {"name": plural, "singularName": "", "kind": kind}
    return {**named, "namespaced": kind != "Namespace", "verbs": verbs}


def _says(answer: Manifest) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(answer)

    return handle


@pytest.fixture
async def fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[TinyApi, Store]]:
    api, store = TinyApi(), Store()
    async with api.running() as address:
        config = {
            "clusters": [{"name": "tiny", "cluster": {"server": address}}],
            "users": [{"name": "tiny", "user": {"token": "any"}}],
            "contexts": [{"name": "tiny", "context": {"cluster": "tiny", "user": "tiny"}}],
            "current-context": "tiny",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield api, store


@asynccontextmanager
async def feeding(store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run(store, lambda: None, []))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("lists", "watches"),
    [
        pytest.param(0, 1, id="an error in the middle of a watch"),
        pytest.param(1, 0, id="a page of a list that has expired"),
    ],
)
async def test_the_feed_goes_on_after(lists: int, watches: int, fed: tuple[TinyApi, Store]) -> None:
    api, store = fed
    api.failing_lists, api.failing_watches = lists, watches
    async with feeding(store):
        await eventually(lambda: not (api.failing_lists or api.failing_watches))
        ours = asyncio.create_task(asyncio.sleep(60))  # a reconcile, say, that is under way
        api.holds("tune")
        await eventually(lambda: store.find("FineTuneJob", KEY))
        assert not ours.done()
        ours.cancel()


async def test_the_feed_ends_with_whoever_runs_it(fed: tuple[TinyApi, Store]) -> None:
    api, store = fed
    async with feeding(store):
        await eventually(lambda: api.lists)
    api.holds("tune")
    before = api.lists
    await asyncio.sleep(1.5)
    assert (api.lists, store.find("FineTuneJob", KEY)) == (before, None)
