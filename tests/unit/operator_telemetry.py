"""What the operator says about itself: metrics, log lines that belong together, profiles."""

import asyncio
import io
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests import builders

from trimtab_operator.__main__ import JsonLines
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.cluster import ApiCluster
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.workqueue import Key, WorkQueue

A, B = ("team", "a"), ("team", "b")


@asynccontextmanager
async def served(telemetry: Telemetry, *, profiling: bool = False) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(telemetry.application(profiling=profiling))) as client:
        yield client


async def metrics(telemetry: Telemetry) -> dict[str, float]:
    async with served(telemetry) as client:
        text = await (await client.get("/metrics")).text()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    yield said
    logging.getLogger().removeHandler(handler)


async def test_how_long_the_oldest_key_has_waited_is_told() -> None:
    telemetry = Telemetry()
    release = asyncio.Event()

    async def reconcile(_: Key) -> Outcome:
        await release.wait()
        return Done()

    queue = WorkQueue("FineTuneJob", reconcile, telemetry, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(A)
    queue.add(B)
    await asyncio.sleep(0.1)
    while_waiting = await metrics(telemetry)
    release.set()
    await asyncio.sleep(0.1)
    afterwards = await metrics(telemetry)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    name = 'trimtab_operator_queue_age_seconds{kind="FineTuneJob"}'
    assert while_waiting[name] >= 0.1
    assert afterwards[name] == 0


async def test_a_watch_that_was_heard_has_an_age_and_one_that_ended_has_none() -> None:
    telemetry = Telemetry()
    telemetry.heard("/api/v1/pods")
    name = 'trimtab_operator_watch_age_seconds{watch="/api/v1/pods"}'
    assert 0 <= (await metrics(telemetry))[name] < 5
    telemetry.ended("/api/v1/pods")
    assert name not in await metrics(telemetry)


class AcceptingApi(Api):
    """Takes every write."""

    def __init__(self) -> None:
        pass

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        return builders.with_metadata(request["body"], resourceVersion="2", uid="u")


async def test_the_first_write_of_a_visit_says_how_long_the_change_has_waited(
    log_lines: io.StringIO,
) -> None:
    telemetry = Telemetry()
    cluster = ApiCluster(AcceptingApi(), Store(), telemetry, SystemClock())

    names = (f"child-{number}" for number in itertools.count())

    async def reconcile(_: Key) -> Outcome:
        for name in itertools.islice(names, 2):
            manifest = {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "team"}}
            await cluster.create(manifest, owner=None)
            logging.getLogger("reconcile").warning("written")
        return Done()

    queue = WorkQueue("FineTuneJob", reconcile, telemetry, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(A)
    await asyncio.sleep(0.05)
    queue.add(A)
    await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    told = await metrics(telemetry)
    assert told['trimtab_operator_change_to_write_seconds_count{kind="FineTuneJob"}'] == 2
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    first, same, second, _ = (line["reconcile"] for line in lines)
    assert first == same != second
    assert first.partition("-")[0] == second.partition("-")[0]
    assert {(line["kind"], line["object"]) for line in lines} == {("FineTuneJob", "a")}


async def test_a_profile_is_taken_where_the_settings_ask_for_it() -> None:
    async with served(Telemetry(), profiling=True) as client:
        taken = await client.get("/debug/profile?seconds=0.05")
        assert "function calls" in await taken.text()
        refused = await client.get("/debug/profile?seconds=3600")
        assert refused.status == 400


async def test_by_itself_there_is_no_profile_endpoint() -> None:
    async with served(Telemetry()) as client:
        assert (await client.get("/debug/profile")).status == 404
