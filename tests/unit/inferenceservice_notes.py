"""What is kept of a rollout has room in a ConfigMap, whatever there is to count; and nothing counts twice."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.fakes import START
from tests.rolloutworld import flows, in_rollout, rolling
from tests.unit.inferenceservice_looks import STATUS, series

from trimtab_api.v1alpha1.rollout import Rollout, RolloutMetric
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.inferenceservice import looks
from trimtab_operator.domain.inferenceservice.looks import Heard
from trimtab_operator.domain.inferenceservice.notes import (
    MOST_BYTES,
    Notes,
    config_map,
    notes_of,
    outdated,
)
from trimtab_operator.domain.series import RawSeries

MEBIBYTE = 1024 * 1024
ALL = Rollout.model_validate(
    {"analysis": {"metrics": list(RolloutMetric), "queries": []}, "steps": [{"weight": 50}]}
)
FINISHES = ("stop", "length", "tool_calls", "content_filter", "empty", "other")
LABELS: dict[str, Sequence[dict[str, str]]] = {
    "units_total": [{"code": c} for c in ("200", "400", "404", "429", "499", "500", "502", "503")],
    "unit_answers_total": [{"finish": f} for f in FINISHES],
    "unit_refusals_total": [{}],
    "feedback_total": [{"rating": r} for r in ("positive", "negative")],
    **{
        f"{name}_seconds_{part}": labels
        for name in ("unit_first_token", "unit_token", "request_duration")
        for part, labels in (
            ("bucket", [{"le": le} for le in ("0.1", "0.15", "0.3", "+Inf")]),
            ("count", [{}]),
        )
    },
}


def scraped(gateways: Sequence[str], upto: int, names: Sequence[str] = tuple(LABELS)) -> Heard:
    """Every counter of these gateways, which gains 1000 from scrape to scrape."""
    moments = [START.timestamp() + 5 * n for n in range(-2, upto)]
    found = [
        RawSeries(
            each.labels, tuple(Sample(at, 7_000_000 + 1000 * n) for n, at in enumerate(moments))
        )
        for pod in gateways
        for name in names
        for labels in LABELS[name]
        for version in ("bot-1", "bot-2")
        for each in (series(name, version, pod=pod, **labels),)
    ]
    return Heard(START + timedelta(seconds=5 * upto), tuple(found))


def pods(count: int) -> list[str]:
    return [f"a-service-with-a-long-name-gateway-7d9c5b8f6d-{n:05x}" for n in range(count)]


def fresh() -> Notes:
    return notes_of(STATUS, None)


def test_a_hundred_gateways_with_every_metric_are_all_counted() -> None:
    notes = looks.noted(ALL, STATUS, fresh(), scraped(pods(100), 4))
    assert set(notes.evidence.metrics) == set(RolloutMetric)
    assert notes.halvings == 0
    assert len(notes.stored().encode()) < MOST_BYTES / 2


def test_what_is_too_much_is_a_fair_sample_of_the_gateways() -> None:
    notes = looks.noted(ALL, STATUS, fresh(), scraped(pods(400), 4))
    written = config_map(rolling(), "bot", notes)
    assert sum(len(text.encode()) for text in written["data"].values()) <= MOST_BYTES < MEBIBYTE
    kept = [pod for pod in pods(400) if notes.counts(pod)]
    assert notes.halvings == 1
    assert 150 < len(kept) < 250
    assert notes_of(STATUS, notes.stored()) == notes


def test_gateways_that_are_left_out_count_no_request_twice() -> None:
    names, plan = ["units_total"], Rollout.model_validate({"steps": [{"weight": 50}]})
    everyone = pods(8)
    halved = looks.noted(plan, STATUS, fresh(), scraped(everyone, 4, names)).bounded(most=2500)
    assert halved.halvings > 0
    kept = [pod for pod in everyone if halved.counts(pod)]
    before = halved.answered
    # The same samples again, and new ones: of the others neither old nor new ones count.
    after = looks.noted(plan, STATUS, halved, scraped(everyone, 6, names))
    assert after.answered - before == len(kept) * 2 * 1000 * len(LABELS["units_total"])


def test_more_is_given_up_where_that_is_not_enough_and_then_no_more() -> None:
    notes = looks.noted(ALL, STATUS, fresh(), scraped(pods(20), 4))
    bare = notes.bounded(most=1)
    assert not any(one.cursor.scrapes for one in bare.evidence.metrics.values())
    assert bare.answered == notes.answered
    assert bare.bounded(most=1) == bare


def test_evidence_in_an_earlier_form_is_begun_anew() -> None:
    notes = looks.noted(ALL, STATUS, fresh(), scraped(pods(2), 4))
    earlier = notes.stored().replace('"form":2', '"form":1')
    assert earlier != notes.stored()
    assert notes_of(STATUS, earlier) == fresh()


def test_many_models_have_a_config_map_each() -> None:
    service = rolling()
    written = [config_map(service, model, fresh()) for model in ("bot", "cat", "dog")]
    names = [m["metadata"]["name"] for m in written]
    assert len(set(names)) == 3
    assert [m["metadata"]["name"] for m in outdated(service, written, ["cat"])] == [
        names[0],
        names[2],
    ]


async def test_the_notes_go_when_the_rollout_is_over() -> None:
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, stable=(50, 2), candidate=(50, 2))

    def kept() -> list[str]:
        found = [str(m["metadata"]["name"]) for m in fake.cluster.of_kind("ConfigMap")]
        return [name for name in found if "evidence" in name]

    assert len(kept()) == 1
    await flows(fake, traffic, 60, stable=(50, 2), candidate=(50, 50))
    assert kept() == []


def test_what_was_read_is_not_read_again_for_a_gateway_that_is_gone() -> None:
    service, (model,) = rolling(), rolling().spec.models
    plan = model.rollout
    assert plan is not None
    names = ["units_total"]
    notes = looks.noted(plan, STATUS, fresh(), scraped(pods(3), 10, names))
    for upto in (20, 60, 100):
        notes = looks.noted(plan, STATUS, notes, scraped(pods(2), upto, names))
        now = START + timedelta(seconds=5 * (upto + 1))
        asked = looks.ask(service, model, STATUS, notes, now)
        assert asked is not None
        assert asked.start <= START + timedelta(seconds=5 * (upto - 1))
        is_gone = upto > 50
        assert (now - asked.start < timedelta(seconds=30)) == is_gone
    assert len({s.instance for s in notes.evidence.metrics["ErrorRate"].cursor.scrapes}) == 3


@pytest.mark.parametrize("halvings", range(4))
def test_who_is_left_out_once_is_left_out_for_good(halvings: int) -> None:
    notes = replace(fresh(), halvings=halvings)
    fewer = replace(notes, halvings=halvings + 1)
    assert {p for p in pods(64) if fewer.counts(p)} <= {p for p in pods(64) if notes.counts(p)}
