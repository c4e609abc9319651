"""The long form of what the main job shows once: `make soak`."""

import os

import pytest
from tests.e2e.world import World, active, adapter_job, engine_pods, service, traffic

SWAPS = int(os.environ.get("TRIMTAB_SOAK_SWAPS") or 100)


@pytest.mark.skipif(not os.environ.get("TRIMTAB_SOAK"), reason="takes long: make soak")
@pytest.mark.timeout(3600)
def test_soak_versions_take_turns_without_restart_or_failed_request(
    world: World, served: str, pairs: str, base: str, adapter: str
) -> None:
    world.apply(adapter_job(pairs, base, "turn", seed=3))
    other: str = world.job_ends("turn")["status"]["modelVersion"]
    world.holds("modelversion", other, "Ready")
    before = engine_pods(world)
    with traffic(served, callers=4) as failures:
        for turn in range(SWAPS):
            wanted = (other, adapter)[turn % 2]
            world.apply(service(base, "chat", {"bot": f'{{name: "{wanted}"}}'}))
            active(world, wanted)
    assert failures == []
    assert engine_pods(world) == before
