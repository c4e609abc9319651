"""The long form of what other tests show once, and what takes minutes to happen: `make soak`."""

import os

import pytest
from examples.quickstart.kube import condition
from tests.e2e.machine import Machine
from tests.e2e.world import World, adapter_job, restarts, running, serve, traffic

SWAPS = int(os.environ.get("TRIMTAB_SOAK_SWAPS") or 100)
# The cluster believes in a silent node for 50 seconds.
SILENCE_SECONDS = 120
pytestmark = [
    pytest.mark.skipif(not os.environ.get("TRIMTAB_SOAK"), reason="takes long: make soak"),
    pytest.mark.timeout(3600),
]


def test_soak_versions_take_turns_without_restart_or_failed_request(
    world: World, served: str, base: str, adapter: str, second: str
) -> None:
    before = restarts(world)
    with traffic(served, callers=4) as failures:
        for turn in range(SWAPS):
            serve(world, base, (second, adapter)[turn % 2])
    assert failures == []
    assert restarts(world) == before


def test_soak_a_node_that_is_silent_is_named_and_what_runs_on_it_goes_on(
    world: World, machine: Machine, served: str, pairs: str, base: str
) -> None:
    name = "unheard"
    world.apply(adapter_job(pairs, base, name, steps=3000))
    pod = running(world, name)
    with machine.without("kubelet"):
        for kind, called, told in (
            ("finetunejob", name, "Started"),
            ("inferenceservice", "chat", "EngineReady"),
        ):
            found = world.says(kind, called, told, "NodeLost", SILENCE_SECONDS)
            assert pod["spec"]["nodeName"] in condition(found, told)["message"]
    world.says("finetunejob", name, "Started", "Training", SILENCE_SECONDS)
    world.holds("inferenceservice", "chat", "Ready")
    assert running(world, name)["metadata"]["uid"] == pod["metadata"]["uid"]
    world.kube.kubectl("delete", "finetunejob", name)
