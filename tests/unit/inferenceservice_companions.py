"""Adapters go with their base: another one for each name, on the engines of the new base, by the same steps."""

from typing import Any

import pytest
from tests.baseworld import (
    NEW,
    OLD,
    ask_for,
    comes_up,
    engines,
    finds_no_node,
    on_base_one,
    shares,
    tables,
    tidy_pods,
    visits,
)
from tests.fakes import START, FakeWorld, settle
from tests.rolloutworld import SCRAPE, Traffic
from tests.servicelife import KEY, loaded, message, run, seen, told
from tests.servingbuilders import (
    NAMESPACE,
    a_decision,
    a_ready_version,
    digest_of,
    metadata_of,
    ready_status,
)

from trimtab_api.routing import ProbeAnswer
from trimtab_api.v1alpha1 import Decision
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.inferenceservice import measures
from trimtab_operator.domain.modelversion.usage import uses
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.reconcilers import modelversion
from trimtab_operator.reconcilers.inferenceservice import reconcile

STEPS: dict[str, Any] = {
    "steps": [{"weight": 10}, {"weight": 50}],
    "stepSeconds": 30,
    "stepRequests": 100,
    "rollbackWindowSeconds": 600,
}
LATEST = {"latestOf": "bot"}


def over(base: str, name: str, *, day: int = 1, **more: Any) -> Any:
    """An adapter over this base, made on this day."""
    created = f"2026-01-{day:02}T00:00:00Z"
    status = ready_status(base)
    return a_ready_version(name, status=status, creationTimestamp=created, **more)


def probes(fake: FakeWorld, **versions: str) -> None:
    fake.pods.gateways["10.0.0.9"] = {
        name: ProbeAnswer(model=name, version=version, ok=True)
        for name, version in versions.items()
    }


async def serving(selector: dict[str, str] | None = None, *others: Any) -> FakeWorld:
    """`bot` is served by bot-1 over the base `one`."""
    models = {"bot": selector or LATEST}
    fake = await on_base_one(None, over("one", "bot-1"), *others, models=models)
    loaded(fake, "one", "bot-1")
    probes(fake, tiny="one", bot="bot-1")
    await visits(fake)
    assert told(fake) == ("True", "Ready")
    return fake


def named(fake: FakeWorld, name: str = "bot") -> dict[str, int]:
    """What gateways are told of a name."""
    found = tables(fake)
    table = found.get("gateway.json") or found["table.json"]
    model = next(m for m in table.models if m.name == name)
    return {v.version: v.weight for v in model.versions}


def bot(fake: FakeWorld) -> ServedModelStatus:
    return next(m for m in seen(fake).status.models if m.name == "bot")


def both_up(fake: FakeWorld) -> None:
    """The new engines are there, with base and adapter."""
    comes_up(fake)
    loaded(fake, "two", "bot-2", ip="10.0.0.2")


# --- whether it begins ---------------------------------------------------------------------------


WAITS: dict[str, tuple[dict[str, str], Any, str]] = {
    "nobody has trained one": (LATEST, None, "is an adapter of base"),
    "the named one is of the present base": (
        {"name": "bot-1"},
        over("two", "bot-2", day=2),
        "ModelVersion bot-1 is an adapter of base",
    ),
    "its rank is too high": (LATEST, over("two", "bot-2", day=2, rank=512), "has rank 512"),
    "another base's came later": (LATEST, over("six", "bot-2", day=2), "is an adapter of base"),
}


@pytest.mark.parametrize(("selector", "other", "words"), WAITS.values(), ids=WAITS)
async def test_the_base_stays_while_a_name_has_no_adapter_of_the_new_one(
    selector: dict[str, str], other: Any, words: str
) -> None:
    fake = await serving(selector, *([other] if other else []))
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})
    assert told(fake, "AdaptersReady") == ("False", "BaseInUse")
    said = message(fake, "AdaptersReady")
    assert "tiny: bot: served over one and by no adapter of two yet" in said
    assert words in said


async def test_an_adapter_of_the_new_base_that_comes_later_lets_it_begin() -> None:
    fake = await serving()
    ask_for(fake)
    await visits(fake)
    fake.cluster.add(over("two", "bot-2", day=2))
    await visits(fake)
    assert engines(fake) == {OLD, NEW}


async def test_a_version_over_another_base_is_no_newer_one() -> None:
    fake = await serving(None, over("two", "bot-2", day=2))
    assert named(fake) == {"bot-1": 100}
    assert bot(fake).reason is None


async def test_a_rollout_of_an_adapter_comes_to_its_end_first() -> None:
    models = [{"name": "bot", "version": LATEST, "rollout": STEPS}]
    fake = await serving(None, over("two", "bot-2", day=2))
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    fake.cluster.add(over("one", "bot-1b", day=3))
    loaded(fake, "one", "bot-1", "bot-1b")
    await visits(fake)
    assert named(fake) == {"bot-1": 90, "bot-1b": 10}
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert told(fake, "AdaptersReady") == ("False", "BaseWaits")
    assert named(fake) == {"bot-1": 90, "bot-1b": 10}
    fake.cluster.add(decided("Abort", "bot", "bot-1b"))
    await visits(fake)
    assert engines(fake) == {OLD, NEW}


def decided(action: str, model: str, version: str) -> Decision:
    """Somebody decides about a name of the service."""
    target = {"kind": "InferenceService", "name": "chat", "model": model}
    spec = {
        "action": action,
        "target": {**target, "digest": digest_of(version)},
        "by": "alice",
        "reason": "because",
    }
    name = f"{action.lower()}-{model}-{version}"
    return Decision.model_validate({"metadata": metadata_of(name), "spec": spec})


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        pytest.param(decided("Pin", "bot", "bot-1"), "pinned by alice", id="its name is pinned"),
        pytest.param(decided("Abort", "bot", "bot-2"), "was aborted", id="the adapter was aborted"),
    ],
)
async def test_what_people_decided_about_a_name_holds_for_the_base(
    decision: Decision, words: str
) -> None:
    fake = await serving(None, over("two", "bot-2", day=2))
    fake.cluster.add(decision)
    ask_for(fake)
    await visits(fake)
    assert engines(fake) == {OLD}
    assert told(fake, "AdaptersReady") == ("False", "BaseInUse")
    assert words in message(fake, "AdaptersReady")


# --- how it goes ---------------------------------------------------------------------------------


async def test_the_new_engines_are_told_of_the_new_adapters_and_the_old_ones_keep_theirs() -> None:
    fake = await serving(None, over("two", "bot-2", day=2))
    ask_for(fake)
    await visits(fake)
    found = tables(fake)
    for key, versions in [
        ("table.json", ["one", "bot-1"]),
        ("engine-74776f74.json", ["two", "bot-2"]),
    ]:
        assert [v.version for m in found[key].models for v in m.versions] == versions
    assert named(fake) == {"bot-1": 100, "bot-2": 0}
    assert (bot(fake).active_version, bot(fake).candidate_version) == ("bot-1", "bot-2")


async def test_the_base_waits_until_every_adapter_is_loaded() -> None:
    fake = await serving(None, over("two", "bot-2", day=2))
    ask_for(fake)
    await visits(fake)
    comes_up(fake)
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100, "two": 0}, {"bot-1": 100, "bot-2": 0})
    assert "two waits for bot" in message(fake, "AdaptersReady")
    assert bot(fake).reason == "Loading"
    loaded(fake, "two", ip="10.0.0.2", bot_2="FingerprintMismatch")
    await visits(fake)
    assert told(fake, "AdaptersReady") == ("False", "FingerprintMismatch")
    both_up(fake)
    probes(fake, tiny="two", bot="bot-2")
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"two": 100}, {"bot-2": 100})
    assert engines(fake) == {NEW}
    assert told(fake) == ("True", "Ready")


async def test_pins_move_with_the_base_in_one_edit() -> None:
    fake = await serving({"name": "bot-1"}, over("two", "bot-2", day=2))
    models = [{"name": "bot", "version": {"name": "bot-2"}}]
    base = {"modelVersion": {"name": "two"}}
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models, "baseModel": base}})
    await visits(fake)
    both_up(fake)
    probes(fake, tiny="two", bot="bot-2")
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"two": 100}, {"bot-2": 100})
    assert told(fake) == ("True", "Ready")


class Crowd:
    """Traffic of the base's name and of the name over it, scraped together."""

    def __init__(self, fake: FakeWorld) -> None:
        self.fake = fake
        self.base, self.adapter = Traffic(fake, model="tiny"), Traffic(fake, model="bot")

    def scrape(self) -> None:
        self.base.scrape()
        first = list(self.fake.metrics.series)
        self.adapter.scrape()
        self.fake.metrics.series = [*first, *self.fake.metrics.series]

    async def flows(self, seconds: int, **errors: int) -> None:
        """Nearly all of the traffic is the adapter's, as it usually is."""
        for _ in range(seconds // SCRAPE):
            self.fake.clock.advance(seconds=SCRAPE)
            for version, bad in errors.items():
                name = version.replace("_", "-")
                of = self.adapter if name.startswith("bot") else self.base
                of.served(name, 100 if of is self.adapter else 1, bad)
            self.scrape()
            await reconcile(KEY, self.fake.world)


async def rolling(**more: Any) -> tuple[FakeWorld, Crowd]:
    """`two` and bot-2 have their first share."""
    fake = await serving(None, over("two", "bot-2", day=2))
    ask_for(fake, **STEPS, **more)
    await visits(fake)
    both_up(fake)
    crowd = Crowd(fake)
    crowd.adapter.served("bot-1", 1000, 50)
    crowd.base.served("one", 10)
    crowd.scrape()
    await visits(fake)
    return fake, crowd


async def test_base_and_adapters_take_each_step_together_and_are_judged_together() -> None:
    fake, crowd = await rolling()
    assert (shares(fake), named(fake)) == ({"one": 90, "two": 10}, {"bot-1": 90, "bot-2": 10})
    assert bot(fake).weight == 10
    assert told(fake) == ("True", "Ready")
    salts = {m.name: m.salt for m in tables(fake)["gateway.json"].models}
    assert salts["bot"] == salts["tiny"]
    assert salts["bot"]
    await crowd.flows(60, bot_1=5, bot_2=5, one=0, two=0)
    assert (shares(fake), named(fake)) == ({"one": 50, "two": 50}, {"bot-1": 50, "bot-2": 50})
    probes(fake, tiny="two", bot="bot-2")
    await crowd.flows(300, bot_1=5, bot_2=5, one=0, two=0)
    assert (shares(fake), named(fake)) == ({"two": 100, "one": 0}, {"bot-2": 100, "bot-1": 0})
    assert engines(fake) == {OLD, NEW}
    assert told(fake, "RolloutProgressing") == ("False", "Guarding")
    await crowd.flows(700, bot_2=5, two=0)
    assert (shares(fake), named(fake)) == ({"two": 100}, {"bot-2": 100})
    assert engines(fake) == {NEW}
    assert told(fake) == ("True", "Ready")


@pytest.mark.parametrize("when", ["before the promotion", "after it"])
async def test_a_bad_adapter_takes_everything_back(when: str) -> None:
    fake, crowd = await rolling()
    if when == "after it":
        await crowd.flows(360, bot_1=5, bot_2=5, one=0, two=0)
        assert named(fake) == {"bot-2": 100, "bot-1": 0}
    await crowd.flows(60, bot_1=5, bot_2=60, one=0, two=0)
    assert (shares(fake), named(fake)) == ({"one": 100, "two": 0}, {"bot-1": 100, "bot-2": 0})
    tiny = next(m for m in seen(fake).status.models if m.name == "tiny")
    assert tiny.last_rollback is not None
    assert (tiny.last_rollback.from_version, tiny.last_rollback.reason) == ("two", "CandidateWorse")
    assert fake.cluster.one("Decision")["spec"]["target"]["digest"] == digest_of("two")
    probes(fake, tiny="one", bot="bot-1")
    fake.clock.advance(seconds=61)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})
    assert engines(fake) == {OLD}


@pytest.mark.parametrize("seconds", [5, 360], ids=["before the promotion", "after it"])
async def test_a_quarantine_of_one_adapter_takes_everything_back(seconds: int) -> None:
    fake, crowd = await rolling()
    await crowd.flows(seconds, bot_1=5, bot_2=5, one=0, two=0)
    fake.cluster.add(a_decision("Quarantine", "bot-2"))
    await settle(modelversion.reconcile, (NAMESPACE, "bot-2"), fake)
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100, "two": 0}, {"bot-1": 100, "bot-2": 0})
    assert told(fake, "AdaptersReady") == ("False", "BaseInUse")
    fake.clock.advance(seconds=61)
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})
    assert engines(fake) == {OLD}


ENDS: dict[str, Any] = {
    "another one is named": {"models": [{"name": "bot", "version": {"name": "bot-1"}}]},
    "the former base is named again": {"baseModel": {"modelVersion": {"name": "one"}}},
}


@pytest.mark.parametrize("spec", ENDS.values(), ids=ENDS)
async def test_another_wish_in_the_middle_gives_everything_back(spec: Any) -> None:
    fake, _ = await rolling()
    fake.cluster.edit("InferenceService", KEY, {"spec": spec})
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})
    assert engines(fake) == {OLD}
    assert not fake.cluster.of_kind("Decision")


async def test_a_newer_adapter_in_the_middle_waits_until_the_base_is_through() -> None:
    fake, crowd = await rolling()
    fake.cluster.add(over("two", "bot-3", day=3))
    fake.cluster.add(over("one", "bot-1b", day=4))
    await crowd.flows(360, bot_1=5, bot_2=5, one=0, two=0)
    assert named(fake) == {"bot-2": 100, "bot-1": 0}
    await crowd.flows(700, bot_2=5, two=0)
    loaded(fake, "two", "bot-2", "bot-3", ip="10.0.0.2")
    await visits(fake)
    assert named(fake) == {"bot-3": 100, "bot-2": 0}


async def test_an_adapter_that_an_engine_loses_costs_the_new_base_its_share() -> None:
    fake, _ = await rolling()
    loaded(fake, "two", ip="10.0.0.2", bot_2="FingerprintMismatch")
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100, "two": 0}, {"bot-1": 100, "bot-2": 0})
    assert told(fake, "RolloutProgressing") == ("True", "NotLoaded")


@pytest.mark.parametrize("seconds", [45, 420], ids=["at the second step", "while it is guarded"])
async def test_the_table_is_lost_and_everybody_is_where_they_were(seconds: int) -> None:
    fake, crowd = await rolling()
    await crowd.flows(seconds, bot_1=5, bot_2=5, one=0, two=0)
    before = (shares(fake), named(fake))
    fake.cluster.take_away("ConfigMap", (NAMESPACE, "chat-routing"))
    await crowd.flows(5, bot_1=5, bot_2=5, one=0, two=0)
    assert (shares(fake), named(fake)) == before
    assert engines(fake) == {OLD, NEW}


async def test_whom_a_rollout_of_the_base_needs_cannot_be_deleted() -> None:
    fake, crowd = await rolling()
    service = seen(fake)
    assert [str(u) for u in uses("bot-1", [service], [], [])] == [
        "InferenceService chat (active for bot)"
    ]
    await crowd.flows(360, bot_1=5, bot_2=5, one=0, two=0)
    assert [str(u) for u in uses("bot-1", [seen(fake)], [], [])] == [
        "InferenceService chat (way back for bot)"
    ]


# --- without room --------------------------------------------------------------------------------


async def replacing() -> FakeWorld:
    """A service whose engines have made room for those of another base."""
    fake = await serving(None, over("two", "bot-2", day=2))
    ask_for(fake, allowDowntime=True)
    await visits(fake)
    finds_no_node(fake, seconds_ago=600)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    return fake


async def test_where_downtime_is_allowed_adapters_are_there_with_their_base_or_not_at_all() -> None:
    fake = await replacing()
    assert engines(fake) == {NEW}
    comes_up(fake)
    await visits(fake)
    assert named(fake) == {"bot-1": 100, "bot-2": 0}
    both_up(fake)
    probes(fake, tiny="two", bot="bot-2")
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"two": 100, "one": 0}, {"bot-2": 100, "bot-1": 0})
    assert told(fake) == ("True", "Ready")
    fake.cluster.add(decided("Abort", "tiny", "two"))
    await visits(fake)
    tidy_pods(fake)
    (back,) = engines(fake)
    run(fake, back, ["10.0.0.3"])
    loaded(fake, "one", "bot-1", ip="10.0.0.3")
    probes(fake, tiny="one", bot="bot-1")
    fake.clock.advance(seconds=61)
    await visits(fake)
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})
    assert engines(fake) == {back}


async def test_an_adapter_that_fails_in_the_room_gives_it_back() -> None:
    fake = await replacing()
    run(fake, NEW, ["10.0.0.2"])
    loaded(fake, "two", ip="10.0.0.2", bot_2="FingerprintMismatch")
    await visits(fake)
    assert told(fake, "AdaptersReady") == ("False", "ReplacementFailed")
    assert "bot-2 cannot be loaded" in message(fake, "AdaptersReady")
    assert (shares(fake), named(fake)) == ({"one": 100}, {"bot-1": 100})


# --- what is counted -----------------------------------------------------------------------------


def counted(version: str, model: str, *samples: tuple[int, float]) -> RawSeries:
    labels = {"__name__": "trimtab_gateway_units_total", "pod": "p", "code": "200"}
    found = tuple(Sample(START.timestamp() + 5 * n, value) for n, value in samples)
    return RawSeries({**labels, "model": model, "version": version}, found)


async def test_what_all_names_have_answered_is_one_counter_of_each_side() -> None:
    fake, _ = await rolling()
    status = next(m for m in seen(fake).status.models if m.name == "tiny").rollout
    assert status is not None
    found = measures.together(
        [
            counted("one", "tiny", (0, 5), (1, 6), (2, 9)),
            counted("bot-1", "bot", (1, 10), (2, 30)),
            counted("two", "tiny", (0, 1), (1, 1), (2, 2)),
            counted("bot-2", "bot", (0, 1), (2, 4)),
            counted("bot-9", "bot", (0, 100)),
        ],
        status,
    )
    values = {s.labels["version"]: [x.value for x in s.samples] for s in found}
    # A counter that begins later has been at zero; one that a scrape lacks makes no restart.
    assert values == {"one": [5, 16, 39], "two": [2, 6]}


async def test_all_series_of_the_gateways_are_asked_for() -> None:
    fake, _ = await rolling()
    (asked,) = set(fake.metrics.asked)
    assert "model=" not in asked
    assert "version=" not in asked
