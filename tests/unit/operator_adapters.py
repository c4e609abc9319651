"""The edges: lists and watches that break, agents that come and go, errors that keep their cause."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests import builders

from trimtab_api.routing import AgentReport
from trimtab_operator.adapters.api import Api, Expired
from trimtab_operator.adapters.kinds import BY_NAME, abandoned
from trimtab_operator.adapters.leftovers import LeftoverLister
from trimtab_operator.adapters.pods import HttpPods
from trimtab_operator.adapters.reflector import Lister, Reflector
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import (
    ClusterError,
    ClusterUnreachable,
    Forbidden,
    Gone,
    PodError,
)
from trimtab_operator.domain.manifests import Manifest

JOB = BY_NAME["FineTuneJob"]


def seen(name: str, version: int) -> Manifest:
    return builders.with_metadata(builders.fine_tune_job(name), resourceVersion=str(version))


class ScriptedApi(Api):
    """Lists and watches that were written down; a watch that ran out of script stays open."""

    def __init__(self, pages: list[Manifest], watches: list[list[Manifest | ClusterError]]) -> None:
        self.pages = pages
        self.watches = watches
        self.asked: list[Mapping[str, str]] = []
        self.ran_out = asyncio.Event()

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        self.asked.append(dict(request.get("query") or {}))
        return self.pages.pop(0)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Manifest]:
        self.asked.append(dict(query))
        if not self.watches:
            self.ran_out.set()
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            if isinstance(event, ClusterError):
                raise event
            yield event


def page(version: int, *items: Manifest, more: str = "") -> Manifest:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


async def followed(api: ScriptedApi) -> Store:
    """The store after the script has run out."""
    store = Store()
    lister = Lister(api, JOB, store, None, "")
    task = asyncio.create_task(Reflector(api, lister, Telemetry()).run())
    async with asyncio.timeout(10):
        await api.ran_out.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return store


def names_in(store: Store) -> list[str]:
    return sorted(name for _, name in store.keys("FineTuneJob"))


async def test_a_list_comes_in_pages() -> None:
    api = ScriptedApi([page(9, seen("a", 1), more="next"), page(9, seen("b", 2))], [])
    store = await followed(api)
    assert names_in(store) == ["a", "b"]
    assert api.asked[1]["continue"] == "next"
    assert api.asked[2]["resourceVersion"] == "9"


async def test_a_watch_that_was_cut_goes_on_where_it_was() -> None:
    event = {"type": "ADDED", "object": seen("b", 12)}
    api = ScriptedApi([page(9, seen("a", 1))], [[event, ClusterUnreachable("cut")], []])
    assert names_in(await followed(api)) == ["a", "b"]
    began = [q["resourceVersion"] for q in api.asked if "timeoutSeconds" in q]
    assert began[:2] == ["9", "12"]


async def test_after_an_expired_version_the_list_is_read_again_and_what_is_gone_goes() -> None:
    pages = [page(9, seen("a", 1), seen("b", 2)), page(20, seen("b", 2), seen("c", 15))]
    store = await followed(ScriptedApi(pages, [[Expired("410")]]))
    assert names_in(store) == ["b", "c"]


async def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "50"}}}
    api = ScriptedApi([page(9, seen("a", 1))], [[bookmark]])
    store = await followed(api)
    assert names_in(store) == ["a"]
    assert api.asked[-1]["resourceVersion"] == "50"


async def test_a_deletion_takes_the_object_out() -> None:
    event = {"type": "DELETED", "object": seen("a", 12)}
    assert names_in(await followed(ScriptedApi([page(9, seen("a", 1))], [[event]]))) == []


class WithoutKind(ScriptedApi):
    """A server that answers to no list, and why."""

    def __init__(self, error: ClusterError) -> None:
        super().__init__([], [])
        self.error = error

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        raise self.error


@pytest.mark.parametrize("error", [Gone("404"), Forbidden("403")], ids=["unserved", "forbidden"])
async def test_a_kind_that_cannot_be_listed_has_left_nothing(error: ClusterError) -> None:
    store = Store()
    kinds = abandoned("Ingress")
    assert [kind.name for kind in kinds] == ["HTTPRoute", "Route"]
    for kind in kinds:
        await LeftoverLister(WithoutKind(error), kind, store, None, "").list()
        assert store.all(kind.name) == []


async def test_what_is_left_of_a_kind_is_in_the_store() -> None:
    (kind, *_) = abandoned("None")
    left = {"metadata": {"name": "chat", "namespace": "ns", "resourceVersion": "3"}}
    store = Store()
    await LeftoverLister(ScriptedApi([page(9, left)], []), kind, store, None, "").list()
    (found,) = store.all("Ingress")
    assert (found["kind"], found["apiVersion"]) == ("Ingress", "networking.k8s.io/v1")


class Agent:
    """An agent on loopback whose report the test changes."""

    def __init__(self) -> None:
        self.report = AgentReport(sequence=1, engine_ready=False)
        self.changed = asyncio.Event()
        self.polls = 0

    async def adapters(self, request: web.Request) -> web.Response:
        self.polls += 1
        if int(request.query.get("after", "-1")) >= self.report.sequence:
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self.changed.wait()
        return web.Response(text=self.report.model_dump_json(by_alias=True))

    def says(self, report: AgentReport) -> None:
        self.report = report
        self.changed.set()
        self.changed = asyncio.Event()


async def serving(agent: Agent) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/adapters", agent.adapters)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"127.0.0.1:{runner.addresses[0][1]}"


async def test_agents_are_followed_and_each_change_wakes_the_service() -> None:
    agent = Agent()
    runner, address = await serving(agent)
    woken: asyncio.Queue[tuple[str, tuple[str, str]]] = asyncio.Queue()
    key = ("team", "chat")
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        pods = HttpPods(session)
        pods.on_change(lambda kind, key: woken.put_nowait((kind, key)))
        assert pods.follow("InferenceService", key, [address]) == {address: None}
        assert await woken.get() == ("InferenceService", key)
        agent.says(AgentReport(sequence=2, engine_ready=True))
        await woken.get()
        (report,) = pods.follow("InferenceService", key, [address]).values()
        assert report is not None
        assert report.engine_ready
        await runner.cleanup()
        await woken.get()
        assert pods.follow("InferenceService", key, [address]) == {address: None}
        assert pods.follow("InferenceService", key, []) == {}
        await pods.close()


async def test_a_pod_that_is_not_there_is_a_pod_error_with_its_cause() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(PodError) as caught:
            await HttpPods(session).progress("127.0.0.1")
    assert isinstance(caught.value.__cause__, (aiohttp.ClientError, TimeoutError))
