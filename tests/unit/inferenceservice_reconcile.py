"""InferenceService, from nothing to answers, from version to version and from release to release."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import Crash, FakeCluster, FakeWorld, settings, settle
from tests.servicelife import (
    BOT,
    KEY,
    answers,
    joins,
    loaded,
    ready_pod,
    run,
    seen,
    serving,
    table,
    told,
    weights,
    world_of,
)
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    a_version,
    digest_of,
)

from trimtab_operator.domain.outcome import Done
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.settings import Images


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


async def test_a_way_back_is_not_ready_before_it_has_answered() -> None:
    fake = await serving(a_ready_version("bot-2"))
    for version in ("bot-2", "bot-1"):
        wanted = [{"name": "bot", "version": {"name": version}}]
        fake.cluster.edit("InferenceService", KEY, {"spec": {"models": wanted}})
        loaded(fake, "bot-1", "bot-2")
        answers(fake, bot="bot-2")  # in the end the gateway has not seen the new table yet
        await reconcile(KEY, fake.world)
        await reconcile(KEY, fake.world)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    assert told(fake) == ("Unknown", "Probing")
    assert seen(fake).status.observed_generation == seen(fake).metadata.generation


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


async def test_agents_of_a_deleted_service_are_followed_no_more() -> None:
    fake = await serving()
    assert fake.agents.followed["InferenceService", KEY] == {"10.0.0.1:8000"}
    fake.cluster.take_away("InferenceService", KEY)
    assert await reconcile(KEY, fake.world) == Done()
    assert fake.agents.followed["InferenceService", KEY] == set()


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


async def test_a_new_engine_is_in_the_table_before_it_is_ready() -> None:
    fake = await serving()
    made = fake.cluster.objects["Deployment", (NAMESPACE, "chat-engine")]
    unready = [{"type": "Ready", "status": "False"}]
    fake.cluster.add(ready_pod(made, 1, "10.0.0.2", conditions=unready))
    loaded(fake, "bot-1", ip="10.0.0.2")
    await settle(reconcile, KEY, fake)
    assert [e.address for e in table(fake).engines] == ["10.0.0.1:8000"]
    joins(fake, "10.0.0.2")
    await settle(reconcile, KEY, fake)
    assert [e.address for e in table(fake).engines] == ["10.0.0.1:8000", "10.0.0.2:8000"]
    assert weights(fake) == {"bot-1": 100}


async def test_a_change_of_the_engine_keeps_its_images() -> None:
    fake = await serving()
    fake.settings = settings(images=NEWER)
    fake.cluster.edit("InferenceService", KEY, {"spec": {"engine": {"memory": "3Gi"}}})
    await settle(reconcile, KEY, fake)
    assert images(fake, "chat-engine") == ["trimtab/engine-cpu:dev", "trimtab/serving:dev"]


# --- crashes -------------------------------------------------------------------------------------


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
