"""Unusual keys, as status tells of them: measured or Unknown, each key said once."""

from datetime import timedelta
from typing import Any

import pytest
from tests.driftworld import watching
from tests.fakes import FakeWorld
from tests.rolloutworld import reasons
from tests.servicelife import KEY, message, seen, told

from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.errors import MetricsUnavailable
from trimtab_operator.domain.outcome import Done
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.reconcilers.inferenceservice import reconcile

POD = "chat-gateway-5d-a"
CONDITION = "AbuseDetected"


async def looked_after(**abuse: Any) -> FakeWorld:
    """A service whose keys are looked at."""
    fake, _ = await watching(name="bot", version={"name": "bot-1"})
    gateway = {"apiKeys": {"secretName": "keys"}, "abuse": abuse}
    fake.cluster.edit("InferenceService", KEY, {"spec": {"gateway": gateway}})
    return fake


def scraped(
    fake: FakeWorld, *unusual: tuple[str, str, float], pods: tuple[str, ...] = (POD,)
) -> None:
    """Gateways that were scraped just now; unusual: key, reason, and how many seconds before that."""
    now = fake.clock.now().timestamp()
    known = [
        RawSeries({"__name__": "trimtab_gateway_api_keys", "pod": pod}, (Sample(now - 5, 2.0),))
        for pod in pods
    ]
    found = [
        RawSeries(
            {
                "__name__": "trimtab_gateway_unusual_keys",
                "pod": POD,
                "key": key,
                "reason": reason,
            },
            (Sample(now - 5 - ago, 1.0),),
        )
        for key, reason, ago in unusual
    ]
    fake.metrics.series = [*known, *found]


async def look(fake: FakeWorld, *unusual: tuple[str, str, float]) -> None:
    fake.clock.advance(seconds=60)
    scraped(fake, *unusual)
    await reconcile(KEY, fake.world)


async def test_without_abuse_in_the_spec_nothing_is_asked_and_nothing_said() -> None:
    fake, _ = await watching(name="bot", version={"name": "bot-1"})
    assert fake.metrics.asked == []
    assert find(seen(fake).status.conditions, CONDITION) is None


async def test_keys_that_ask_for_what_they_used_to_are_no_news() -> None:
    fake = await looked_after()
    await look(fake)
    assert told(fake, CONDITION) == ("False", "NoUnusualKey")
    assert seen(fake).status.unusual_keys == []
    (asked,) = set(fake.metrics.asked)
    assert asked == (
        '{__name__=~"trimtab_gateway_unusual_keys|trimtab_gateway_api_keys",namespace="ns",'
        'pod=~"chat-gateway-[a-z0-9]+-[a-z0-9]+"}'
    )


async def test_it_is_asked_once_a_minute_however_often_the_service_is_looked_at() -> None:
    fake = await looked_after()
    await look(fake, ("a11ce", "Requests", 0))
    asked = len(fake.metrics.asked)
    scraped(fake)
    fake.clock.advance(seconds=59)
    outcomes = [await reconcile(KEY, fake.world) for _ in range(3)]
    assert len(fake.metrics.asked) == asked
    assert outcomes[-1] == Done(timedelta(seconds=1))
    assert told(fake, CONDITION) == ("True", "UnusualKey")
    assert [k.key for k in seen(fake).status.unusual_keys] == ["a11ce"]
    fake.clock.advance(seconds=1)
    await reconcile(KEY, fake.world)
    assert len(fake.metrics.asked) == asked + 1
    fake.cluster.edit("InferenceService", KEY, {"metadata": {"generation": 9}})
    await reconcile(KEY, fake.world)
    assert len(fake.metrics.asked) == asked + 2, "what is asked for has changed"


async def test_an_unusual_key_is_told_once_with_its_reason_and_since_when() -> None:
    fake = await looked_after(onAbuse="Throttle")
    await look(fake)
    await look(fake, ("a11ce", "Requests", 0))
    since = seen(fake).status.unusual_keys[0].since
    await look(fake, ("a11ce", "Requests", 0), ("b0b", "Refusals", 0))
    assert told(fake, CONDITION) == ("True", "UnusualKey")
    assert [(k.key, k.reason.value) for k in seen(fake).status.unusual_keys] == [
        ("a11ce", "Requests"),
        ("b0b", "Refusals"),
    ]
    assert seen(fake).status.unusual_keys[0].since == since
    assert f"key a11ce asks for far more than it used to since {since}, and is slowed" in message(
        fake, CONDITION
    )
    said = [e for e in fake.cluster.events.values() if e.reason == "UnusualKey"]
    assert [e.type for e in said] == ["Warning", "Warning"]
    await look(fake)
    assert told(fake, CONDITION) == ("False", "NoUnusualKey")
    assert seen(fake).status.unusual_keys == []


async def test_what_a_gateway_has_taken_back_counts_no_more() -> None:
    fake = await looked_after()
    await look(fake, ("a11ce", "Requests", 15))
    assert told(fake, CONDITION) == ("False", "NoUnusualKey")


async def test_two_gateways_that_say_the_same_are_one_key() -> None:
    fake = await looked_after()
    await look(fake, ("a11ce", "Requests", 0), ("a11ce", "Requests", 0), ("x", "Nonsense", 0))
    assert [k.key for k in seen(fake).status.unusual_keys] == ["a11ce"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("http://p", "PrometheusUnavailable", id="away"),
        pytest.param("", "NoPrometheus", id="none was given"),
    ],
)
async def test_without_an_answer_it_is_unknown_and_the_keys_stay(url: str, reason: str) -> None:
    fake = await looked_after()
    await look(fake, ("a11ce", "Requests", 0))
    prometheus = fake.settings.prometheus.model_copy(update={"url": url})
    fake.settings = fake.settings.model_copy(update={"prometheus": prometheus})
    fake.metrics.error = MetricsUnavailable("down")
    await look(fake)
    assert told(fake, CONDITION) == ("Unknown", reason)
    assert [k.key for k in seen(fake).status.unusual_keys] == ["a11ce"]


async def test_gateways_that_nobody_scrapes_are_unknown() -> None:
    fake = await looked_after()
    fake.metrics.series = []
    await reconcile(KEY, fake.world)
    assert told(fake, CONDITION) == ("Unknown", "NoSeries")


async def test_who_takes_abuse_out_of_the_spec_hears_no_more_of_it() -> None:
    fake = await looked_after()
    await look(fake, ("a11ce", "Requests", 0))
    gateway = {"apiKeys": {"secretName": "keys"}, "abuse": None}
    fake.cluster.edit("InferenceService", KEY, {"spec": {"gateway": gateway}})
    await reconcile(KEY, fake.world)
    assert find(seen(fake).status.conditions, CONDITION) is None
    assert seen(fake).status.unusual_keys == []
    assert "UnusualKey" in reasons(fake)
