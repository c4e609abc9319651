"""InferenceService, from nothing to answers, and through what may go wrong on the way."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import Crash, FakeCluster, FakeWorld, settings, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    a_version,
    digest_of,
    uri_of,
)

from trimtab_api.routing import AdapterState, AgentReport, ProbeAnswer, RoutingTable
from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden
from trimtab_operator.domain.outcome import Done, Retry
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.settings import Images

KEY = (NAMESPACE, "chat")
BOT = {"bot": {"name": "bot-1"}}


def world_of(*objects: Any) -> FakeWorld:
    fake = FakeWorld()
    for each in objects:
        fake.cluster.add(each)
    return fake


def seen(fake: FakeWorld) -> InferenceService:
    service = fake.cluster.get(InferenceService, KEY)
    assert service is not None
    return service


def told(fake: FakeWorld, kind: str = "Ready") -> tuple[str, str]:
    found = find(seen(fake).status.conditions, kind)
    assert found is not None, kind
    return found.status.value, found.reason


def message(fake: FakeWorld, kind: str = "Ready") -> str:
    found = find(seen(fake).status.conditions, kind)
    assert found is not None, kind
    return found.message


def table(fake: FakeWorld) -> RoutingTable:
    data = fake.cluster.objects["ConfigMap", (NAMESPACE, "chat-routing")]["data"]
    return RoutingTable.model_validate_json(data["table.json"])


def weights(fake: FakeWorld, model: str = "bot") -> dict[str, int]:
    routed = next(m for m in table(fake).models if m.name == model)
    return {v.version: v.weight for v in routed.versions}


# --- the rest of the cluster, as far as a service needs it ---------------------------------------


def ready_pod(deployment: dict[str, Any], number: int, ip: str, **status: Any) -> dict[str, Any]:
    name = deployment["metadata"]["name"]
    return {
        "kind": "Pod",
        "metadata": {
            **deployment["spec"]["template"]["metadata"],
            "name": f"{name}-{number}",
            "namespace": NAMESPACE,
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


def run(fake: FakeWorld, name: str, ips: list[str]) -> None:
    """The Deployment's pods are all there."""
    deployment = fake.cluster.objects["Deployment", (NAMESPACE, name)]
    for number, ip in enumerate(ips):
        fake.cluster.add(ready_pod(deployment, number, ip))
    count = len(ips)
    fake.cluster.edit(
        "Deployment",
        (NAMESPACE, name),
        {
            "status": {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": count,
                "updatedReplicas": count,
                "availableReplicas": count,
            }
        },
    )


def loaded(fake: FakeWorld, *versions: str, ip: str = "10.0.0.1", **states: str) -> None:
    """The agent at this address says what it has."""
    fake.agents.reports[f"{ip}:8000"] = AgentReport(
        sequence=1,
        engine_ready=True,
        adapters=[
            *(AdapterState(version=v, digest=digest_of(v), state="Loaded") for v in versions),
            *(
                AdapterState(
                    version=v.replace("_", "-"),
                    digest=digest_of(v.replace("_", "-")),
                    state="Failed",
                    reason=reason,
                    message="because",
                )
                for v, reason in states.items()
            ),
        ],
    )


def answers(fake: FakeWorld, **models: str) -> None:
    """The gateway answers these names by these versions, and the base by its own."""
    fake.pods.gateways["10.0.0.9"] = {
        name: ProbeAnswer(model=name, version=version, ok=True)
        for name, version in {"tiny": "tiny", **models}.items()
    }


async def serving(*objects: Any, models: dict[str, Any] | None = None) -> FakeWorld:
    """A service whose engine and gateway run and whose model bot answers by bot-1."""
    fake = world_of(a_service(models=models or BOT), a_ready_version("bot-1"), *objects)
    await settle(reconcile, KEY, fake)
    run(fake, "chat-engine", ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake, "bot-1")
    answers(fake, bot="bot-1")
    await settle(reconcile, KEY, fake)
    return fake


# --- the way to Ready ----------------------------------------------------------------------------


async def test_from_nothing_to_a_model_that_answers() -> None:
    fake = world_of(a_service(models=BOT), a_ready_version("bot-1"))
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "Starting")
    assert weights(fake) == {"bot-1": 0}
    run(fake, "chat-engine", ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake)
    await settle(reconcile, KEY, fake)
    assert [e.address for e in table(fake).engines] == ["10.0.0.1:8000"]
    assert told(fake) == ("False", "Loading")
    loaded(fake, "bot-1")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100}
    assert told(fake) == ("False", "ProbeFailed"), "nobody has answered yet"
    answers(fake, bot="bot-1")
    assert await settle(reconcile, KEY, fake) == Done()
    assert told(fake) == ("True", "Ready")
    status = seen(fake).status
    assert status.url == "http://chat.ns.svc"
    assert status.replicas == 1
    assert [(m.name, m.active_version) for m in status.models] == [
        ("tiny", "tiny"),
        ("bot", "bot-1"),
    ]
    assert status.base_digest == digest_of("base")


async def test_an_answer_by_the_wrong_version_is_not_ready_and_is_asked_again_soon() -> None:
    fake = await serving()
    fake.cluster.edit("InferenceService", KEY, {"status": {"conditions": []}})
    answers(fake, bot="bot-0")
    outcome = await reconcile(KEY, fake.world)
    assert told(fake) == ("Unknown", "Probing")
    assert outcome == Done(timedelta(seconds=0.25))
    fake.clock.advance(seconds=4)
    assert await reconcile(KEY, fake.world) == Done(timedelta(seconds=2)), "ever more seldom"


async def test_a_service_that_is_ready_asks_no_model_again() -> None:
    fake = await serving()
    fake.pods.gateways.clear()
    assert await settle(reconcile, KEY, fake) == Done()
    assert told(fake) == ("True", "Ready")


async def test_a_new_version_is_loaded_then_served_while_the_old_one_answers() -> None:
    fake = await serving(a_ready_version("bot-2"))
    fake.cluster.edit(
        "InferenceService",
        KEY,
        {"spec": {"models": [{"name": "bot", "version": {"name": "bot-2"}}]}},
    )
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    models = {m.name: m for m in seen(fake).status.models}
    assert models["bot"].active_version == "bot-1"
    assert models["bot"].candidate_version == "bot-2"
    loaded(fake, "bot-1", "bot-2")
    answers(fake, bot="bot-2")
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    assert told(fake) == ("True", "Ready")
    said = [e.message for e in fake.cluster.events.values() if e.reason == "VersionActive"]
    assert "bot is answered by bot-2 instead of bot-1" in said


async def test_latest_of_follows_the_newest_ready_version() -> None:
    fake = await serving(models={"bot": {"latestOf": "bot"}})
    fake.cluster.add(a_ready_version("bot-2", creationTimestamp="2026-06-01T00:00:00Z"))
    await settle(reconcile, KEY, fake)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}


@dataclass(frozen=True)
class Bad:
    name: str
    version: Any
    reason: str
    says: str
    states: dict[str, str] = field(default_factory=dict)


BAD = [
    Bad("a missing version", None, "VersionMissing", "no ModelVersion bot-2"),
    Bad("a version that nobody has judged", a_version("bot-2"), "VersionNotReady", "not Ready"),
    Bad("a rank too high", a_ready_version("bot-2", rank=64), "RankTooHigh", "maxRank"),
    Bad(
        "another base",
        a_ready_version(
            "bot-2", status=a_ready_version().status.to_wire() | {"baseDigest": digest_of("x")}
        ),
        "BaseMismatch",
        "adapter of base",
    ),
    Bad(
        "an engine that was made to load another adapter than it says",
        a_ready_version("bot-2"),
        "FingerprintMismatch",
        "because",
        {"bot_2": "FingerprintMismatch"},
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b.name)
async def test_what_was_good_stays_served_and_status_says_why(bad: Bad) -> None:
    fake = await serving(*([bad.version] if bad.version else []))
    loaded(fake, "bot-1", **bad.states)
    fake.cluster.edit(
        "InferenceService",
        KEY,
        {"spec": {"models": [{"name": "bot", "version": {"name": "bot-2"}}]}},
    )
    await settle(reconcile, KEY, fake)
    assert weights(fake)["bot-1"] == 100
    assert told(fake, "AdaptersReady") == ("False", bad.reason)
    assert told(fake) == ("False", bad.reason)
    models = {m.name: m for m in seen(fake).status.models}
    assert models["bot"].active_version == "bot-1"
    assert bad.says in (models["bot"].message or "")


# --- releases -------------------------------------------------------------------------------------

NEWER = Images(pipelines="p:2", serving="s:2", engine="e:2")


def images(fake: FakeWorld, deployment: str) -> list[str]:
    template = fake.cluster.objects["Deployment", (NAMESPACE, deployment)]["spec"]["template"]
    parts = ("initContainers", "containers")
    return [c["image"] for part in parts for c in template["spec"].get(part, [])]


async def test_an_operator_upgrade_rolls_gateways_and_changes_no_engine() -> None:
    fake = await serving()
    before = fake.cluster.objects["Deployment", (NAMESPACE, "chat-engine")]["spec"]
    fake.settings = settings(images=NEWER, image_pull_policy="Always")
    await settle(reconcile, KEY, fake)
    assert fake.cluster.objects["Deployment", (NAMESPACE, "chat-engine")]["spec"] == before
    assert images(fake, "chat-gateway") == ["s:2"]


async def test_engines_move_to_the_new_release_when_asked() -> None:
    fake = await serving()
    fake.settings = settings(images=NEWER)
    fake.cluster.edit(
        "InferenceService", KEY, {"metadata": {"annotations": {"trimtab.dev/engine-release": "2"}}}
    )
    await settle(reconcile, KEY, fake)
    assert images(fake, "chat-engine") == ["e:2", "s:2"]
    release = seen(fake).status.release
    assert release is not None
    assert release.requested == "2"


async def test_a_change_of_the_engine_keeps_its_images() -> None:
    fake = await serving()
    fake.settings = settings(images=NEWER)
    fake.cluster.edit("InferenceService", KEY, {"spec": {"engine": {"memory": "3Gi"}}})
    await settle(reconcile, KEY, fake)
    assert images(fake, "chat-engine") == ["trimtab/engine-cpu:dev", "trimtab/serving:dev"]


# --- troubles ------------------------------------------------------------------------------------


def starting(fake: FakeWorld, deployment: str, **status: Any) -> None:
    made = fake.cluster.objects["Deployment", (NAMESPACE, deployment)]
    fake.cluster.add(
        ready_pod(
            made,
            0,
            "",
            **{"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], **status},
        )
    )


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
        {"phase": "Running", "conditions": [{"type": "Ready", "status": "Unknown"}]},
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


async def test_a_fresh_operator_does_not_doubt_what_it_has_not_asked_yet() -> None:
    fake = await serving()
    fake.agents.reports.clear()
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("True", "Ready")
    assert weights(fake) == {"bot-1": 100}


async def test_agents_of_a_deleted_service_are_followed_no_more() -> None:
    fake = await serving()
    assert fake.agents.followed["InferenceService", KEY] == {"10.0.0.1:8000"}
    fake.cluster.take_away("InferenceService", KEY)
    assert await reconcile(KEY, fake.world) == Done()
    assert fake.agents.followed["InferenceService", KEY] == set()


# --- the base ------------------------------------------------------------------------------------


async def test_a_base_from_a_hub_is_mirrored_by_a_pod_with_the_users_secret() -> None:
    base = {
        "name": "tiny",
        "uri": "hf://Org/Tiny",
        "revision": "abc",
        "credentials": {"secretName": "hub"},
    }
    fake = world_of(a_service(base=base))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "PreparingBase")
    job = fake.cluster.one("Job")
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["base-credentials"]["secret"] == {"secretName": "hub"}
    finish(fake, job)
    tag = f"oci://registry.internal:5000/trimtab/base/org/tiny:run-{seen(fake).metadata.uid}-prepare-0"
    fake.registry.error = ArtifactUnreachable("down")
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    made = {"base": {"uri": uri_of("base"), "digest": digest_of("base")}}
    fake.registry.documents[tag] = json.dumps(made).encode()
    await settle(reconcile, KEY, fake)
    assert seen(fake).status.base_uri == uri_of("base")
    assert len(fake.cluster.of_kind("Deployment")) == 2


async def test_a_base_that_cannot_be_had_is_said() -> None:
    fake = world_of(a_service(base={"name": "tiny", "uri": "pvc://models/tiny"}))
    await settle(reconcile, KEY, fake)
    job = fake.cluster.one("Job")
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert "/claims/models" in {m["mountPath"] for m in mounts}
    finish(fake, job, failure={"reason": "UnsafeFormat", "message": "model.bin is a pickle"})
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "UnsafeFormat")
    assert fake.cluster.of_kind("Deployment") == []


def finish(fake: FakeWorld, job: dict[str, Any], failure: dict[str, str] | None = None) -> None:
    kind = "Failed" if failure else "Complete"
    fake.cluster.edit(
        "Job",
        (NAMESPACE, job["metadata"]["name"]),
        {"status": {"conditions": [{"type": kind, "status": "True", "reason": "x"}]}},
    )
    if failure:
        ended = {"exitCode": 42, "message": json.dumps({"failure": failure})}
        fake.cluster.add(
            {
                "kind": "Pod",
                "metadata": {
                    **job["spec"]["template"]["metadata"],
                    "name": "prepare",
                    "namespace": NAMESPACE,
                    "ownerReferences": [
                        {"kind": "Job", "name": job["metadata"]["name"], "uid": "j"}
                    ],
                },
                "status": {
                    "phase": "Failed",
                    "containerStatuses": [{"name": "prepare", "state": {"terminated": ended}}],
                },
            }
        )


@pytest.mark.parametrize(
    ("base", "ready"),
    [
        pytest.param(None, ("Unknown", "BaseMissing"), id="there is no such version"),
        pytest.param(
            a_version("base", kind="Full"), ("Unknown", "BaseNotReady"), id="it is not Ready"
        ),
        pytest.param(a_ready_version("base"), ("False", "BaseNotFull"), id="it is an adapter"),
        pytest.param(
            a_ready_version("base", kind="Full"), ("False", "Starting"), id="it is full and Ready"
        ),
    ],
)
async def test_a_base_by_reference(base: Any, ready: tuple[str, str]) -> None:
    service = a_service(base={"name": "tiny", "modelVersion": {"name": "base"}})
    fake = world_of(service, *([base] if base else []))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ready


# --- crashes -------------------------------------------------------------------------------------

Prepare = Callable[[FakeWorld], None]


@pytest.mark.parametrize("writes", range(26))
async def test_a_crash_between_writes_leaves_no_trace(writes: int) -> None:
    calm = world_of(a_service(models=BOT), a_ready_version("bot-1"))
    await settle(reconcile, KEY, calm)
    shaken = FakeWorld(cluster=FakeCluster(dies_after=writes))
    shaken.cluster.add(a_service(models=BOT))
    shaken.cluster.add(a_ready_version("bot-1"))
    with suppress(Crash):
        await settle(reconcile, KEY, shaken)
    shaken.cluster.revive()
    await settle(reconcile, KEY, shaken)
    assert shaken.cluster.state == calm.cluster.state
