"""Rollouts from the first share to the end, whichever it is: by figures, by people, by accidents."""

from contextlib import suppress
from typing import Any

import pytest
from tests.fakes import Crash, FakeWorld
from tests.rolloutworld import (
    PLAN,
    Traffic,
    bot,
    flows,
    in_rollout,
    reasons,
    rolling,
    rollout_of,
    visits,
)
from tests.servicelife import KEY, answers, loaded, seen, table, told, weights
from tests.servingbuilders import NAMESPACE, a_ready_version, digest_of, metadata_of

from trimtab_api.v1alpha1 import Decision
from trimtab_operator.domain.errors import MetricsUnavailable
from trimtab_operator.reconcilers import decision as decisions
from trimtab_operator.reconcilers import modelversion
from trimtab_operator.reconcilers.inferenceservice import reconcile

ALIKE: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 5)}
BAD: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 60)}


def decide(
    fake: Any, action: str, digest: str | None = None, *, at: int = 0, **target: str
) -> None:
    """Somebody decides about the model bot, or about a version."""
    aimed = target or {"kind": "InferenceService", "name": "chat", "model": "bot"}
    name = f"{action.lower()}-{at}"
    made = Decision.model_validate(
        {
            "metadata": metadata_of(name, creationTimestamp=f"2026-01-02T04:00:{at:02}Z"),
            "spec": {
                "action": action,
                "target": {**aimed, **({"digest": digest} if digest else {})},
                "by": "alice",
                "reason": "because",
            },
        }
    )
    fake.cluster.add(made)


async def test_a_candidate_that_is_loaded_gets_the_share_of_the_first_step() -> None:
    fake, _ = await in_rollout()
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    said = bot(fake)
    assert (said.active_version, said.candidate_version, said.weight) == ("bot-1", "bot-2", 10)
    assert told(fake, "RolloutProgressing")[0] == "True"
    assert table(fake).models[1].salt == rollout_of(fake).salt
    assert told(fake) == ("True", "Ready")
    assert "RolloutStarted" in reasons(fake)


async def test_nothing_is_said_of_rollouts_that_are_not_wanted_any_more() -> None:
    fake, _ = await in_rollout()
    assert told(fake, "RolloutProgressing")[0] == "True"
    models = [{"name": "bot", "version": {"name": "bot-2"}, "rollout": None}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await reconcile(KEY, fake.world)
    await reconcile(KEY, fake.world)
    kinds = {c.type for c in seen(fake).status.conditions}
    assert not kinds & {"RolloutProgressing", "RolledBack"}


async def test_a_good_version_goes_all_the_way_and_is_guarded() -> None:
    fake, traffic = await in_rollout()
    salt = rollout_of(fake).salt
    await flows(fake, traffic, 60, **ALIKE)
    assert weights(fake) == {"bot-1": 50, "bot-2": 50}
    assert "RolloutStep" in reasons(fake)
    answers(fake, bot="bot-2")
    await flows(fake, traffic, 300, **ALIKE)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    assert rollout_of(fake).promoted is not None
    assert rollout_of(fake).reason == "Guarding"
    assert table(fake).models[1].salt == salt
    assert fake.tally.promotions == [("ns", "chat", "bot")]
    assert "Promoted" in reasons(fake)
    await flows(fake, traffic, 700, candidate=(100, 5))
    assert bot(fake).rollout is None
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    assert told(fake, "RolloutProgressing") == ("False", "NoRollout")
    assert told(fake, "RolledBack") == ("False", "NotRolledBack")


@pytest.mark.parametrize(
    ("what", "reason"), [(ALIKE, "Promoted"), (BAD, "RolledBack")], ids=["good", "bad"]
)
async def test_what_becomes_of_a_version_is_told_with_why_it_was_made(
    what: dict[str, Any], reason: str
) -> None:
    fake, traffic = await in_rollout()
    label = {"metadata": {"labels": {"trimtab.dev/correlation": "drift-1a2b"}}}
    fake.cluster.edit("ModelVersion", (NAMESPACE, "bot-2"), label)
    await flows(fake, traffic, 400, **what)
    await visits(fake)
    (said,) = (e for e in fake.cluster.events.values() if e.reason == reason)
    assert said.correlation == "drift-1a2b"


async def test_no_step_is_left_before_its_time_nor_before_its_requests() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    assert rollout_of(fake).step == 1
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 120, stable=(100, 5), candidate=(2, 0))
    assert rollout_of(fake).step == 1


async def test_a_bad_version_loses_its_requests_and_is_quarantined() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 30, **BAD)
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert weights(fake).get("bot-2", 0) == 0
    last = bot(fake).last_rollback
    assert last is not None
    assert (last.from_version, last.to_version, last.reason) == ("bot-2", "bot-1", "CandidateWorse")
    assert last.duration_ms == 0
    assert "ErrorRate" in last.message
    assert last.query is not None
    assert last.evidence[0].candidate_events >= 60
    (made,) = fake.cluster.of_kind("Decision")
    assert made["metadata"]["name"] == last.decision
    assert made["spec"]["action"] == "Quarantine"
    assert made["spec"]["target"]["digest"] == digest_of("bot-2")
    assert made["spec"]["by"] == fake.settings.account
    assert told(fake, "RolledBack") == ("True", "RolledBack")
    assert told(fake) == ("True", "Ready"), "latestOf follows the one that is left"
    assert fake.tally.rollbacks == [("ns", "chat", "bot")]


async def test_a_spec_that_names_it_keeps_the_one_before_and_says_so() -> None:
    fake, traffic = await in_rollout(name="bot-1")
    models = [{"name": "bot", "version": {"name": "bot-2"}, "rollout": PLAN}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await visits(fake)
    await flows(fake, traffic, 30, **BAD)
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert told(fake, "AdaptersReady") == ("False", "VersionQuarantined")
    assert fake.cluster.objects["InferenceService", KEY]["spec"]["models"] == models


async def test_it_does_not_come_back_with_a_new_service_or_under_another_name() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 30, **BAD)
    fake.cluster.take_away("InferenceService", KEY)
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-2"))
    again = a_ready_version("bot-3", creationTimestamp="2026-02-01T00:00:00Z").to_wire()
    again["spec"]["artifact"]["uri"] = f"oci://r/x@{digest_of('bot-2')}"  # type: ignore[index]
    fake.cluster.add(again, "ModelVersion")
    await modelversion.reconcile((NAMESPACE, "bot-3"), fake.world)
    conditions = fake.cluster.objects["ModelVersion", (NAMESPACE, "bot-3")]["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions}["Quarantined"] == "True"
    fake.cluster.add(rolling())
    await visits(fake)
    assert weights(fake) == {"bot-1": 100}


async def test_a_person_can_lift_it() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 30, **BAD)
    (made,) = fake.cluster.of_kind("Decision")
    earlier = {"metadata": {"creationTimestamp": "2026-01-02T03:30:00Z"}}
    fake.cluster.edit("Decision", (NAMESPACE, made["metadata"]["name"]), earlier)
    decide(fake, "LiftQuarantine", digest_of("bot-2"), kind="ModelVersion", name="bot-2")
    fake.clock.advance(hours=2)
    await visits(fake)
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}


async def test_a_version_that_turns_bad_after_its_promotion_goes_back() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 400, **ALIKE)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    await flows(fake, traffic, 30, candidate=(100, 60))
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).active_version == "bot-1"
    last = bot(fake).last_rollback
    assert last is not None
    assert last.reason == "CandidateWorse"
    assert len(fake.cluster.of_kind("Decision")) == 1


# --- nothing is known ------------------------------------------------------------------------------


async def test_without_prometheus_it_holds_at_the_first_step() -> None:
    fake, traffic = await in_rollout()
    fake.metrics.error = MetricsUnavailable("connection refused")
    await flows(fake, traffic, 300, **ALIKE)
    assert (rollout_of(fake).step, rollout_of(fake).reason) == (1, "MetricsUnavailable")
    assert "connection refused" in rollout_of(fake).message


async def test_no_step_is_left_while_prometheus_is_away_and_it_goes_on_afterwards() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    fake.metrics.error = MetricsUnavailable("gone")
    await flows(fake, traffic, 600, **ALIKE)
    assert (rollout_of(fake).step, rollout_of(fake).reason) == (1, "MetricsUnavailable")
    fake.metrics.error = None
    await flows(fake, traffic, 20, **ALIKE)
    assert rollout_of(fake).step == 2
    assert rollout_of(fake).metrics[0].candidate_requests >= 12_000, "what it missed is not lost"


async def test_without_traffic_nothing_is_promoted_however_long() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 3600)
    assert (rollout_of(fake).step, rollout_of(fake).promoted) == (1, None)


async def test_the_deadline_holds_or_rolls_back_and_never_promotes() -> None:
    short = {"deadlineSeconds": 60}
    fake, traffic = await in_rollout({**PLAN, "analysis": short})
    await flows(fake, traffic, 200)
    assert rollout_of(fake).reason == "DeadlineExceeded"
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    back = {**short, "onInconclusive": "RollBack"}
    fake, traffic = await in_rollout({**PLAN, "analysis": back})
    await flows(fake, traffic, 200)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).last_rollback.reason == "DeadlineExceeded"  # type: ignore[union-attr]


async def test_a_gateway_that_restarts_counts_nothing_twice() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    before = rollout_of(fake).metrics[0].candidate_requests
    traffic.restart()
    await flows(fake, traffic, 10, **ALIKE)
    assert rollout_of(fake).metrics[0].candidate_requests - before <= 200


async def test_nothing_is_asked_while_nothing_is_rolled_out() -> None:
    fake, traffic = await in_rollout()
    decide(fake, "Abort", digest_of("bot-2"))
    await visits(fake)
    fake.metrics.asked.clear()
    await flows(fake, traffic, 30, stable=(10, 0))
    assert fake.metrics.asked == []


# --- a dry run -------------------------------------------------------------------------------------


async def test_a_dry_run_tells_its_verdict_and_does_nothing() -> None:
    fake, traffic = await in_rollout({**PLAN, "dryRun": True})
    await flows(fake, traffic, 60, **BAD)
    assert rollout_of(fake).reason == "DryRun"
    assert rollout_of(fake).verdict == "RollBack"
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    assert "DryRun" in reasons(fake)
    assert fake.cluster.of_kind("Decision") == []
    fake, traffic = await in_rollout({**PLAN, "dryRun": True})
    await flows(fake, traffic, 400, **ALIKE)
    assert weights(fake) == {"bot-1": 50, "bot-2": 50}
    assert "it would be promoted" in rollout_of(fake).message


# --- people ----------------------------------------------------------------------------------------


async def test_a_promotion_by_a_person() -> None:
    fake, _ = await in_rollout()
    decide(fake, "Promote", digest_of("bot-2"))
    answers(fake, bot="bot-2")
    await visits(fake)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}
    await decisions.reconcile((NAMESPACE, "promote-0"), fake.world)
    said = fake.cluster.objects["Decision", (NAMESPACE, "promote-0")]["status"]["conditions"]
    assert [(c["status"], c["reason"]) for c in said] == [("True", "InForce")]


async def test_a_promotion_of_another_digest_is_none() -> None:
    fake, _ = await in_rollout()
    decide(fake, "Promote", digest_of("bot-9"))
    await visits(fake)
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}


@pytest.mark.parametrize("promoted", [False, True])
async def test_an_abortion_goes_back_and_quarantines_nothing(*, promoted: bool) -> None:
    fake, _ = await in_rollout()
    if promoted:
        decide(fake, "Promote", digest_of("bot-2"))
        await visits(fake)
    decide(fake, "Abort", digest_of("bot-2"), at=1)
    await visits(fake)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    assert bot(fake).last_rollback.reason == "Aborted"  # type: ignore[union-attr]
    assert all(d["spec"]["action"] != "Quarantine" for d in fake.cluster.of_kind("Decision"))
    fake.cluster.take_away("Decision", (NAMESPACE, "abort-1"))
    fake.clock.advance(minutes=5)
    await visits(fake)
    assert weights(fake) == {"bot-1": 100}, "deleting the Decision undoes nothing"


async def test_a_pause_holds_and_an_alarm_rolls_back_all_the_same() -> None:
    fake, traffic = await in_rollout()
    decide(fake, "Pause")
    await flows(fake, traffic, 120, **ALIKE)
    assert (rollout_of(fake).step, rollout_of(fake).reason) == (1, "Paused")
    await flows(fake, traffic, 30, **BAD)
    assert bot(fake).last_rollback is not None


async def test_a_resumption_goes_on() -> None:
    fake, traffic = await in_rollout()
    decide(fake, "Pause")
    decide(fake, "Resume", at=1)
    await flows(fake, traffic, 60, **ALIKE)
    assert rollout_of(fake).step == 2


async def test_a_pin_ends_the_rollout_until_it_is_resumed() -> None:
    fake, _ = await in_rollout()
    decide(fake, "Pin", digest_of("bot-1"))
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).rollout is None
    decide(fake, "Resume", at=1)
    await visits(fake)
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}


# --- accidents -------------------------------------------------------------------------------------


async def test_a_newer_version_takes_the_place_of_the_candidate() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 60, **ALIKE)
    fake.cluster.add(a_ready_version("bot-3", creationTimestamp="2026-01-03T00:00:00Z"))
    await visits(fake)
    assert weights(fake) == {"bot-1": 100, "bot-3": 0}
    loaded(fake, "bot-1", "bot-3")
    await visits(fake)
    assert weights(fake) == {"bot-1": 90, "bot-3": 10}
    assert rollout_of(fake).metrics[0].candidate_requests == 0
    assert fake.cluster.of_kind("Decision") == []
    assert "RolloutEnded" in reasons(fake)


async def test_a_candidate_that_is_deleted_leaves() -> None:
    fake, _ = await in_rollout()
    gone = {"metadata": {"deletionTimestamp": "2026-01-02T03:05:00Z"}}
    fake.cluster.edit("ModelVersion", (NAMESPACE, "bot-2"), gone)
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).rollout is None


async def test_versions_that_are_swapped_in_the_spec_are_not_mixed_up() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 400, **ALIKE)
    models = [{"name": "bot", "version": {"name": "bot-1"}, "rollout": PLAN}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await visits(fake)
    assert weights(fake) == {"bot-2": 90, "bot-1": 10}
    assert rollout_of(fake).stable == "bot-2"
    assert rollout_of(fake).metrics[0].candidate_requests == 0


async def test_a_guarded_version_keeps_its_way_back_when_the_table_is_lost() -> None:
    fake, _ = await in_rollout()
    decide(fake, "Promote", digest_of("bot-2"))
    await visits(fake)
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await visits(fake)
    assert weights(fake) == {"bot-2": 100, "bot-1": 0}


async def test_a_share_is_given_again_when_the_table_is_lost() -> None:
    fake, traffic = await in_rollout()
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await flows(fake, traffic, 10, **ALIKE)
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}


async def test_what_an_engine_cannot_load_any_more_gets_nothing_meanwhile() -> None:
    fake, _ = await in_rollout()
    loaded(fake, "bot-1", bot_2="FingerprintMismatch")
    await visits(fake)
    assert weights(fake) == {"bot-1": 100, "bot-2": 0}
    assert told(fake, "RolloutProgressing") == ("True", "NotLoaded")
    loaded(fake, "bot-1", "bot-2")
    await visits(fake)
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}


async def test_a_first_version_has_nothing_to_be_compared_with() -> None:
    fake, _ = await in_rollout()
    assert fake.cluster.events  # bot-1 had all requests at once
    assert [e.message for e in fake.cluster.events.values() if e.reason == "VersionActive"]


async def looked_at(
    fake: FakeWorld, traffic: Traffic, candidate: tuple[int, int], dies_after: int | None
) -> None:
    """One more scrape, in whose look the operator dies after so many writes; and the next ones."""
    fake.clock.advance(seconds=5)
    traffic.served("bot-1", 100, 5)
    traffic.served("bot-2", *candidate)
    traffic.scrape()
    if dies_after is not None:
        fake.cluster.dies_in(dies_after)
        with suppress(Crash):
            await reconcile(KEY, fake.world)
        fake.cluster.revive()
    await visits(fake, 4)


@pytest.mark.parametrize("writes", range(1, 9))
async def test_an_operator_that_dies_in_a_rollback_ends_where_the_other_does(writes: int) -> None:
    async def story(*, dies_after: int | None) -> Any:
        fake, traffic = await in_rollout()
        await flows(fake, traffic, 20, **ALIKE)
        await looked_at(fake, traffic, (400, 300), dies_after)
        assert bot(fake).last_rollback is not None
        return fake.cluster.state

    assert await story(dies_after=writes) == await story(dies_after=None)


@pytest.mark.parametrize("writes", range(1, 7))
async def test_an_operator_that_dies_at_a_step_ends_where_the_other_does(writes: int) -> None:
    async def story(*, dies_after: int | None) -> Any:
        fake, traffic = await in_rollout()
        await flows(fake, traffic, 25, **ALIKE)
        await looked_at(fake, traffic, (100, 5), dies_after)
        assert rollout_of(fake).step == 2
        return fake.cluster.state

    assert await story(dies_after=writes) == await story(dies_after=None)


def test_traffic_is_what_it_says() -> None:
    """The helper's own arithmetic: totals grow by requests, errors among them."""
    traffic = Traffic(FakeWorld())
    traffic.served("bot-1", 10, 3)
    assert dict(traffic.totals) == {("bot-1", "200"): 7, ("bot-1", "500"): 3}
