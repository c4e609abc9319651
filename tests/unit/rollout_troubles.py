"""Rollouts among accidents: whatever is missing, lies or comes at a bad moment, the stable version goes on answering."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import FakeWorld
from tests.rolloutworld import PLAN, Traffic, bot, flows, in_rollout, reasons, rollout_of, visits
from tests.servicelife import KEY, answers, loaded, run, told, weights
from tests.servingbuilders import NAMESPACE, a_ready_version, digest_of, metadata_of

from trimtab_api.v1alpha1 import Decision
from trimtab_operator.domain.errors import MetricsUnusable
from trimtab_operator.domain.promql import confined
from trimtab_operator.reconcilers.inferenceservice import reconcile

ALIKE: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 5)}
BAD: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 60)}


def place(fake: FakeWorld) -> tuple[int, str]:
    status = rollout_of(fake)
    return status.step, status.reason


async def passes(fake: FakeWorld, traffic: Traffic, minutes: int) -> None:
    """Requests as before, and nobody scrapes."""
    for _ in range(minutes * 2):
        fake.clock.advance(seconds=30)
        traffic.served("bot-1", 600, 30)
        traffic.served("bot-2", 600, 30)
        await visits(fake, 1)


# --- nothing comes, or too late -------------------------------------------------------------------


async def test_ten_minutes_without_a_scrape_are_a_hold_and_nothing_of_them_is_lost() -> None:
    fake, traffic = await in_rollout({**PLAN, "stepSeconds": 120})
    await flows(fake, traffic, 20, **ALIKE)
    before = rollout_of(fake).metrics[0].candidate_requests
    assert before >= PLAN["stepRequests"], "the step waits for its time alone"
    await passes(fake, traffic, 10)
    assert place(fake) == (1, "NoTraffic")
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    await flows(fake, traffic, 20, **ALIKE)
    assert rollout_of(fake).metrics[0].candidate_requests >= before + 20 * 600
    assert rollout_of(fake).step == 2
    assert bot(fake).last_rollback is None


async def test_a_bad_version_is_found_after_a_gap_all_the_same() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    await passes(fake, traffic, 10)
    await flows(fake, traffic, 20, **BAD)
    assert bot(fake).last_rollback is not None


async def test_a_gateway_that_restarts_in_a_gap_counts_what_it_has_counted_since() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    before = rollout_of(fake).metrics[0].candidate_requests
    await passes(fake, traffic, 5)
    traffic.restart()
    await flows(fake, traffic, 10, **ALIKE)
    gained = rollout_of(fake).metrics[0].candidate_requests - before
    assert 0 < gained <= 200, "what was lost with the counter is lost, and nothing is invented"


# --- clocks ---------------------------------------------------------------------------------------


async def test_a_clock_that_jumps_ahead_decides_nothing() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    fake.clock.advance(hours=20)
    await visits(fake)
    assert place(fake) == (1, "NoTraffic")
    assert (rollout_of(fake).promoted, bot(fake).last_rollback) == (None, None)
    await flows(fake, traffic, 20, **ALIKE)
    assert rollout_of(fake).step == 2


async def test_a_clock_that_is_set_back_counts_nothing_twice_and_goes_on() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    before = rollout_of(fake).metrics[0].candidate_requests
    fake.clock.time -= timedelta(minutes=10)
    await flows(fake, traffic, 60, **ALIKE)
    assert rollout_of(fake).metrics[0].candidate_requests == before
    assert (rollout_of(fake).promoted, bot(fake).last_rollback) == (None, None)
    fake.clock.time += timedelta(minutes=10)
    await flows(fake, traffic, 20, **ALIKE)
    assert rollout_of(fake).metrics[0].candidate_requests > before
    assert rollout_of(fake).step == 2


# --- versions -------------------------------------------------------------------------------------


def names(fake: FakeWorld, version: str) -> None:
    """Somebody changes which version is wanted."""
    models = [{"name": "bot", "version": {"name": version}, "rollout": PLAN}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})


async def test_versions_that_are_swapped_under_way_are_never_held_against_one_another() -> None:
    fake, traffic = await in_rollout(name="bot-1")
    names(fake, "bot-2")
    await visits(fake)
    await flows(fake, traffic, 10, stable=(100, 5), candidate=(20, 3))
    assert rollout_of(fake).metrics[0].candidate_requests > 0
    names(fake, "bot-1")
    await visits(fake)
    assert bot(fake).rollout is None
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).last_rollback is None, "nobody has said anything against it"
    names(fake, "bot-2")
    await visits(fake)
    assert rollout_of(fake).metrics[0].candidate_requests == 0, "it begins anew"
    await flows(fake, traffic, 20, **BAD)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).last_rollback.from_version == "bot-2"  # type: ignore[union-attr]


async def test_a_promotion_that_meets_an_alarm_is_none() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 10, **ALIKE)
    word = {
        "metadata": metadata_of("promote"),
        "spec": {
            "action": "Promote",
            "target": {
                "kind": "InferenceService",
                "name": "chat",
                "model": "bot",
                "digest": digest_of("bot-2"),
            },
            "by": "alice",
            "reason": "it cannot wait",
        },
    }
    fake.cluster.add(Decision.model_validate(word))
    await flows(fake, traffic, 5, stable=(100, 5), candidate=(400, 300))
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).last_rollback is not None


@pytest.mark.parametrize("first", ["bot-3", None], ids=["on one engine", "on none"])
async def test_what_does_not_load_everywhere_is_never_begun(first: str | None) -> None:
    fake, traffic = await in_rollout(name="bot-1")
    run(fake, "chat-engine", ["10.0.0.1", "10.0.0.2"])
    fake.cluster.add(a_ready_version("bot-3", creationTimestamp="2026-01-03T00:00:00Z"))
    names(fake, "bot-3")
    if first:
        loaded(fake, "bot-1", first)
    else:
        loaded(fake, "bot-1", bot_3="LoadFailed")
    loaded(fake, "bot-1", ip="10.0.0.2", bot_3="LoadFailed")
    answers(fake, bot="bot-1")
    await flows(fake, traffic, 60, stable=(100, 5))
    assert weights(fake)["bot-1"] == 100
    assert weights(fake).get("bot-3", 0) == 0
    assert bot(fake).rollout is None
    assert bot(fake).active_version == "bot-1"
    assert told(fake, "AdaptersReady")[0] == "False"
    assert fake.cluster.of_kind("Decision") == [], "an engine's trouble condemns nobody"


async def test_a_version_that_answers_garbage_is_rolled_back() -> None:
    """It loads, it is itself, no request fails: and its answers never end."""
    fake, traffic = await in_rollout({**PLAN, "analysis": {"metrics": ["CutAnswers"]}})
    traffic.counter, traffic.label = "unit_answers_total", "finish"
    for _ in range(6):
        fake.clock.advance(seconds=5)
        for version, (whole, cut) in {"bot-1": (97, 3), "bot-2": (20, 80)}.items():
            traffic.totals[version, "stop"] += whole
            traffic.totals[version, "length"] += cut
        traffic.scrape()
        await visits(fake, 2)
    last = bot(fake).last_rollback
    assert last is not None
    assert (last.reason, last.evidence[0].name) == ("CandidateWorse", "CutAnswers")
    assert weights(fake)["bot-1"] == 100


async def test_a_candidate_that_is_deleted_for_good_in_mid_rollout_leaves_the_stable_one() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, **ALIKE)
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-2"))
    await flows(fake, traffic, 20, stable=(100, 5))
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).rollout is None
    assert "RolloutEnded" in reasons(fake)


# --- queries of the user's own --------------------------------------------------------------------

QUERY = {"name": "price", "query": "sum(price)", "atMost": 0.5}
ASKED = confined("sum(price)", NAMESPACE)


@pytest.mark.parametrize(
    ("numbers", "error", "said"),
    [
        ({}, None, "parse error"),
        ({ASKED: None}, None, "it gives no number now"),
        ({ASKED: float("nan")}, None, "it gives no number now"),
        ({}, MetricsUnusable("it gives 3 numbers; one is needed"), "it gives 3 numbers"),
    ],
    ids=["no PromQL", "no result", "no number", "the wrong shape"],
)
async def test_a_query_that_gives_no_number_holds_and_is_told(
    numbers: dict[str, float | None], error: Exception | None, said: str
) -> None:
    fake, traffic = await in_rollout({**PLAN, "analysis": {"queries": [QUERY]}})
    fake.metrics.numbers = numbers
    fake.metrics.refuses = error
    await flows(fake, traffic, 120, **ALIKE)
    assert place(fake) == (1, "QueryUndecided")
    assert said in rollout_of(fake).message
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    assert bot(fake).last_rollback is None


# --- dry runs -------------------------------------------------------------------------------------


async def test_a_dry_run_does_not_roll_back_at_its_deadline() -> None:
    analysis = {"deadlineSeconds": 60, "onInconclusive": "RollBack"}
    fake, traffic = await in_rollout({**PLAN, "dryRun": True, "analysis": analysis})
    await flows(fake, traffic, 200)
    assert rollout_of(fake).reason == "DryRun"
    assert "DeadlineExceeded" in rollout_of(fake).message
    assert weights(fake) == {"bot-1": 90, "bot-2": 10}
    assert fake.cluster.of_kind("Decision") == []


async def test_a_dry_run_guards_in_words_alone_what_somebody_has_promoted() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 400, **ALIKE)
    assert rollout_of(fake).promoted is not None
    models = [{"name": "bot", "version": {"latestOf": "bot"}, "rollout": {**PLAN, "dryRun": True}}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await flows(fake, traffic, 30, candidate=(100, 60))
    assert rollout_of(fake).reason == "DryRun"
    assert "it would be rolled back" in rollout_of(fake).message
    assert weights(fake)["bot-2"] == 100
    assert fake.cluster.of_kind("Decision") == []


async def test_without_a_dry_run_what_was_said_is_done() -> None:
    fake, traffic = await in_rollout({**PLAN, "dryRun": True})
    await flows(fake, traffic, 30, **BAD)
    assert rollout_of(fake).reason == "DryRun"
    models = [{"name": "bot", "version": {"latestOf": "bot"}, "rollout": PLAN}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    fake.clock.advance(seconds=5)
    await reconcile(KEY, fake.world)
    await visits(fake)
    assert weights(fake)["bot-1"] == 100
    assert bot(fake).last_rollback is not None
