"""Drift: a service's traffic from its first day on, and what status says of it."""

from datetime import timedelta

import pytest
from tests.driftworld import (
    MOVED,
    USUAL,
    drift,
    drifted,
    go_on,
    watched_model,
    watching,
)
from tests.fakes import FakeWorld
from tests.servicelife import KEY, answers, loaded, message, seen, told
from tests.servingbuilders import NAMESPACE, a_ready_version, a_report

from trimtab_api.documents.profile import ReferenceProfile, Topics
from trimtab_api.v1alpha1.drift import Drift
from trimtab_operator.domain.analysis import signals
from trimtab_operator.domain.analysis.signals import OTHER
from trimtab_operator.domain.conditions import find, moment_of
from trimtab_operator.domain.errors import MetricsRefused, MetricsUnavailable
from trimtab_operator.domain.inferenceservice import drift as domain
from trimtab_operator.domain.outcome import Done
from trimtab_operator.reconcilers.inferenceservice import reconcile

CONDITION = "DriftDetected"


async def test_without_drift_in_the_spec_nothing_is_asked_and_nothing_said() -> None:
    fake, _ = await watching(name="bot", version={"name": "bot-1"})
    assert find(seen(fake).status.conditions, CONDITION) is None
    assert fake.metrics.asked == []
    assert [m.drift for m in seen(fake).status.models] == [None, None]


async def test_day_one_is_not_drift() -> None:
    fake, gateways = await watching()
    outcome = await go_on(fake, gateways, MOVED, 3)
    assert told(fake, CONDITION) == ("Unknown", "Learning")
    assert "of 2000 opening requests" in message(fake, CONDITION)
    assert outcome == Done(timedelta(seconds=60))


async def test_traffic_that_stays_as_it_was_is_no_drift() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 60)
    assert told(fake, CONDITION) == ("False", "NoDrift")
    assert drift(fake).requests > 10_000


async def test_a_version_that_is_asked_little_can_be_judged_by_less() -> None:
    model = watched_model(drift={"signals": ["Languages"], "referenceRequests": 500})
    fake, gateways = await watching(**model)
    await go_on(fake, gateways, USUAL, 2)
    assert "of 500 opening requests" in message(fake, CONDITION)
    await go_on(fake, gateways, USUAL, 2)
    assert told(fake, CONDITION) == ("False", "NoDrift")


async def test_a_language_that_nobody_spoke_is_drift() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 14)
    began = fake.clock.now()
    await go_on(fake, gateways, MOVED, 12)
    assert told(fake, CONDITION) == ("True", "Drifting")
    found = drift(fake)
    assert (found.signal, found.version) == ("Languages", "bot-1")
    assert found.psi is not None
    assert found.psi > 0.25
    assert found.log_evidence is not None
    assert found.alarm_at is not None
    assert found.log_evidence >= found.alarm_at
    fr = next(m for m in found.moved if m.category == "fr")
    assert (fr.before < 0.01) & (fr.now > 0.3)
    since = moment_of(found.since)
    assert since is not None
    assert abs(since - began) < timedelta(minutes=3)
    (said,) = (e for e in fake.cluster.events.values() if e.reason == "Drifting")
    assert said.type == "Warning"
    assert fake.tally.moved == {("ns", "chat"): {"bot": True}}


async def test_the_selector_is_of_this_services_gateways_and_version_alone() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 1)
    (asked,) = set(fake.metrics.asked)
    assert asked == (
        'trimtab_gateway_signal_total{namespace="ns",pod=~"chat-gateway-[a-z0-9]+-[a-z0-9]+",'
        'model="bot",version="bot-1"}'
    )


async def test_a_gateway_that_begins_anew_loses_nothing_and_invents_nothing() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 5)
    counted = memory(fake)
    gateways.restart()
    await go_on(fake, gateways, USUAL, 5)
    assert memory(fake) == pytest.approx(2 * counted, abs=250)
    assert told(fake, CONDITION)[0] == "Unknown"


async def test_looking_twice_counts_once() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 5)
    counted, asked = memory(fake), len(fake.metrics.asked)
    for _ in range(5):
        await reconcile(KEY, fake.world)
    assert (memory(fake), len(fake.metrics.asked)) == (counted, asked), "it is not time yet"
    fake.clock.advance(seconds=70)
    await reconcile(KEY, fake.world)
    assert len(fake.metrics.asked) == asked + 1
    assert memory(fake) - counted <= 50, "at most the scrape that was not over before"


async def test_an_operator_that_starts_anew_goes_on_where_it_was() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 1)
    fake.cluster.revive()
    await go_on(fake, gateways, MOVED, 11)
    assert told(fake, CONDITION) == ("True", "Drifting")


async def test_a_memory_that_was_cut_short_is_a_new_beginning_and_never_drift() -> None:
    fake, gateways = await drifted()
    (stored,) = (m for m in fake.cluster.of_kind("ConfigMap") if "-drift-" in m["metadata"]["name"])
    key = (NAMESPACE, stored["metadata"]["name"])
    cut = stored["data"]["watch.json"][:100]
    fake.cluster.edit("ConfigMap", key, {"data": {"watch.json": cut}})
    await go_on(fake, gateways, MOVED, 1)
    assert told(fake, CONDITION) == ("Unknown", "Learning")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(MetricsUnavailable("down"), "PrometheusUnavailable", id="away"),
        pytest.param(MetricsRefused("what?"), "PrometheusUnavailable", id="it refuses"),
    ],
)
async def test_a_prometheus_that_does_not_answer_is_never_drift(
    error: Exception, reason: str
) -> None:
    fake, gateways = await watching()
    fake.metrics.error = error  # type: ignore[assignment]
    await go_on(fake, gateways, MOVED, 3)
    assert told(fake, CONDITION) == ("Unknown", reason)
    assert str(error) in message(fake, CONDITION)


async def test_without_a_prometheus_that_is_said() -> None:
    fake, gateways = await watching()
    fake.settings = fake.settings.model_copy(
        update={"prometheus": fake.settings.prometheus.model_copy(update={"url": ""})}
    )
    fake.metrics.error = MetricsUnavailable("set prometheus.url in the chart")
    await go_on(fake, gateways, USUAL, 2)
    assert told(fake, CONDITION) == ("Unknown", "NoPrometheus")


async def test_no_series_is_unknown() -> None:
    fake, _ = await watching()
    fake.clock.advance(minutes=5)
    await reconcile(KEY, fake.world)
    assert told(fake, CONDITION) == ("Unknown", "NoSeries")


async def test_drift_that_cannot_be_measured_any_more_is_unknown_after_a_while() -> None:
    fake, _ = await drifted()
    fake.metrics.error = MetricsUnavailable("down")
    fake.clock.advance(minutes=5)
    await reconcile(KEY, fake.world)
    assert told(fake, CONDITION) == ("True", "Drifting"), "a moment is no news"
    fake.clock.advance(minutes=6)
    await reconcile(KEY, fake.world)
    assert told(fake, CONDITION) == ("Unknown", "PrometheusUnavailable")


async def test_a_new_version_is_judged_by_its_own_first_requests() -> None:
    fake, gateways = await drifted(a_ready_version("bot-2"))
    models = [watched_model(version={"name": "bot-2"})]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    loaded(fake, "bot-1", "bot-2")
    answers(fake, bot="bot-2")
    await reconcile(KEY, fake.world)
    await go_on(fake, gateways, MOVED, 1, version="bot-2")
    assert told(fake, CONDITION) == ("Unknown", "Learning")
    assert drift(fake).version == "bot-2"
    await go_on(fake, gateways, MOVED, 25, version="bot-2")
    assert told(fake, CONDITION) == ("False", "NoDrift")


async def test_the_versions_profile_is_only_a_first_guess() -> None:
    """What it was evaluated on is not what people ask, and that is no drift."""
    fake, gateways = await watching()
    profile = {
        "features": 1,
        "prompts": 100,
        "promptCharacters": [0] * 12,
        "promptTokens": [0] * 12,
        "languages": {"it": 100},
    }
    uri = a_ready_version("bot-1").status.evaluation.report  # type: ignore[union-attr]
    report = a_report("bot-1", profile=profile)
    fake.registry.documents[str(uri)] = report.model_dump_json(by_alias=True).encode()
    await go_on(fake, gateways, USUAL, 40)
    assert told(fake, CONDITION) == ("False", "NoDrift")


async def test_figures_are_written_now_and_then_and_not_with_each_look() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 11)
    before = drift(fake).measured
    while drift(fake).measured == before:
        await go_on(fake, gateways, USUAL, 1)
    written = drift(fake).measured
    status = seen(fake).metadata.resource_version
    await go_on(fake, gateways, USUAL, 3)
    assert (drift(fake).measured, seen(fake).metadata.resource_version) == (written, status)
    await go_on(fake, gateways, USUAL, 10)
    assert drift(fake).measured != written


async def test_a_model_that_is_watched_no_more_is_said_nothing_of() -> None:
    fake, _ = await drifted()
    models = [{"name": "bot", "version": {"name": "bot-1"}, "drift": None}]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await reconcile(KEY, fake.world)
    assert find(seen(fake).status.conditions, CONDITION) is None
    assert fake.tally.moved == {}


async def test_what_was_learned_goes_with_the_wish_to_watch() -> None:
    fake, _ = await drifted()
    kept = fake.cluster.children(seen(fake), "ConfigMap")
    watched = seen(fake).spec.models[0].model_dump(mode="json", by_alias=True)
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": [{**watched, "drift": None}]}})
    await reconcile(KEY, fake.world)
    left = fake.cluster.children(seen(fake), "ConfigMap")
    assert {m["metadata"]["name"] for m in kept} - {m["metadata"]["name"] for m in left} == {
        domain.name(seen(fake), "bot")
    }
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": [watched]}})
    await reconcile(KEY, fake.world)
    assert drift(fake).reason == "Learning"


async def test_another_wish_soon_after_is_asked_for_and_not_guessed() -> None:
    fake, _ = await drifted()
    watched = seen(fake).spec.models[0].model_dump(mode="json", by_alias=True)
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": [{**watched, "drift": None}]}})
    await reconcile(KEY, fake.world)
    fake.metrics.error = MetricsUnavailable("Prometheus is away")
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": [watched]}})
    await reconcile(KEY, fake.world)
    assert drift(fake).reason == "PrometheusUnavailable"


async def test_a_service_that_is_gone_is_counted_no_more() -> None:
    fake, _ = await drifted()
    fake.cluster.take_away("InferenceService", KEY)
    await reconcile(KEY, fake.world)
    assert fake.tally.moved == {}


async def test_a_clock_that_was_set_back_stops_nothing() -> None:
    fake, gateways = await watching()
    await go_on(fake, gateways, USUAL, 14)
    fake.clock.advance(hours=-2)
    await go_on(fake, gateways, USUAL, 2)
    fake.clock.advance(hours=2)
    await go_on(fake, gateways, MOVED, 12)
    assert told(fake, CONDITION) == ("True", "Drifting")


def memory(fake: FakeWorld) -> int:
    """Openings that were counted, as they are remembered."""
    service = seen(fake)
    model = service.spec.models[0]
    version = a_ready_version("bot-1")
    assert model.drift is not None
    watched = domain.Watched(model, model.drift, version)
    (stored,) = (
        m
        for m in fake.cluster.of_kind("ConfigMap")
        if m["metadata"]["name"] == domain.name(service, "bot")
    )
    state = domain.remembered(stored, watched).watch.state.signals["Languages"]
    return sum(state.anchor) + sum(state.seen)


def test_what_is_near_no_centroid_is_what_nobody_thought_of() -> None:
    """The gateway counts it by one number more than the centroids have; a bet of its own is on it."""
    topics = Topics(weights="", centroids=["", ""], least_similarity=0.5, counts=[60, 30, 10])
    profile = ReferenceProfile(
        features=1, prompts=100, prompt_characters=[], prompt_tokens=[], topics=topics
    )
    wanted = Drift.model_validate({"signals": ["Topics"]})
    signal = domain.beginning(wanted, profile).signals["Topics"]
    assert signal.categories == ("0", "1", OTHER)
    assert signal.profile == pytest.approx((0.6, 0.3, 0.1), abs=0.01)
    assert signals.fold(signal, 0.0, {"0": 3, "2": 4}).anchor == (3, 0, 4)
