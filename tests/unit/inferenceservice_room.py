"""Another base where there is no room for two: refused, or in the place of the present one; never a wait without end."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from tests.baseworld import (
    NEW,
    NO_GPU,
    OLD,
    a_full,
    answered_by,
    ask_for,
    comes_up,
    engines,
    finds_no_node,
    on_base_one,
    shares,
    tidy_pods,
    tiny,
    visits,
    without_room,
)
from tests.fakes import Crash, FakeCluster, FakeWorld, settle
from tests.servicelife import KEY, message, seen, told
from tests.servingbuilders import NAMESPACE, a_decision, digest_of, metadata_of

from trimtab_api.routing import AdapterState, AgentReport
from trimtab_api.v1alpha1 import Decision
from trimtab_operator.domain.outcome import Done
from trimtab_operator.reconcilers import modelversion
from trimtab_operator.reconcilers.inferenceservice import reconcile

STEPS: dict[str, Any] = {"steps": [{"weight": 10}, {"weight": 50}]}


async def test_where_there_is_no_room_it_is_waited_for_and_then_refused() -> None:
    fake = await on_base_one()
    await without_room(fake, seconds=599)
    assert engines(fake) == {OLD, NEW}
    assert told(fake, "AdaptersReady") == ("False", "Unschedulable")
    assert NO_GPU in message(fake, "AdaptersReady")
    assert await reconcile(KEY, fake.world) == Done(timedelta(seconds=1))
    fake.clock.advance(seconds=1)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert shares(fake) == {"one": 100}
    assert told(fake, "AdaptersReady") == ("False", "NoSpareCapacity")
    assert "allowDowntime" in message(fake, "AdaptersReady")
    assert NO_GPU in message(fake, "AdaptersReady")
    assert told(fake, "EngineReady") == ("True", "EngineReady")
    change = seen(fake).status.base_change
    assert change is not None
    assert change.verdict == "Refuse"
    assert "NoSpareCapacity" in {e.reason for e in fake.cluster.events.values()}


async def test_what_was_refused_is_tried_again_later_or_when_something_else_is_asked_for() -> None:
    fake = await on_base_one()
    await without_room(fake)
    fake.clock.advance(minutes=29)
    assert await settle(reconcile, KEY, fake) == Done(timedelta(minutes=1))
    assert engines(fake) == {OLD}
    fake.clock.advance(minutes=1)
    await visits(fake)
    assert engines(fake) == {OLD, NEW}
    fake = await on_base_one()
    await without_room(fake)
    fake.cluster.edit(
        "InferenceService", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await visits(fake)
    assert engines(fake) == {OLD, NEW}
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    assert (shares(fake), seen(fake).status.base_change) == ({"two": 100}, None)


async def test_a_quota_that_forbids_the_pods_is_no_room_either() -> None:
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    told_by_controller = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota: gpus",
        "lastTransitionTime": "2026-01-02T00:00:00Z",
    }
    fake.cluster.edit(
        "Deployment", (NAMESPACE, NEW), {"status": {"conditions": [told_by_controller]}}
    )
    await visits(fake)
    assert engines(fake) == {OLD}
    assert "exceeded quota: gpus" in message(fake, "AdaptersReady")


# --- with downtime -------------------------------------------------------------------------------


async def test_where_downtime_is_allowed_the_old_engines_make_room() -> None:
    fake = await on_base_one()
    await without_room(fake, allowDowntime=True)
    assert engines(fake) == {NEW}
    assert shares(fake) == {"one": 100, "two": 0}
    assert told(fake, "EngineReady") == ("False", "ReplacingEngines")
    change = seen(fake).status.base_change
    assert change is not None
    assert change.verdict == "Replace"
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    assert shares(fake) == {"two": 100, "one": 0}, "there is nothing to compare with, so no steps"
    assert engines(fake) == {NEW}, "the way back takes the same room"
    assert told(fake) == ("True", "Ready")
    assert told(fake, "RolloutProgressing") == ("False", "Guarding")
    assert "Promoted" in {e.reason for e in fake.cluster.events.values()}
    fake.clock.advance(seconds=3601)
    await visits(fake)
    assert shares(fake) == {"two": 100}
    assert engines(fake) == {NEW}
    assert seen(fake).status.base_change is None
    assert tiny(fake).rollout is None


async def test_downtime_is_a_last_resort() -> None:
    fake = await on_base_one()
    ask_for(fake, allowDowntime=True, **STEPS)
    await visits(fake)
    comes_up(fake)
    await visits(fake)
    assert shares(fake) == {"one": 90, "two": 10}
    assert engines(fake) == {OLD, NEW}


async def cannot_load(fake: FakeWorld) -> None:
    comes_up(fake)
    fake.agents.reports["10.0.0.2:8000"] = AgentReport(
        sequence=2,
        knows_pools=True,
        engine_ready=True,
        adapters=[
            AdapterState(
                version="two",
                digest=digest_of("two"),
                state="Failed",
                reason="FingerprintMismatch",
                message="it answers as another",
            )
        ],
    )


async def still_no_node(fake: FakeWorld) -> None:
    finds_no_node(fake)
    fake.clock.advance(seconds=600 + 330)


async def never_ready(fake: FakeWorld) -> None:
    fake.clock.advance(seconds=330 + 1800)


@pytest.mark.parametrize("trouble", [cannot_load, still_no_node, never_ready])
async def test_new_engines_that_fail_in_the_room_give_it_back(trouble: Any) -> None:
    fake = await on_base_one()
    await without_room(fake, allowDowntime=True)
    await trouble(fake)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    (back,) = engines(fake)
    assert back != NEW
    assert shares(fake) == {"one": 100}
    assert told(fake, "AdaptersReady") == ("False", "ReplacementFailed")
    comes_up(fake, back, "one", "10.0.0.3")
    await visits(fake)
    assert told(fake, "EngineReady") == ("True", "EngineReady")
    assert seen(fake).status.base_digest == digest_of("one")


async def test_what_failed_in_the_room_takes_the_service_down_again_only_when_somebody_asks() -> (
    None
):
    fake = await on_base_one()
    await without_room(fake, allowDowntime=True)
    await still_no_node(fake)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    (back,) = engines(fake)
    comes_up(fake, back, "one", "10.0.0.3")
    answered_by(fake, "one")
    fake.clock.advance(hours=12)
    # As an autoscaler does, which has asked for nothing of the kind.
    fake.cluster.edit("InferenceService", KEY, {"spec": {"replicas": 2}})
    await visits(fake)
    assert engines(fake) == {back}
    assert told(fake, "AdaptersReady") == ("False", "ReplacementFailed")
    assert "trimtab.dev/retry" in message(fake, "AdaptersReady")
    fake.cluster.edit(
        "InferenceService", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await visits(fake)
    assert engines(fake) == {back, NEW}


async def test_no_engines_make_room_for_what_must_not_be_served() -> None:
    fake = await on_base_one()
    await without_room(fake, allowDowntime=True)
    fake.cluster.add(a_decision("Quarantine", "two"))
    await settle(modelversion.reconcile, (NAMESPACE, "two"), fake)
    await visits(fake)
    (back,) = engines(fake)
    assert back != NEW
    assert seen(fake).status.base_change is None
    assert told(fake, "AdaptersReady") == ("False", "VersionQuarantined")


async def test_while_room_is_made_another_base_is_asked_for() -> None:
    fake = await on_base_one(None, a_full("six"))
    await without_room(fake, allowDowntime=True)
    ask_for(fake, "six", allowDowntime=True)
    await visits(fake)
    assert engines(fake) == {"chat-engine-73697873"}
    change = seen(fake).status.base_change
    assert change is not None
    assert (change.version, change.verdict) == ("six", "Replace")


# --- crashes ---------------------------------------------------------------------------------------


def decided(action: str) -> Decision:
    """Somebody decides about the new base."""
    target = {"kind": "InferenceService", "name": "chat", "model": "tiny"}
    spec = {
        "action": action,
        "target": {**target, "digest": digest_of("two")},
        "by": "alice",
        "reason": "it cannot wait",
    }
    return Decision.model_validate({"metadata": metadata_of(action.lower()), "spec": spec})


async def to_the_end(fake: FakeWorld, course: str, dies_after: int) -> dict[str, Any]:
    """One of the courses, with an operator that is killed once at each stage."""

    async def stage() -> None:
        fake.cluster.dies_in(dies_after)
        with suppress(Crash):
            await reconcile(KEY, fake.world)
        fake.cluster.revive()
        await visits(fake)
        tidy_pods(fake)
        await visits(fake)

    downtime = {"allowDowntime": True}
    wishes = {"replaced": downtime, "taken back": downtime, "promoted": STEPS}
    ask_for(fake, **wishes.get(course, {}))
    await stage()
    if course in ("refused", "replaced", "taken back"):
        finds_no_node(fake, seconds_ago=600)
        await stage()
    if course != "refused":
        comes_up(fake)
        await stage()
        answered_by(fake, "two")
    if course == "taken back":
        await stage()
        fake.cluster.add(decided("Abort"))
        await stage()
        (back,) = engines(fake)
        comes_up(fake, back, "one", "10.0.0.3")
        answered_by(fake, "one")
        fake.clock.advance(seconds=90)
    if course == "promoted":
        assert shares(fake) == {"one": 90, "two": 10}
        fake.cluster.add(decided("Promote"))
        await stage()
        assert shares(fake) == {"two": 100, "one": 0}
        fake.clock.advance(seconds=3601)
    await stage()
    state = fake.cluster.state
    return {**state, "objects": {k: v for k, v in state["objects"].items() if "Pod " not in k}}


@pytest.mark.parametrize("course", ["taken over", "promoted", "refused", "replaced", "taken back"])
@pytest.mark.parametrize("dies_after", [1, 2, 3, 4, 5, 6, 7, 8])
async def test_a_crash_after_any_write_ends_in_the_same_state(course: str, dies_after: int) -> None:
    calm = await to_the_end(await on_base_one(FakeCluster()), course, 10_000)
    shaken = await to_the_end(await on_base_one(FakeCluster()), course, dies_after)
    assert json.dumps(shaken, sort_keys=True) == json.dumps(calm, sort_keys=True)
