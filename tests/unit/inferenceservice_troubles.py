"""InferenceService: whatever keeps it from answering is said in status, with the remedy."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes import FakeWorld, settle
from tests.servicelife import (
    KEY,
    loaded,
    message,
    ready_pod,
    seen,
    serving,
    starting,
    told,
    weights,
    world_of,
)
from tests.servingbuilders import NAMESPACE, a_ready_version, a_service

from trimtab_api.routing import AgentReport
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.errors import Forbidden
from trimtab_operator.domain.outcome import Done, Retry
from trimtab_operator.reconcilers.inferenceservice import reconcile


def waiting(why: str, text: str, **last: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": why, "message": text}}
    return {
        "name": "engine",
        "state": state,
        "restartCount": 3,
        **({"lastState": {"terminated": last}} if last else {}),
    }


TROUBLES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "no node has enough GPUs",
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                }
            ]
        },
        "Unschedulable",
        "Insufficient nvidia.com/gpu",
    ),
    (
        "the image cannot be pulled",
        {"initContainerStatuses": [waiting("ImagePullBackOff", "no such image")]},
        "ImagePullFailed",
        "no such image",
    ),
    (
        "the engine is out of memory",
        {
            "phase": "Running",
            "initContainerStatuses": [
                waiting("CrashLoopBackOff", "back-off", reason="OOMKilled", exitCode=137)
            ],
        },
        "OutOfMemory",
        "spec.engine.memory",
    ),
    (
        "the engine ends again and again",
        {
            "phase": "Running",
            "initContainerStatuses": [
                waiting("CrashLoopBackOff", "back-off", exitCode=1, message="x\nValueError: no\n")
            ],
        },
        "Crashing",
        "ValueError: no",
    ),
    (
        "the engine was restarted and is not ready again",
        {
            "phase": "Running",
            "initContainerStatuses": [
                {
                    "name": "engine",
                    "state": {"running": {}},
                    "restartCount": 1,
                    "lastState": {"terminated": {"exitCode": 1, "message": "RuntimeError: shm"}},
                }
            ],
        },
        "Crashing",
        "RuntimeError: shm",
    ),
    (
        "the node is gone",
        {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "False"},
                {"type": "ContainersReady", "status": "True"},
            ],
        },
        "NodeLost",
        "node n1",
    ),
]


@pytest.mark.parametrize(
    ("status", "reason", "says"), [t[1:] for t in TROUBLES], ids=[t[0] for t in TROUBLES]
)
async def test_what_keeps_an_engine_away_is_said(
    status: dict[str, Any], reason: str, says: str
) -> None:
    fake = world_of(a_service())
    await settle(reconcile, KEY, fake)
    starting(fake, "chat-engine", **status)
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", reason)
    assert says in message(fake, "EngineReady")
    assert told(fake) == ("False", reason)


def not_placed(fake: FakeWorld) -> dict[str, Any]:
    """Just now no node could take the pod."""
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
        "lastTransitionTime": timestamp(fake.clock.now()),
    }


async def test_a_node_that_cannot_take_an_engine_just_now_is_said_when_it_lasts() -> None:
    fake = world_of(a_service())
    await settle(reconcile, KEY, fake)
    starting(fake, "chat-engine", conditions=[not_placed(fake)])
    outcome = await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "Starting")
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None, "nothing will change by itself"
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "Unschedulable")


async def test_a_node_that_cannot_take_the_bases_pod_just_now_is_said_when_it_lasts() -> None:
    fake = world_of(a_service(base={"name": "tiny", "uri": "pvc://models/tiny"}))
    await settle(reconcile, KEY, fake)
    job = fake.cluster.one("Job")
    metadata = {
        **job["spec"]["template"]["metadata"],
        "name": "prepare",
        "namespace": NAMESPACE,
        "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": "j"}],
    }
    status = {"phase": "Pending", "conditions": [not_placed(fake)]}
    fake.cluster.add({"kind": "Pod", "metadata": metadata, "status": status})
    outcome = await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "PreparingBase")
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None, "nothing will change by itself"
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "Unschedulable")


async def test_a_missing_secret_of_keys_is_said() -> None:
    service = a_service(gateway={"replicas": 1, "apiKeys": {"secretName": "keys"}})
    fake = world_of(service)
    await settle(reconcile, KEY, fake)
    starting(
        fake,
        "chat-gateway",
        conditions=[
            {
                "type": "PodScheduled",
                "status": "True",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            },
            {"type": "PodReadyToStartContainers", "status": "False"},
        ],
    )
    outcome = await settle(reconcile, KEY, fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None, "nothing will change by itself"
    fake.clock.advance(seconds=11)
    await settle(reconcile, KEY, fake)
    assert told(fake, "GatewayReady") == ("False", "VolumesMissing")
    assert "Secret keys" in message(fake, "GatewayReady")


async def test_no_engine_wanted_is_said_and_nothing_is_lost() -> None:
    fake = await serving()
    fake.cluster.edit("InferenceService", KEY, {"spec": {"replicas": 0}})
    fake.cluster.take_away("Pod", (NAMESPACE, "chat-engine-0"))
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "ScaledToZero")
    assert weights(fake) == {"bot-1": 100}


async def test_a_child_that_is_refused_is_said_and_the_others_are_written() -> None:
    fake = world_of(a_service())
    fake.cluster.fails = lambda verb, manifest: (
        Forbidden("exceeded quota") if manifest.get("kind") == "Service" else None
    )
    outcome = await settle(reconcile, KEY, fake)
    assert isinstance(outcome, Retry)
    assert told(fake) == ("False", "ChildRefused")
    assert "exceeded quota" in message(fake)
    assert len(fake.cluster.of_kind("Deployment")) == 2


async def failing() -> FakeWorld:
    """bot-2 is asked for, and the engine cannot load it."""
    fake = await serving(a_ready_version("bot-2"), a_ready_version("bot-3"))
    loaded(fake, "bot-1", bot_2="FingerprintMismatch")
    ask_for(fake, "bot-2")
    await settle(reconcile, KEY, fake)
    assert told(fake, "AdaptersReady") == ("False", "FingerprintMismatch")
    return fake


def ask_for(fake: FakeWorld, version: str) -> None:
    models = [{"name": "bot", "version": {"name": version}}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})


def tries_again(fake: FakeWorld) -> None:
    loaded(fake, "bot-1")


def engine_is_down(fake: FakeWorld) -> None:
    fake.agents.reports["10.0.0.1:8000"] = AgentReport(sequence=2, engine_ready=False)


def agent_is_silent(fake: FakeWorld) -> None:
    fake.agents.reports.clear()


@pytest.mark.parametrize("in_between", [tries_again, engine_is_down, agent_is_silent])
async def test_a_load_that_has_failed_has_failed_until_it_succeeds(
    in_between: Callable[[FakeWorld], None],
) -> None:
    fake = await failing()
    before = message(fake, "AdaptersReady"), list(fake.cluster.events)
    in_between(fake)
    await settle(reconcile, KEY, fake)
    assert told(fake, "AdaptersReady") == ("False", "FingerprintMismatch")
    assert (message(fake, "AdaptersReady"), list(fake.cluster.events)) == before
    loaded(fake, "bot-1", "bot-2")
    await settle(reconcile, KEY, fake)
    assert told(fake, "AdaptersReady") == ("True", "AdaptersReady")
    (model,) = [m for m in seen(fake).status.models if m.name == "bot"]
    assert (model.active_version, model.reason) == ("bot-2", None)


async def test_the_failure_of_one_version_is_not_told_of_the_next() -> None:
    fake = await failing()
    tries_again(fake)
    ask_for(fake, "bot-3")
    await settle(reconcile, KEY, fake)
    assert told(fake, "AdaptersReady") == ("False", "Loading")
    assert "bot-3" in message(fake, "AdaptersReady")


async def test_a_fresh_operator_does_not_doubt_what_it_has_not_asked_yet() -> None:
    fake = await serving()
    fake.agents.reports.clear()
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("True", "Ready")
    assert weights(fake) == {"bot-1": 100}


async def test_what_a_new_engine_cannot_load_is_said_while_the_old_one_answers() -> None:
    fake = await serving()
    made = fake.cluster.objects["Deployment", (NAMESPACE, "chat-engine")]
    unready = [{"type": "Ready", "status": "False"}]
    fake.cluster.add(ready_pod(made, 1, "10.0.0.2", conditions=unready))
    counts = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}
    fake.cluster.edit("Deployment", (NAMESPACE, "chat-engine"), {"status": counts})
    loaded(fake, ip="10.0.0.2", bot_1="FingerprintMismatch")
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "FingerprintMismatch")
    said = "1 of 1 engines are ready; bot-1 cannot be loaded on chat-engine-1: because"
    assert message(fake, "EngineReady") == said
    assert weights(fake) == {"bot-1": 100}
