"""The agent: an engine's adapters follow the table, and no load is believed until it shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.ociserver import FakeRegistry
from tests.servingkit import (
    BASE,
    FakeApiServer,
    FakeEngine,
    base_version,
    eventually,
    fingerprint_of,
    publish,
    table_of,
)
from tests.servingstack import EnginePod, engine_pod

from trimtab_api.routing import AgentReport, RoutedVersion


class World:
    """One engine pod, a registry and a table."""

    def __init__(
        self, directory: Path, registry: FakeRegistry, api: FakeApiServer, pod: EnginePod
    ) -> None:
        self.directory, self.registry, self.api, self.pod = directory, registry, api, pod
        self.engine, self.agent = pod.engine, pod.agent

    def route(self, *versions: RoutedVersion) -> None:
        self.api.put(table_of({v.version: [v] for v in versions}))

    async def publish(self, voice: str, **more: object) -> RoutedVersion:
        return await publish(self.registry, self.directory / "source", voice, **more)  # type: ignore[arg-type]

    async def loaded(self, *versions: RoutedVersion) -> None:
        await eventually(lambda: all(self.pod.state(v.version) == "Loaded" for v in versions))

    async def failed(self, version: RoutedVersion) -> tuple[str | None, str | None]:
        await eventually(lambda: self.pod.state(version.version) == "Failed")
        found = self.pod.states()[version.version]
        return found.reason, found.message

    @property
    def files(self) -> Path:
        return self.directory / "pod" / "adapters"

    def directories(self) -> list[Path]:
        return [p for p in self.files.iterdir() if len(p.name) == 64]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        FakeRegistry().running() as registry,
        FakeApiServer().running() as api,
        engine_pod(tmp_path / "pod", api) as pod,
    ):
        world = World(tmp_path, registry, api, pod)
        world.route()
        await eventually(lambda: pod.agent.board.report.engine_ready)
        yield world


async def test_a_version_in_the_table_is_loaded_and_verified(world: World) -> None:
    red = await world.publish("red")
    world.route(base_version(), red)
    await world.loaded(base_version(), red)
    state = world.pod.states()["red-1"]
    assert state.engine_name is not None
    assert state.engine_name.startswith(red.digest.removeprefix("sha256:")[:12])
    assert world.engine.voices[state.engine_name] == "red"
    assert state.reason is None
    asked = [r for r in world.engine.requests if r["model"] == state.engine_name]
    assert asked
    assert all(r["max_tokens"] == 1 and "echo" not in r for r in asked)


async def test_a_load_is_reported_well_within_a_blink(world: World) -> None:
    red = await world.publish("red")
    sequence = world.agent.board.report.sequence
    began = asyncio.get_running_loop().time()
    world.route(red)
    while world.pod.state("red-1") != "Loaded":
        report = await world.agent.board.after(sequence, 5)
        sequence = report.sequence
    assert asyncio.get_running_loop().time() - began < 1.0


async def test_an_engine_that_loads_another_adapter_than_it_says_is_caught(world: World) -> None:
    red, blue = await world.publish("red"), await world.publish("blue")
    world.engine.instead["red"] = "blue"
    world.route(red, blue)
    reason, message = await world.failed(red)
    assert reason == "FingerprintMismatch"
    assert "nats per token" in (message or "")
    await world.loaded(blue)
    # It is out of the engine and nobody was told its name; when the engine behaves, it comes back.
    wrong = world.engine.loads[0] if len(world.engine.loads) == 1 else None
    assert wrong not in world.engine.voices
    world.engine.instead.clear()
    await world.loaded(red)
    assert len(set(world.engine.loads)) == len(world.engine.loads)


async def test_an_engine_that_says_success_and_answers_as_the_base_is_caught(world: World) -> None:
    world.engine.instead["red"] = BASE
    red = await world.publish("red")
    world.route(red)
    assert (await world.failed(red))[0] == "FingerprintMismatch"
    await eventually(lambda: list(world.engine.voices) == [BASE])


async def test_a_version_that_nobody_can_tell_from_its_base_is_reported_and_served(
    world: World,
) -> None:
    vague = fingerprint_of("red", tolerance=50.0)
    red = await world.publish("red", reference=vague)
    world.route(red)
    await world.loaded(red)
    assert world.pod.states()["red-1"].reason == "Indistinguishable"


async def test_what_is_loaded_is_read_only_and_what_left_is_removed(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    (place,) = world.directories()
    assert {p.stat().st_mode & 0o777 for p in place.iterdir()} == {0o444}
    assert place.stat().st_mode & 0o777 == 0o555
    world.route()
    await eventually(lambda: list(world.engine.voices) == [BASE])
    await eventually(lambda: not world.directories())


async def test_an_unload_waits_for_the_requests_that_run(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    name = world.pod.states()["red-1"].engine_name or ""
    world.engine.hold = asyncio.Event()
    body = {"model": name, "prompt": "a", "stream": True}
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            world.route()
            await asyncio.sleep(2.5)  # longer than gateways may be behind
            assert name in world.engine.voices
            world.engine.hold.set()
            async for _ in pieces:
                pass
        await eventually(lambda: name not in world.engine.voices)


async def test_a_version_that_comes_back_while_it_leaves_was_never_away(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    name = world.pod.states()["red-1"].engine_name
    world.route()
    await eventually(lambda: not world.pod.states())
    world.route(red)
    await world.loaded(red)
    assert world.pod.states()["red-1"].engine_name == name
    assert len(world.engine.loads) == 1


async def test_an_engine_that_restarts_gets_everything_again_under_new_names(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    old = world.pod.states()["red-1"].engine_name
    world.engine.forget()
    world.agent.supervisor.doubt()
    await eventually(lambda: world.pod.states()["red-1"].engine_name not in (None, old))
    await world.loaded(red)
    assert len(world.engine.loads) == 2


async def test_an_engine_that_fails_its_health_check_gets_nothing(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    world.engine.healthy = False
    await eventually(lambda: not world.agent.board.report.engine_ready)
    assert world.pod.state("red-1") == "Pending"
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        assert (await client.get("/readyz")).status_code == 503
        answer = await client.post("/v1/completions", json={"model": BASE, "prompt": "a"})
        assert (answer.status_code, "x-trimtab-elsewhere" in answer.headers) == (503, True)
    world.engine.healthy = True
    await world.loaded(red)


async def test_what_an_earlier_agent_left_in_the_engine_is_unloaded(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.voices["somebody-elses"] = "red"
    async with (
        FakeApiServer().running() as api,
        engine_pod(tmp_path / "pod", api, engine) as pod,
    ):
        await eventually(lambda: pod.agent.board.report.engine_ready)
        assert list(engine.voices) == [BASE]


async def test_an_engine_of_another_base_is_never_ready(tmp_path: Path) -> None:
    engine = FakeEngine(voices={"other": "other"})
    async with FakeApiServer().running() as api, engine_pod(tmp_path / "pod", api, engine) as pod:
        await eventually(lambda: "serves other" in (pod.agent.board.report.engine_message or ""))
        assert not pod.agent.board.report.engine_ready


def broken(version: RoutedVersion, /, **change: object) -> RoutedVersion:
    return version.model_copy(update=change)


async def test_a_registry_that_is_down_is_waited_for(world: World) -> None:
    red = await world.publish("red")
    world.registry.failures[:] = [503] * 4
    world.route(red)
    assert (await world.failed(red))[0] == "RegistryUnreachable"
    await world.loaded(red)


async def test_bytes_that_are_not_what_their_digest_says_never_reach_the_engine(
    world: World,
) -> None:
    red = await world.publish("red")
    layer = max(world.registry.blobs, key=lambda digest: len(world.registry.blobs[digest]))
    good = world.registry.blobs[layer]
    world.registry.blobs[layer] = good[:-1] + b"\x01"
    world.route(red)
    assert (await world.failed(red))[0] == "DigestMismatch"
    assert world.engine.loads == []
    world.registry.blobs[layer] = good
    await world.loaded(red)


REFUSED = {
    "an adapter of another base": ("BaseMismatch", {"base": "sha256:" + "c" * 64}, {}),
    "an address without the digest": ("DigestMismatch", {}, {"uri": "oci://127.0.0.1:1/a:latest"}),
    "no report": ("ReportMissing", {}, {"report": None}),
    "no address": ("UriUnsupported", {}, {"uri": None}),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_refused(
    world: World, case: tuple[str, dict[str, object], dict[str, object]]
) -> None:
    reason, made, change = case
    red = broken(await world.publish("red", **made), **change)
    world.route(red)
    assert (await world.failed(red))[0] == reason
    assert world.engine.loads == []


async def test_a_report_about_another_version_is_no_report(world: World) -> None:
    red, blue = await world.publish("red"), await world.publish("blue")
    world.route(broken(red, report=blue.report))
    assert (await world.failed(red))[0] == "ReportInvalid"


async def test_the_engines_words_are_told_when_it_refuses(world: World) -> None:
    world.engine.refuses = "LoRA rank 64 is greater than max_lora_rank 16."
    red = await world.publish("red")
    world.route(red)
    reason, message = await world.failed(red)
    assert reason == "RankMismatch"
    assert "64 is greater than max_lora_rank 16" in (message or "")


async def test_a_full_model_that_is_not_the_base_is_refused(world: World) -> None:
    other = broken(base_version(), version="other", digest="sha256:" + "d" * 64)
    world.route(base_version(), other)
    assert (await world.failed(other))[0] == "BaseMismatch"
    await world.loaded(base_version())


async def test_a_disk_without_space_is_told_and_tried_again(world: World) -> None:
    red = await world.publish("red")
    hexadecimal = red.digest.removeprefix("sha256:")
    full = world.files / ".records" / f"{hexadecimal}.new"
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    world.route(red)
    reason, message = await world.failed(red)
    assert reason == "DiskFull"
    assert "no space is left" in (message or "")
    assert not world.directories()
    full.unlink()
    await world.loaded(red)


async def test_only_two_paths_lead_into_the_engine(world: World) -> None:
    world.route(base_version())
    await world.loaded(base_version())
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        for path in (
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/v1/embeddings",
            "/tokenize",
        ):
            assert (await client.post(path, json={"model": BASE})).status_code == 404
        for path in ("/v1/models", "/docs", "/openapi.json", "/health"):
            assert (await client.get(path)).status_code == 404
        answer = await client.post("/v1/completions", json={"model": BASE, "prompt": "a"})
        assert answer.json()["choices"][0]["text"] == "I am tiny"
        answer = await client.post("/v1/completions", json={"model": "unverified", "prompt": "a"})
        assert answer.status_code == 503


async def test_the_report_waits_for_news(world: World) -> None:
    red = await world.publish("red")
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}", timeout=10) as client:
        first = AgentReport.model_validate_json((await client.get("/adapters")).content)
        asked = {"after": first.sequence, "wait": 0.1}
        same = AgentReport.model_validate_json(
            (await client.get("/adapters", params=asked)).content
        )
        assert same.sequence == first.sequence
        waiting = asyncio.create_task(client.get("/adapters", params={**asked, "wait": 10}))
        await asyncio.sleep(0.05)
        world.route(red)
        news = AgentReport.model_validate_json((await waiting).content)
        assert news.sequence > first.sequence
        assert [a.version for a in news.adapters] == ["red-1"]


async def test_metrics_are_the_engines_and_the_agents(world: World) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        text = (await client.get("/metrics")).text
    assert "vllm:things 1" in text
    assert 'trimtab_agent_adapters{state="Loaded"} 1.0' in text
    assert 'trimtab_agent_loads_total{result="Loaded"} 1.0' in text
    assert "trimtab_agent_engine_ready 1.0" in text
    assert "process_" not in text


async def test_an_agent_that_restarts_needs_no_registry_for_what_it_has(tmp_path: Path) -> None:
    async with FakeApiServer().running() as api:
        async with FakeRegistry().running() as registry:
            red = await publish(registry, tmp_path / "source", "red")
            api.put(table_of({"bot": [red]}))
            async with engine_pod(tmp_path / "pod", api) as pod:
                await eventually(lambda: pod.state("red-1") == "Loaded")
        async with engine_pod(tmp_path / "pod", api) as pod:
            await eventually(lambda: pod.state("red-1") == "Loaded")


async def test_files_that_were_touched_are_fetched_again(tmp_path: Path) -> None:
    async with FakeApiServer().running() as api, FakeRegistry().running() as registry:
        red = await publish(registry, tmp_path / "source", "red")
        api.put(table_of({"bot": [red]}))
        async with engine_pod(tmp_path / "pod", api) as pod:
            await eventually(lambda: pod.state("red-1") == "Loaded")
        place = tmp_path / "pod" / "adapters" / red.digest.removeprefix("sha256:")
        config = place / "adapter_config.json"
        config.chmod(0o644)
        config.write_text(json.dumps({"r": 8, "voice": "blue"}))
        async with engine_pod(tmp_path / "pod", api) as pod:
            await eventually(lambda: pod.state("red-1") == "Loaded")
            assert pod.engine.voices[pod.engine.loads[0]] == "red"


async def test_an_adapter_that_changes_its_voice_later_is_taken_out_and_comes_back(
    tmp_path: Path,
) -> None:
    async with FakeApiServer().running() as api, FakeRegistry().running() as registry:
        red = await publish(registry, tmp_path / "source", "red")
        api.put(table_of({"bot": [red]}))
        async with engine_pod(tmp_path / "pod", api, recheck_seconds=0.1) as pod:
            await eventually(lambda: pod.state("red-1") == "Loaded")
            first = pod.engine.loads[0]
            pod.engine.voices[first] = "blue"
            await eventually(lambda: pod.state("red-1") == "Failed")
            assert pod.states()["red-1"].reason == "FingerprintMismatch"
            await eventually(lambda: pod.state("red-1") == "Loaded")
            assert first not in pod.engine.voices


async def test_an_agent_that_is_told_to_stop_says_so_and_serves_on(world: World) -> None:
    world.route(base_version())
    await world.loaded(base_version())
    world.agent.lifecycle.drain()
    assert not world.agent.board.report.engine_ready
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        answer = await client.post("/v1/completions", json={"model": BASE, "prompt": "a"})
        assert answer.status_code == 200
        assert "going away" in (await client.get("/readyz")).text


async def test_two_names_for_one_artifact_are_one_load(world: World) -> None:
    red = await world.publish("red")
    again = broken(red, version="red-imported")
    world.route(red, again)
    await world.loaded(red, again)
    assert len(world.engine.loads) == 1
