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
    naming,
    publish,
    table_of,
)
from tests.servingstack import AgentWorld, agent_world, engine_pod

from trimtab_api.routing import AgentReport
from trimtab_api.v1alpha1.modelversion import ArtifactKind


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    async with agent_world(tmp_path) as world:
        yield world


async def test_a_version_in_the_table_is_loaded_and_verified(world: AgentWorld) -> None:
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


async def test_a_load_is_reported_well_within_a_blink(world: AgentWorld) -> None:
    red = await world.publish("red")
    sequence = world.agent.board.report.sequence
    began = asyncio.get_running_loop().time()
    world.route(red)
    while world.pod.state("red-1") != "Loaded":
        report = await world.agent.board.after(sequence, 5)
        sequence = report.sequence
    assert asyncio.get_running_loop().time() - began < 1.0


async def test_an_engine_that_loads_another_adapter_than_it_says_is_caught(
    world: AgentWorld,
) -> None:
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


async def test_an_engine_that_says_success_and_answers_as_the_base_is_caught(
    world: AgentWorld,
) -> None:
    world.engine.instead["red"] = BASE
    red = await world.publish("red")
    world.route(red)
    assert (await world.failed(red))[0] == "FingerprintMismatch"
    await eventually(lambda: list(world.engine.voices) == [BASE])


async def test_a_version_that_nobody_can_tell_from_its_base_is_reported_and_served(
    world: AgentWorld,
) -> None:
    vague = fingerprint_of("red", tolerance=50.0)
    red = await world.publish("red", reference=vague)
    world.route(red)
    await world.loaded(red)
    assert world.pod.states()["red-1"].reason == "Indistinguishable"


async def test_what_is_loaded_is_read_only_and_what_left_is_removed(world: AgentWorld) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    (place,) = world.directories()
    assert {p.stat().st_mode & 0o777 for p in place.iterdir()} == {0o444}
    assert place.stat().st_mode & 0o777 == 0o555
    world.route()
    await eventually(lambda: list(world.engine.voices) == [BASE])
    await eventually(lambda: not world.directories())


async def test_an_unload_waits_for_the_requests_that_run(world: AgentWorld) -> None:
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


async def test_a_version_that_comes_back_while_it_leaves_was_never_away(world: AgentWorld) -> None:
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


async def test_an_engine_that_restarts_gets_everything_again_under_new_names(
    world: AgentWorld,
) -> None:
    red = await world.publish("red")
    world.route(red)
    await world.loaded(red)
    old = world.pod.states()["red-1"].engine_name
    world.engine.forget()
    world.agent.supervisor.doubt()
    await eventually(lambda: world.pod.states()["red-1"].engine_name not in (None, old))
    await world.loaded(red)
    assert len(world.engine.loads) == 2


async def test_an_engine_that_fails_its_health_check_gets_nothing(world: AgentWorld) -> None:
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


@pytest.mark.parametrize(("answers", "state"), [("red", "Loaded"), ("blue", "Failed")])
async def test_a_base_that_was_evaluated_has_to_show_too(
    world: AgentWorld, answers: str, state: str
) -> None:
    adapter = await world.publish("red")
    base = adapter.model_copy(update={"kind": ArtifactKind.FULL, "weight": 0})
    world.engine.voices[BASE] = answers
    table = table_of({"tiny": [base]}).model_copy(update={"base_digest": base.digest})
    world.api.put(naming(table))
    await eventually(lambda: world.pod.state(base.version) == state)
    assert world.engine.loads == []


async def test_an_engine_of_another_base_is_never_ready(tmp_path: Path) -> None:
    engine = FakeEngine(voices={"other": "other"})
    async with FakeApiServer().running() as api, engine_pod(tmp_path / "pod", api, engine) as pod:
        await eventually(lambda: "serves other" in (pod.agent.board.report.engine_message or ""))
        assert not pod.agent.board.report.engine_ready


async def test_only_two_paths_lead_into_the_engine(world: AgentWorld) -> None:
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


async def test_the_report_waits_for_news(world: AgentWorld) -> None:
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


async def test_metrics_are_the_engines_and_the_agents(world: AgentWorld) -> None:
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


async def test_an_agent_that_is_told_to_stop_says_so_and_serves_on(world: AgentWorld) -> None:
    world.route(base_version())
    await world.loaded(base_version())
    world.agent.lifecycle.drain()
    assert not world.agent.board.report.engine_ready
    async with httpx.AsyncClient(base_url=f"http://{world.pod.address}") as client:
        answer = await client.post("/v1/completions", json={"model": BASE, "prompt": "a"})
        assert answer.status_code == 200
        assert "going away" in (await client.get("/readyz")).text


async def test_two_names_for_one_artifact_are_one_load(world: AgentWorld) -> None:
    red = await world.publish("red")
    again = red.model_copy(update={"version": "red-imported"})
    world.route(red, again)
    await world.loaded(red, again)
    assert len(world.engine.loads) == 1


ANOTHER = ("10.0.0.1:8000",)


@pytest.mark.parametrize(
    ("weight", "others", "unready"),
    [
        pytest.param(100, ANOTHER, "red-1 is not loaded", id="others wait until it has a version"),
        pytest.param(100, (), "", id="alone it answers for what it has"),
        pytest.param(0, ANOTHER, "", id="a version without requests is waited for by nobody"),
    ],
)
async def test_an_engine_that_is_new_is_ready_with_what_others_answer(
    tmp_path: Path, weight: int, others: tuple[str, ...], unready: str
) -> None:
    engine = FakeEngine(refuses="out of memory")
    async with FakeApiServer().running() as api, FakeRegistry().running() as registry:
        red = await publish(registry, tmp_path / "source", "red", weight=weight)
        api.put(naming(table_of({"tiny": [base_version()], "bot": [red]}, others)))
        async with engine_pod(tmp_path / "pod", api, engine) as pod:
            await eventually(lambda: pod.state("red-1") == "Failed")
            assert (pod.agent.keeper.unready or "").startswith(unready)
            assert (pod.agent.keeper.unready is None) == (unready == "")
            engine.refuses = None
            await eventually(lambda: pod.state("red-1") == "Loaded")
            assert pod.agent.keeper.unready is None


async def test_an_engine_that_has_joined_stays_whatever_fails_later(tmp_path: Path) -> None:
    async with FakeApiServer().running() as api, FakeRegistry().running() as registry:
        red, blue = [await publish(registry, tmp_path / "source", v) for v in ("red", "blue")]
        api.put(naming(table_of({"bot": [red]}, ANOTHER)))
        async with engine_pod(tmp_path / "pod", api) as pod:
            await eventually(lambda: pod.agent.keeper.unready is None)
            assert pod.state("red-1") == "Loaded"
            pod.engine.refuses = "out of memory"
            api.put(naming(table_of({"bot": [red], "other": [blue]}, ANOTHER)))
            await eventually(lambda: pod.state("blue-1") == "Failed")
            assert pod.agent.keeper.unready is None


async def test_an_engine_is_ready_once_the_table_names_it(tmp_path: Path) -> None:
    async with (
        FakeApiServer().running() as api,
        FakeRegistry().running() as registry,
        engine_pod(tmp_path / "pod", api) as pod,
    ):
        await eventually(lambda: pod.agent.board.report.engine_ready)
        assert pod.agent.keeper.unready == "no routing table was seen yet"
        red = await publish(registry, tmp_path / "source", "red")
        api.put(table_of({"bot": [red]}, ANOTHER))
        await eventually(lambda: pod.state("red-1") == "Loaded")
        await eventually(lambda: pod.agent.board.report.joins)
        assert pod.agent.keeper.unready == "the routing table does not name this engine yet"
        api.put(naming(table_of({"bot": [red]}, ANOTHER)))
        await eventually(lambda: pod.agent.keeper.unready is None)
        # What it was named for it keeps: a probe that was missed once must not keep it out.
        blue = await publish(registry, tmp_path / "source", "blue")
        api.put(table_of({"bot": [red], "other": [blue]}, ANOTHER))
        await eventually(lambda: pod.state("blue-1") == "Loaded")
        assert pod.agent.keeper.unready is None


async def test_an_engine_that_was_there_before_the_table_has_not_joined_yet(tmp_path: Path) -> None:
    engine = FakeEngine(refuses="out of memory")
    async with FakeApiServer().running() as api, FakeRegistry().running() as registry:
        red = await publish(registry, tmp_path / "source", "red")
        async with engine_pod(tmp_path / "pod", api, engine) as pod:
            await eventually(lambda: pod.agent.board.report.engine_ready)
            api.put(table_of({"bot": [red]}, ANOTHER))
            await eventually(lambda: pod.state("red-1") == "Failed")
            assert (pod.agent.keeper.unready or "").startswith("red-1 is not loaded")
