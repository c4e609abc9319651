"""Another base takes the place of the present one: on engines of its own, or not at all."""

from typing import Any

import pytest
from tests.baseworld import (
    NEW,
    OLD,
    a_full,
    answered_by,
    ask_for,
    comes_up,
    deployments,
    engines,
    on_base_one,
    shares,
    tables,
    tidy_pods,
    tiny,
    visits,
    without_room,
)
from tests.fakes import FakeWorld
from tests.rolloutworld import SCRAPE, Traffic
from tests.servicelife import KEY, loaded, message, seen, told
from tests.servingbuilders import NAMESPACE, a_ready_version, digest_of, uri_of

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.modelversion.usage import uses
from trimtab_operator.reconcilers.inferenceservice import reconcile

STEPS: dict[str, Any] = {
    "steps": [{"weight": 10}, {"weight": 50}],
    "stepSeconds": 30,
    "stepRequests": 100,
    "rollbackWindowSeconds": 600,
}


# --- beside the present engines ------------------------------------------------------------------


async def test_another_base_gets_engines_beside_those_of_the_present_one() -> None:
    fake = await on_base_one()
    before = fake.cluster.objects["Deployment", (NAMESPACE, OLD)]["spec"]
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD, NEW}
    assert fake.cluster.objects["Deployment", (NAMESPACE, OLD)]["spec"] == before
    made = fake.cluster.objects["Deployment", (NAMESPACE, NEW)]["spec"]
    labels = made["template"]["metadata"]["labels"]
    assert made["selector"]["matchLabels"].items() <= labels.items()
    assert labels["trimtab.dev/pool"] == "engine-74776f74"
    (agent,) = made["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in agent["env"]}
    assert env["TRIMTAB_ROUTING_KEY"] == "engine-74776f74.json"
    (volume,) = (v for v in made["template"]["spec"]["volumes"] if v["name"] == "base")
    assert digest_of("two") in volume["image"]["reference"]
    assert shares(fake) == {"one": 100, "two": 0}
    assert told(fake, "EngineReady") == ("True", "EngineReady")
    assert told(fake) == ("False", "Starting")
    assert [p.name for p in seen(fake).status.engine_pools] == ["engine", "engine-74776f74"]


async def test_engines_are_told_of_their_own_base_alone() -> None:
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    comes_up(fake)
    await reconcile(KEY, fake.world)
    found = tables(fake)
    assert set(found) == {"gateway.json", "table.json", "engine-74776f74.json"}
    for key, version, pod in [
        ("table.json", "one", f"{OLD}-0"),
        ("engine-74776f74.json", "two", f"{NEW}-0"),
    ]:
        table = found[key]
        assert table.base_digest == digest_of(version)
        assert [v.version for v in table.models[0].versions] == [version]
        assert [e.name for e in table.engines] == [pod]
    assert {e.name for e in found["gateway.json"].engines} == {f"{OLD}-0", f"{NEW}-0"}


def of_an_older_release(fake: FakeWorld, ip: str = "10.0.0.1") -> None:
    report = fake.agents.reports[f"{ip}:8000"]
    assert report is not None
    fake.agents.reports[f"{ip}:8000"] = report.model_copy(update={"knows_pools": False})


async def test_engines_of_an_older_release_are_moved_first() -> None:
    fake = await on_base_one()
    of_an_older_release(fake)
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert told(fake) == ("False", "EngineReleaseOutdated")
    assert shares(fake) == {"one": 100}
    loaded(fake, "one")
    await visits(fake)
    assert engines(fake) == {OLD, NEW}


async def test_an_agent_that_does_not_know_its_own_table_is_not_asked_for_the_other_base() -> None:
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    comes_up(fake, version="one")
    of_an_older_release(fake, "10.0.0.2")
    await visits(fake)
    assert {e.name for found in tables(fake).values() for e in found.engines} == {f"{OLD}-0"}


async def test_without_a_rollout_it_has_all_requests_once_it_is_there_and_the_old_engines_go() -> (
    None
):
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    assert shares(fake) == {"two": 100}
    assert engines(fake) == {NEW}
    status = seen(fake).status
    assert (status.base_digest, tiny(fake).active_version) == (digest_of("two"), "two")
    assert told(fake) == ("True", "Ready")
    assert [p.version for p in status.engine_pools] == ["two"]
    assert "VersionActive" in {e.reason for e in fake.cluster.events.values()}
    models = {"spec": {"models": [{"name": "bot", "version": {"name": "bot-1"}}]}}
    fake.cluster.add(
        a_ready_version("bot-1", status={**a_ready_version().to_wire()["status"], **base_two()})  # type: ignore[dict-item]
    )
    fake.cluster.edit("InferenceService", KEY, models)
    await visits(fake)
    assert [v.version for v in tables(fake)["engine-74776f74.json"].models[1].versions] == ["bot-1"]


def base_two() -> dict[str, str]:
    return {"baseDigest": digest_of("two")}


async def test_it_begins_only_when_all_its_engines_are_there() -> None:
    fake = await on_base_one(replicas=2)
    ask_for(fake)
    await visits(fake)
    comes_up(fake)
    await visits(fake)
    assert shares(fake) == {"one": 100, "two": 0}
    assert "1 of 2 engines of two are ready" in message(fake, "AdaptersReady")


async def test_back_to_the_present_one_before_it_began_takes_its_engines_away() -> None:
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    ask_for(fake, "one")
    await visits(fake)
    assert engines(fake) == {OLD}
    assert set(tables(fake)) == {"table.json"}
    assert seen(fake).status.engine_pools == []
    assert told(fake) == ("True", "Ready")


@pytest.mark.parametrize(
    ("two", "reason"),
    [
        pytest.param(None, "VersionMissing", id="there is no such version"),
        pytest.param(a_ready_version("two"), "BaseNotFull", id="it is an adapter"),
        pytest.param(a_full("two", status={}), "VersionNotReady", id="it is not Ready"),
    ],
)
async def test_what_cannot_be_a_base_gets_no_engines(two: Any, reason: str) -> None:
    fake = await on_base_one()
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "two"))
    if two is not None:
        fake.cluster.add(two)
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert told(fake, "AdaptersReady") == ("False", reason)
    assert shares(fake) == {"one": 100}


async def test_the_same_content_under_another_name_needs_no_engines() -> None:
    fake = await on_base_one()
    again = a_full("one").to_wire()
    again["metadata"] = {**again["metadata"], "name": "one-again", "uid": "again"}
    fake.cluster.add({**again, "kind": "ModelVersion"})
    ask_for(fake, "one-again")
    answered_by(fake, "one-again")
    await visits(fake)
    assert engines(fake) == {OLD}
    assert shares(fake) == {"one-again": 100}
    assert told(fake) == ("True", "Ready")


async def test_adapters_that_come_in_the_middle_wait() -> None:
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    models = [{"name": "bot", "version": {"name": "bot-1"}}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await visits(fake)
    assert tables(fake)["gateway.json"].models[1].versions == []
    assert "bot: it is loaded once" in message(fake, "AdaptersReady")


@pytest.mark.parametrize("has_room", [True, False])
async def test_bases_that_must_be_signed_from_the_middle_on_are_told_with_their_signatures(
    has_room: bool,
) -> None:
    fake = await on_base_one()
    for name in ("one", "two"):
        signed = {"bundle": uri_of(f"sig-{name}"), "signer": "ab" * 32}
        fake.cluster.edit("ModelVersion", (NAMESPACE, name), {"status": {"signature": signed}})
    await (rolling(fake) if has_room else without_room(fake))
    policy = {"trust": {"name": "signers"}, "covers": "AdaptersAndBase"}
    fake.cluster.edit("InferenceService", KEY, {"spec": {"signatures": policy}})
    await visits(fake)
    for table in tables(fake).values():
        for version in table.models[0].versions:
            assert version.signature == uri_of(f"sig-{version.version}")


# --- for autoscalers, drains, and other releases ---------------------------------------------------


def fits(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """What the API server would say of a selector and a pod."""
    for each in selector.get("matchExpressions", []):
        assert each["operator"] in ("Exists", "DoesNotExist")
        if (each["key"] in labels) != (each["operator"] == "Exists"):
            return False
    return bool(selector["matchLabels"].items() <= labels.items())


def budgets(fake: FakeWorld) -> dict[str, dict[str, Any]]:
    found = fake.cluster.of_kind("PodDisruptionBudget")
    return {b["metadata"]["name"]: b["spec"]["selector"] for b in found}


async def test_each_pod_has_one_disruption_budget_and_an_autoscaler_sees_the_base_that_answers() -> (
    None
):
    fake = await on_base_one()
    ask_for(fake)
    await visits(fake)
    assert set(budgets(fake)) == {OLD, NEW, "chat-gateway"}
    for name in (OLD, NEW):
        pod = fake.cluster.objects["Deployment", (NAMESPACE, name)]["spec"]["template"]
        labels = pod["metadata"]["labels"]
        assert [n for n, s in budgets(fake).items() if fits(s, labels)] == [name]
    assert (seen(fake).status.selector or "").endswith(",!trimtab.dev/pool")
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    assert set(budgets(fake)) == {NEW, "chat-gateway"}
    assert (seen(fake).status.selector or "").endswith(",trimtab.dev/pool=engine-74776f74")
    assert seen(fake).status.replicas == 1


@pytest.mark.parametrize("has_left_engines", [False, True])
async def test_an_older_release_has_forgotten_the_engines_and_they_go_on(
    has_left_engines: bool,
) -> None:
    fake = await on_base_one()
    before = fake.cluster.objects["Deployment", (NAMESPACE, OLD)]
    ask_for(fake)
    await visits(fake)
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    tidy_pods(fake)
    fake.cluster.edit("InferenceService", KEY, {"status": {"enginePools": None}})
    if has_left_engines:
        fake.cluster.add({**before, "status": {}})
    await visits(fake)
    assert engines(fake) == {NEW}
    assert shares(fake) == {"two": 100}
    assert told(fake) == ("True", "Ready")


# --- by steps ------------------------------------------------------------------------------------


async def rolling(fake: FakeWorld, **changes: Any) -> Traffic:
    """`two` has its first share."""
    ask_for(fake, **STEPS, **changes)
    await visits(fake)
    comes_up(fake)
    traffic = Traffic(fake, model="tiny")
    traffic.served("one", 1000, 50)
    traffic.scrape()
    await visits(fake)
    return traffic


async def flows(fake: FakeWorld, traffic: Traffic, seconds: int, **errors: int) -> None:
    for _ in range(seconds // SCRAPE):
        fake.clock.advance(seconds=SCRAPE)
        for version, bad in errors.items():
            traffic.served(version, 100, bad)
        traffic.scrape()
        await reconcile(KEY, fake.world)


async def test_a_good_base_goes_all_the_way_and_the_old_engines_stay_while_it_is_guarded() -> None:
    fake = await on_base_one()
    traffic = await rolling(fake)
    assert shares(fake) == {"one": 90, "two": 10}
    assert told(fake) == ("True", "Ready")
    assert told(fake, "RolloutProgressing")[0] == "True"
    await flows(fake, traffic, 60, one=5, two=5)
    assert shares(fake) == {"one": 50, "two": 50}
    answered_by(fake, "two")
    await flows(fake, traffic, 300, one=5, two=5)
    assert shares(fake) == {"two": 100, "one": 0}
    assert engines(fake) == {OLD, NEW}
    assert told(fake, "RolloutProgressing") == ("False", "Guarding")
    await flows(fake, traffic, 700, two=5)
    assert shares(fake) == {"two": 100}
    assert engines(fake) == {NEW}
    assert told(fake) == ("True", "Ready")


@pytest.mark.parametrize("when", ["before the promotion", "after it"])
async def test_a_bad_base_goes_back_and_its_engines_go_a_minute_later(when: str) -> None:
    fake = await on_base_one()
    traffic = await rolling(fake)
    if when == "after it":
        await flows(fake, traffic, 360, one=5, two=5)
        assert shares(fake) == {"two": 100, "one": 0}
    await flows(fake, traffic, 60, one=5, two=60)
    assert shares(fake) == {"one": 100, "two": 0}
    answered_by(fake, "one")
    last = tiny(fake).last_rollback
    assert last is not None
    assert (last.from_version, last.to_version, last.reason) == ("two", "one", "CandidateWorse")
    decision = fake.cluster.one("Decision")
    assert decision["spec"]["target"]["digest"] == digest_of("two")
    fake.clock.advance(seconds=61)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    assert shares(fake) == {"one": 100}
    assert engines(fake) == {OLD}
    assert seen(fake).status.base_digest == digest_of("one")
    assert told(fake, "RolledBack") == ("True", "RolledBack")
    assert told(fake) == ("False", "VersionQuarantined"), "the spec names what was rolled back"


async def test_the_table_is_lost_in_the_middle_and_the_steps_go_on() -> None:
    fake = await on_base_one()
    traffic = await rolling(fake)
    before = shares(fake)
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await flows(fake, traffic, 5, one=5, two=5)
    assert shares(fake) == before
    assert engines(fake) == {OLD, NEW}


@pytest.mark.parametrize("seconds", [45, 420], ids=["at the second step", "while it is guarded"])
async def test_the_table_is_lost_and_the_rollout_is_still_the_same(seconds: int) -> None:
    fake = await on_base_one()
    traffic = await rolling(fake)
    await flows(fake, traffic, seconds, one=5, two=5)
    shared, before = shares(fake), tiny(fake).rollout
    assert before is not None
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await flows(fake, traffic, 10, one=5, two=5)
    after = tiny(fake).rollout
    assert after is not None
    assert (after.since, after.salt, after.step) == (before.since, before.salt, before.step)
    assert shares(fake) == shared
    assert engines(fake) == {OLD, NEW}


# --- who needs a base ----------------------------------------------------------------------------


async def test_both_bases_are_in_use_while_one_may_be_needed_again() -> None:
    fake = await on_base_one()
    await rolling(fake)
    service = seen(fake)
    for version in ("one", "two"):
        found = [str(u) for u in uses(version, [service], [], [])]
        assert found == ["InferenceService chat (base)"]
    assert uses("six", [service], [], []) == ()
    assert fake.cluster.get(ModelVersion, (NAMESPACE, "one")) is not None
    assert deployments(fake) >= {OLD, NEW}


async def test_the_present_base_under_another_name_ends_a_change_that_goes_on() -> None:
    fake = await on_base_one()
    await rolling(fake)
    again = a_full("one").to_wire()
    again["metadata"] = {**again["metadata"], "name": "one-again", "uid": "again"}
    fake.cluster.add({**again, "kind": "ModelVersion"})
    ask_for(fake, "one-again", **STEPS)
    answered_by(fake, "one-again")
    await visits(fake)
    assert shares(fake) == {"one-again": 100}
    assert engines(fake) == {OLD}
    assert told(fake) == ("True", "Ready")
