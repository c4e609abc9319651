"""Another base takes the place of the present one together with its adapter, on real engines."""

from collections.abc import Iterator

import pytest
from examples.quickstart.kube import wait
from tests.e2e.world import (
    World,
    adapter_job,
    answered_by,
    named,
    part,
    service,
    traffic,
)

NAME = "moved"
# An engine starts in a minute where it has a core for itself.
STARTED_WITHIN = 400


@pytest.fixture
def url(world: World, base: str, adapter: str) -> Iterator[str]:
    """A Ready service of the first base and its adapter."""
    world.apply(service(base, NAME, {"bot": named(adapter)}))
    world.holds("inferenceservice", NAME, "Ready", seconds=STARTED_WITHIN)
    with world.kube.forwarded(NAME, 80) as found:
        yield found
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


@pytest.fixture
def successors(world: World, pairs: str, successor: str) -> dict[str, str]:
    """Another base and an adapter of it, by the public names that they are for."""
    adapter = world.trained(adapter_job(pairs, successor, "of-successor"), "of-successor")
    return {"base": successor, "bot": adapter}


def budgets(world: World) -> set[str]:
    """The disruption budgets of the service's engines."""
    told = world.kube.kubectl("get", "pdb", "-l", part(NAME, "engine"), "-o", "name")
    return set(told.split())


def test_another_base_comes_with_its_adapter_and_no_request_fails(
    world: World, successors: dict[str, str], url: str
) -> None:
    before = budgets(world)
    with traffic(url, pause=1) as failures:
        world.apply(service(successors["base"], NAME, {"bot": named(successors["bot"])}))
        wait(
            lambda: {name: answered_by(url, name) for name in successors} == successors,
            STARTED_WITHIN,
            "answers of the other base and its adapter",
        )
    assert failures == []
    # What was the former engines' own goes with them, or the service would say what is in the way.
    world.holds("inferenceservice", NAME, "Ready")
    wait(lambda: not before & budgets(world), 60, "the former engines' budget goes")
