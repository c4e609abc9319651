"""The agent: what it does not let into the engine, and how it says so."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.servingkit import base_version, eventually
from tests.servingstack import AgentWorld, agent_world

from trimtab_api.routing import RoutedVersion


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    async with agent_world(tmp_path) as world:
        yield world


def broken(version: RoutedVersion, /, **change: object) -> RoutedVersion:
    return version.model_copy(update=change)


async def test_a_registry_that_is_down_is_waited_for(world: AgentWorld) -> None:
    red = await world.publish("red")
    world.registry.failures[:] = [503] * 4
    world.route(red)
    assert (await world.failed(red))[0] == "RegistryUnreachable"
    await world.loaded(red)


async def test_bytes_that_are_not_what_their_digest_says_never_reach_the_engine(
    world: AgentWorld,
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
    world: AgentWorld, case: tuple[str, dict[str, object], dict[str, object]]
) -> None:
    reason, made, change = case
    red = broken(await world.publish("red", **made), **change)
    world.route(red)
    assert (await world.failed(red))[0] == reason
    assert world.engine.loads == []


async def test_a_report_about_another_version_is_no_report(world: AgentWorld) -> None:
    red, blue = await world.publish("red"), await world.publish("blue")
    world.route(broken(red, report=blue.report))
    assert (await world.failed(red))[0] == "ReportInvalid"


async def test_a_failure_stays_told_while_the_engine_cannot_be_asked_again(
    world: AgentWorld,
) -> None:
    world.engine.refuses = "no room"
    red = await world.publish("red")
    world.route(red)
    await world.failed(red)
    world.engine.dies = True
    await eventually(lambda: world.engine.deaths >= 2)
    state = world.pod.states()["red-1"]
    assert (state.state, state.reason) == ("Failed", "EngineRefused")
    world.engine.dies, world.engine.refuses = False, None
    await world.loaded(red)


async def test_the_engines_words_are_told_when_it_refuses(world: AgentWorld) -> None:
    world.engine.refuses = "LoRA rank 64 is greater than max_lora_rank 16."
    red = await world.publish("red")
    world.route(red)
    reason, message = await world.failed(red)
    assert reason == "RankMismatch"
    assert "64 is greater than max_lora_rank 16" in (message or "")


async def test_a_full_model_that_is_not_the_base_is_refused(world: AgentWorld) -> None:
    other = broken(base_version(), version="other", digest="sha256:" + "d" * 64)
    world.route(base_version(), other)
    assert (await world.failed(other))[0] == "BaseMismatch"
    await world.loaded(base_version())


async def test_a_disk_without_space_is_told_and_tried_again(world: AgentWorld) -> None:
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
