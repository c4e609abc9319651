"""Drift that takes a version back: to the one before it, once, and only where there is one."""

from contextlib import suppress
from typing import Any

import pytest
from tests.driftworld import MOVED, USUAL, Gateways, drift, go_on, watched_model, watching
from tests.fakes import Crash, FakeWorld
from tests.rolloutworld import reasons
from tests.servicelife import KEY, answers, loaded, message, run, seen, told, weights
from tests.servingbuilders import a_ready_version, digest_of

from trimtab_api.v1alpha1.rollout import RollbackStatus
from trimtab_operator.reconcilers.inferenceservice import reconcile


def rolling_back(**drift: Any) -> dict[str, Any]:
    given = {"signals": ["Languages"], "onDrift": "Rollback", **drift}
    return watched_model(version={"latestOf": "bot"}, drift=given)


async def second_version(
    *, has_one_before: bool = True, **changes: Any
) -> tuple[FakeWorld, Gateways]:
    """bot-2 has the requests of the model, and bot-1 is loaded beside it."""
    fake, gateways = await watching(**rolling_back(**changes))
    fake.cluster.add(a_ready_version("bot-2", creationTimestamp="2026-01-02T03:05:00Z"))
    loaded(fake, *(["bot-1"] if has_one_before else []), "bot-2")
    answers(fake, bot="bot-2")
    for _ in range(3):
        await reconcile(KEY, fake.world)
    assert weights(fake)["bot-2"] == 100
    return fake, gateways


async def moved(fake: FakeWorld, gateways: Gateways, minutes: int = 12) -> None:
    await go_on(fake, gateways, USUAL, 14, version="bot-2")
    await go_on(fake, gateways, MOVED, minutes, version="bot-2")


def last(fake: FakeWorld) -> RollbackStatus | None:
    (bot,) = (m for m in seen(fake).status.models if m.name == "bot")
    return bot.last_rollback


async def test_the_version_before_has_the_requests_again_and_the_drifted_one_is_quarantined() -> (
    None
):
    fake, gateways = await second_version()
    await moved(fake, gateways)
    assert weights(fake)["bot-1"] == 100
    assert weights(fake).get("bot-2", 0) == 0
    found = last(fake)
    assert found is not None
    assert (found.from_version, found.to_version, found.reason) == ("bot-2", "bot-1", "Drifted")
    assert "Languages has moved since" in found.message
    assert found.evidence[0].name == "Languages"
    assert found.evidence[0].log_evidence is not None
    assert found.evidence[0].alarm_at is not None
    assert found.evidence[0].log_evidence >= found.evidence[0].alarm_at
    (made,) = fake.cluster.of_kind("Decision")
    assert made["spec"]["target"]["digest"] == digest_of("bot-2")
    assert made["spec"]["reason"].startswith("drift of bot in InferenceService chat: Languages")
    assert told(fake, "RolledBack") == ("True", "RolledBack")
    assert {"Drifting", "RolledBack"} <= set(reasons(fake))
    assert fake.tally.rollbacks == [("ns", "chat", "bot")]


async def test_the_drift_is_in_status_before_anything_follows() -> None:
    fake, gateways = await second_version()
    await go_on(fake, gateways, USUAL, 14, version="bot-2")
    for _ in range(12):
        await go_on(fake, gateways, MOVED, 1, version="bot-2")
        if drift(fake).reason == "Drifting":
            break
    assert drift(fake).plan == "bot-2 is rolled back to bot-1"
    assert weights(fake)["bot-2"] == 100
    await reconcile(KEY, fake.world)
    assert weights(fake)["bot-1"] == 100


async def test_without_a_version_before_it_goes_on_and_that_is_told() -> None:
    fake, gateways = await watching(**rolling_back())
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 12)
    assert weights(fake) == {"bot-1": 100}
    assert drift(fake).reason == "Drifting"
    assert drift(fake).plan == "no rollback: there is no version before it that is still loaded"
    assert last(fake) is None
    assert fake.cluster.of_kind("Decision") == []


async def test_a_version_that_is_on_its_way_is_none_to_go_back_to() -> None:
    fake, gateways = await watching(**rolling_back())
    fake.cluster.add(a_ready_version("bot-2", creationTimestamp="2026-01-02T03:05:00Z"))
    await reconcile(KEY, fake.world)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 12)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    assert drift(fake).plan == "no rollback: bot-2 is on its way"


async def test_a_version_before_that_an_engine_has_lost_gets_nothing() -> None:
    fake, gateways = await second_version()
    loaded(fake, "bot-2")
    await moved(fake, gateways)
    assert weights(fake)["bot-2"] == 100
    assert drift(fake).plan is not None
    assert "no rollback" in drift(fake).plan  # type: ignore[operator]
    assert fake.cluster.of_kind("Decision") == []


async def test_a_version_before_that_one_of_two_engines_has_lost_gets_nothing() -> None:
    fake, gateways = await second_version()
    fake.cluster.edit("InferenceService", KEY, {"spec": {"replicas": 2}})
    run(fake, "chat-engine", ["10.0.0.1", "10.0.0.2"])
    loaded(fake, "bot-2", ip="10.0.0.2")
    await moved(fake, gateways)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    assert (
        drift(fake).plan == "no rollback: bot-1, the version before, is not loaded on every engine"
    )
    loaded(fake, "bot-1", "bot-2", ip="10.0.0.2")
    await go_on(fake, gateways, MOVED, 2, version="bot-2")
    assert weights(fake)["bot-1"] == 100


async def test_a_dry_run_says_what_would_be() -> None:
    fake, gateways = await second_version(dryRun=True)
    await moved(fake, gateways)
    assert weights(fake)["bot-2"] == 100
    assert drift(fake).plan == "dryRun: bot-2 would be rolled back to bot-1"
    assert last(fake) is None


async def test_an_alert_rolls_nothing_back() -> None:
    fake, gateways = await second_version(onDrift="Alert")
    await moved(fake, gateways)
    assert weights(fake)["bot-2"] == 100
    assert told(fake, "DriftDetected") == ("True", "Drifting")
    assert drift(fake).plan is None


async def test_one_drift_rolls_back_once_and_the_next_version_begins_anew() -> None:
    fake, gateways = await second_version()
    await moved(fake, gateways)
    found = last(fake)
    await go_on(fake, gateways, MOVED, 30, version="bot-1")
    assert last(fake) == found
    assert drift(fake).version == "bot-1"
    assert told(fake, "DriftDetected")[0] != "True", "what it meets is its own first day"
    assert len(fake.cluster.of_kind("Decision")) == 1


@pytest.mark.parametrize("writes", range(8))
async def test_an_operator_that_dies_on_the_way_ends_at_the_same(writes: int) -> None:
    fake, gateways = await second_version()
    await go_on(fake, gateways, USUAL, 14, version="bot-2")
    for _ in range(12):
        await go_on(fake, gateways, MOVED, 1, version="bot-2")
        if drift(fake).reason == "Drifting":
            break
    fake.cluster.dies_in(writes)
    with suppress(Crash):
        await reconcile(KEY, fake.world)
    fake.cluster.revive()
    fake.clock.advance(seconds=5)
    for _ in range(3):
        await reconcile(KEY, fake.world)
    assert weights(fake)["bot-1"] == 100
    assert len(fake.cluster.of_kind("Decision")) == 1
    found = last(fake)
    assert found is not None
    assert found.duration_ms is not None
    assert message(fake, "RolledBack").startswith("bot: bot-2 (Drifted)")
