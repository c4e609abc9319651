"""A whole Trimtab on the local cluster: chart, data in the registry, a small base, an adapter, a service.

The parts are made once per run and shared by all test files, in one namespace of their own.
"""

import os
import uuid
from collections.abc import Iterator

import pytest
from examples.quickstart import harvest, target
from examples.quickstart.kube import Kube
from tests.e2e import neighbours
from tests.e2e.machine import Machine
from tests.e2e.world import World, adapter_job, base_job, named, service

from trimtab_local.layout import layout_from


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The chart installed on the local cluster, and a namespace for this run."""
    layout = layout_from(os.environ)
    namespace = f"e2e-{uuid.uuid4().hex[:6]}"
    place = target.Target(
        kube=Kube(layout.kubeconfig, namespace, layout.programs),
        registry="registry.internal:5000/trimtab",
        registry_from_here=f"127.0.0.1:{layout.ports.registry}/trimtab",
        plain_http=True,
        image_prefix="localhost/trimtab",
        prometheus=target.LOCAL_PROMETHEUS,
    )
    releases = place.kube.helm("list", "--namespace", target.RELEASE_NAMESPACE, "--short")
    target.install(place)
    neighbours.clear(place.kube)
    place.kube.apply(neighbours.namespace(namespace))
    with neighbours.room(place.kube):
        yield World(place, tmp_path_factory.mktemp("e2e"))
        target.empty(place.kube)
    if target.RELEASE not in releases.split():  # a demo that was there before goes on
        place.kube.helm(
            "uninstall", target.RELEASE, "--namespace", target.RELEASE_NAMESPACE, "--wait"
        )


@pytest.fixture(scope="session")
def machine() -> Machine:
    """What the local cluster runs on."""
    return Machine(layout_from(os.environ))


@pytest.fixture(scope="session")
def text(world: World) -> str:
    """Some of the standard library's documentation, in the registry."""
    harvest.harvest(world.folder)
    lines = (world.folder / "text.jsonl").read_bytes().splitlines(keepends=True)
    return world.push("text", {"text.jsonl": b"".join(lines[:1200])})


@pytest.fixture(scope="session")
def pairs(world: World, text: str) -> str:
    """Some questions about it."""
    assert text
    lines = (world.folder / "pairs.jsonl").read_bytes().splitlines(keepends=True)
    return world.push("pairs", {"pairs.jsonl": b"".join(lines[::6])})


@pytest.fixture(scope="session")
def base(world: World, text: str) -> str:
    """The name of a Ready full ModelVersion, trained from scratch."""
    return world.trained(base_job(text), "base")


@pytest.fixture(scope="session")
def successor(world: World, text: str) -> str:
    """The name of another Ready full ModelVersion."""
    return world.trained(base_job(text, "successor", seed=5), "successor")


@pytest.fixture(scope="session")
def adapter(world: World, pairs: str, base: str) -> str:
    """The name of a Ready adapter ModelVersion of the model `bot`."""
    return world.trained(adapter_job(pairs, base, "first"), "first")


@pytest.fixture(scope="session")
def second(world: World, pairs: str, base: str, adapter: str) -> str:
    """The name of another Ready adapter ModelVersion of the model `bot`."""
    name = world.trained(adapter_job(pairs, base, "second", seed=2), "second")
    assert name != adapter
    return name


@pytest.fixture(scope="session")
def served(world: World, base: str, adapter: str) -> Iterator[str]:
    """The URL of a Ready InferenceService `chat`: the base as `base`, the adapter as `bot`."""
    world.apply(service(base, "chat", {"bot": named(adapter)}))
    world.holds("inferenceservice", "chat", "Ready", seconds=400)
    with world.kube.forwarded("chat", 80) as url:
        yield url
