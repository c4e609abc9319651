"""What the fault bench has found in the operator, each in a few lines, named after what went wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests import batchjobs, builders, servicelife
from tests.fakes import FakeAgents
from tests.faults.subjects import schema_of
from tests.jobworld import KEY, TRAINED, job, prepared, said, trained, visit, world

from trimtab_api import names
from trimtab_api.routing import AgentReport
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_operator.adapters.api import Api, Expired
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.cluster import ApiCluster
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.adapters.pods import HttpPods
from trimtab_operator.adapters.reflector import Lister, Reflector
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterError, ClusterUnreachable, Conflict, NameTaken
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.observation import CATCHES_UP_WITHIN
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.domain.sameness import includes
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.reconcilers.ports import Key
from trimtab_operator.workqueue import WorkQueue


async def test_jobs_of_an_earlier_attempt_stayed_when_their_deletion_met_a_conflict() -> None:
    fake = await prepared(world())
    batchjobs.fails(fake.cluster, names.TRAIN)
    await visit(fake)
    before = {j["metadata"]["name"] for j in fake.cluster.of_kind("Job")}
    asked = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    fake.cluster.edit("FineTuneJob", KEY, asked)
    fake.cluster.fails = lambda verb, _: (
        Conflict("somebody was faster") if verb == "delete" else None
    )
    with pytest.raises(Conflict):
        await visit(fake)
    assert job(fake).status.attempt == 1
    fake.cluster.fails = lambda verb, manifest: None
    await visit(fake)
    assert not before & {j["metadata"]["name"] for j in fake.cluster.of_kind("Job")}


class Forgetful(Api):
    """A server that knows the version of its last list, and of no list before that."""

    def __init__(self) -> None:
        self.lists = 0
        self.is_followed = asyncio.Event()

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        self.lists += 1
        return {"metadata": {"resourceVersion": str(10 // self.lists)}, "items": []}

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Manifest]:
        if query["resourceVersion"] == "10":
            raise ClusterUnreachable("Too large resource version: 10, current: 5")
        self.is_followed.set()
        await asyncio.Event().wait()
        yield {}


async def test_a_watch_asked_for_ever_from_a_version_that_the_server_does_not_know() -> None:
    api, kind = Forgetful(), BY_NAME["Job"]
    lister = Lister(api, kind, Store(), None, "")
    following = asyncio.create_task(Reflector(api, lister, Telemetry()).run())
    async with asyncio.timeout(10):
        await api.is_followed.wait()
    assert api.lists == 2
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


class Refusing(Forgetful):
    """A server that answers every list with this error."""

    def __init__(self, error: ClusterError) -> None:
        super().__init__()
        self.error = error

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        self.lists += 1
        await asyncio.sleep(0.01)
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Expired("the continue parameter is too old"), id="because they had expired"),
        pytest.param(ClusterUnreachable("busy", timedelta(hours=1)), id="before Retry-After"),
    ],
)
async def test_lists_were_asked_for_again_without_a_pause(error: ClusterError) -> None:
    api = Refusing(error)
    lister = Lister(api, BY_NAME["Job"], Store(), None, "")
    following = asyncio.create_task(Reflector(api, lister, Telemetry()).run())
    await asyncio.sleep(1.2)
    assert api.lists <= (1 if isinstance(error, ClusterUnreachable) else 3)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_a_key_came_back_before_retry_after_because_something_had_changed() -> None:
    visits: list[float] = []
    now = asyncio.get_running_loop().time

    async def refused(_: Key) -> Outcome:
        visits.append(now())
        if len(visits) == 1:
            raise ClusterUnreachable("too many requests", timedelta(seconds=0.3))
        return Done()

    queue = WorkQueue("FineTuneJob", refused, Telemetry())
    working = asyncio.create_task(queue.run())
    queue.add(KEY)
    while len(visits) < 2:
        await asyncio.sleep(0.02)
        queue.add(KEY)  # somebody else changes it all the time
    assert visits[1] - visits[0] >= 0.3
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


@asynccontextmanager
async def refusing(
    folder: Path, status: int = 409, retry_after: str = "", **details: Any
) -> AsyncIterator[Api]:
    """An API server that answers so to everything."""
    body = {"reason": "Conflict", "message": "the object has been modified", "details": details}

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers={"Retry-After": retry_after})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        config = {
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
            "users": [{"name": "a", "user": {"token": "any"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        api = await Api.connect(str(folder / "kubeconfig"))
        try:
            yield api
        finally:
            await api.close()


@pytest.mark.parametrize(
    ("causes", "error"),
    [
        pytest.param([], Conflict, id="of versions"),
        pytest.param([{"reason": "FieldManagerConflict"}], NameTaken, id="of owners"),
    ],
)
async def test_a_new_child_was_called_somebody_elses_after_any_conflict(
    causes: list[Manifest], error: type[Exception], tmp_path: Path
) -> None:
    owner = FineTuneJob.model_validate(
        builders.with_metadata(builders.fine_tune_job(), uid="u", resourceVersion="1")
    )
    child = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c", "namespace": "n"}}
    async with refusing(tmp_path, causes=causes) as api:
        cluster = ApiCluster(api, Store(), Telemetry(), SystemClock())
        with pytest.raises(error) as raised:
            await cluster.apply(child, owner)
    assert raised.type is error


@pytest.mark.parametrize(("told", "seconds"), [("7", 7), ("9999", 300), ("", None), ("soon", None)])
async def test_a_server_says_how_long_it_wants_to_be_left_alone(
    told: str, seconds: int | None, tmp_path: Path
) -> None:
    async with refusing(tmp_path, 429, told) as api:
        with pytest.raises(ClusterUnreachable) as raised:
            await api.request("GET", "/version")
    assert raised.value.after == (timedelta(seconds=seconds) if seconds else None)


@dataclass
class NotYetHeard(FakeAgents):
    """Agents that an operator which has just begun has not asked yet."""

    heard: bool = False

    def follow(
        self, kind: str, key: Key, addresses: Collection[str]
    ) -> Mapping[str, AgentReport | None]:
        found = super().follow(kind, key, addresses)
        return found if self.heard else dict.fromkeys(found)

    async def first_words(self, addresses: Collection[str]) -> None:
        self.heard = set(addresses) == set(self.reports)


async def test_a_restart_wrote_that_agents_were_silent_who_had_not_been_asked() -> None:
    fake = await servicelife.serving()
    before = fake.cluster.writes
    agents = NotYetHeard(reports=fake.agents.reports)
    fake.agents = agents
    await reconcile(servicelife.KEY, fake.world)
    assert fake.cluster.writes == before
    assert agents.heard


async def test_first_words_are_waited_for_but_not_from_the_dead() -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        report = AgentReport(sequence=1, engine_ready=True)
        return web.json_response(text=report.model_dump_json(by_alias=True))

    app = web.Application()
    app.router.add_get("/adapters", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        living, dead = f"127.0.0.1:{server.port}", "127.0.0.1:9"
        pods = HttpPods(session)
        pods.follow("InferenceService", KEY, [living, dead])
        await pods.first_words([living, dead])
        found = pods.follow("InferenceService", KEY, [living, dead])
        await pods.close()
    assert (found[living] is not None, found[dead]) == (True, None)


# --- what the change bench has found ---


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("1024Ti", "1Pi"),
        ("1000000000000000", "1P"),
        ("0.0001", "1m"),
        ("99999999999999Ti", "9223372036854775807"),
    ],
)
def test_amounts_in_units_that_only_the_server_writes_were_applied_again_and_again(
    asked: str, kept: str
) -> None:
    assert includes({"memory": kept}, {"memory": asked})


async def test_a_finished_job_that_had_lost_its_status_failed_for_ever() -> None:
    fake = await trained(world())
    version = job(fake).status.model_version
    fake.cluster.edit("FineTuneJob", KEY, {"status": None})
    for _ in range(3):
        await visit(fake)
    assert said(fake, "Complete").status == "True"
    assert job(fake).status.model_version == version


async def test_a_version_never_said_which_image_trained_it_because_the_jobs_end_was_seen_first() -> (
    None
):
    fake = await prepared(world())
    batchjobs.runs(fake.cluster, names.TRAIN)
    batchjobs.verdict(fake.cluster, names.TRAIN, "Complete", "CompletionsReached", "")
    assert await visit(fake) == Done(CATCHES_UP_WITHIN)
    assert job(fake).status.model_version is None
    batchjobs.succeeds(fake.cluster, names.TRAIN, TRAINED, image="sha256:" + "a" * 64)
    await visit(fake)
    assert said(fake, "Complete").status == "True"
    resolved = job(fake).status.resolved
    assert resolved is not None
    assert resolved.image_digest == "sha256:" + "a" * 64


async def test_a_job_whose_pod_had_not_been_seen_yet_was_thought_to_have_left_nothing() -> None:
    fake = await prepared(world())
    batchjobs.verdict(fake.cluster, names.TRAIN, "Complete", "CompletionsReached", "")
    assert await visit(fake) == Done(CATCHES_UP_WITHIN)
    batchjobs.succeeds(fake.cluster, names.TRAIN, TRAINED)
    await visit(fake)
    assert said(fake, "Complete").status == "True"


async def test_a_job_said_for_good_that_it_had_failed_and_not_why() -> None:
    fake = await prepared(world())
    batchjobs.runs(fake.cluster, names.TRAIN)
    batchjobs.verdict(fake.cluster, names.TRAIN, "Failed", "BackoffLimitExceeded", "the limit")
    await visit(fake)
    batchjobs.fails(fake.cluster, names.TRAIN, terminated={"reason": "OOMKilled"})
    await visit(fake)
    assert (said(fake, "Failed").status, said(fake, "Failed").reason) == ("True", "OutOfMemory")


async def test_a_pod_whose_end_nobody_ever_hears_of_holds_up_no_verdict() -> None:
    fake = await prepared(world())
    batchjobs.runs(fake.cluster, names.TRAIN)
    batchjobs.verdict(fake.cluster, names.TRAIN, "Failed", "BackoffLimitExceeded", "the limit")
    await visit(fake)
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
    await visit(fake)
    assert said(fake, "Failed").status == "True"


@pytest.mark.parametrize("name", ["selector", "podSelector", "labelSelector"])
def test_a_label_that_somebody_had_added_to_a_selector_stayed_and_it_found_nobody(
    name: str,
) -> None:
    wanted = {"spec": {name: {"app": "chat"}}}
    assert includes(wanted, wanted)
    assert not includes({"spec": {name: {"app": "chat", "nobody": "has"}}}, wanted)


async def test_conditions_of_a_finished_job_spoke_of_the_spec_before() -> None:
    fake = await trained(world())
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"activeDeadlineSeconds": 60}})
    await visit(fake)
    found = job(fake)
    about = {c.observed_generation for c in found.status.conditions}
    assert about == {found.metadata.generation}


async def test_a_job_that_ended_while_it_was_being_suspended_said_for_ever_that_it_is() -> None:
    fake = await prepared(world())
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    batchjobs.succeeds(fake.cluster, names.TRAIN, TRAINED)
    await visit(fake)
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    await visit(fake)
    assert [said(fake, kind).status for kind in ("Complete", "Suspended")] == ["True", "False"]


@pytest.mark.parametrize("name", ["activeDeadlineSeconds", "ttlSecondsAfterFinished"])
def test_a_span_that_nobody_can_count_ended_a_job_at_once_or_failed_each_reconcile(
    name: str,
) -> None:
    longest = schema_of("FineTuneJob")["properties"][name]["maximum"]
    assert longest * 10**9 < 2**63
