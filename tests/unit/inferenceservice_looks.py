"""What the figures of a rollout are made of, and how a look at them is noted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes import START
from tests.rolloutworld import PLAN, rolling

from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_api.v1alpha1.rollout import Rollout, RolloutMetric, RolloutStatus
from trimtab_operator.domain.analysis.blocks import Arm
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.inferenceservice import looks, measures
from trimtab_operator.domain.inferenceservice.looks import Heard
from trimtab_operator.domain.inferenceservice.notes import Notes, config_map, notes_of, stored_notes
from trimtab_operator.domain.inferenceservice.rollout import begin
from trimtab_operator.domain.series import RawSeries


def routed(name: str, digit: str) -> RoutedVersion:
    return RoutedVersion(version=name, digest="sha256:" + digit * 64, kind=ArtifactKind.ADAPTER)


STATUS: RolloutStatus = begin("uid", routed("bot-1", "1"), routed("bot-2", "2"), START)
SERVICE = rolling()


def series(name: str, version: str = "bot-1", *values: float, **labels: str) -> RawSeries:
    samples = tuple(
        Sample(START.timestamp() + 5 * n, value) for n, value in enumerate(values or (0, 1))
    )
    known = {"__name__": f"trimtab_gateway_{name}", "version": version, "pod": "p", **labels}
    return RawSeries(known, samples)


ADDS: dict[str, tuple[RolloutMetric, RawSeries, tuple[int, int] | None]] = {
    "an answer": (RolloutMetric.ERROR_RATE, series("units_total", code="200"), (1, 0)),
    "a refusal of the client's fault": (
        RolloutMetric.ERROR_RATE,
        series("units_total", code="429"),
        (1, 0),
    ),
    "an error": (RolloutMetric.ERROR_RATE, series("units_total", code="503"), (1, 1)),
    "an empty answer": (
        RolloutMetric.EMPTY_ANSWERS,
        series("unit_answers_total", finish="empty"),
        (1, 1),
    ),
    "a cut answer": (
        RolloutMetric.CUT_ANSWERS,
        series("unit_answers_total", finish="length"),
        (1, 1),
    ),
    "an answer that declines": (RolloutMetric.REFUSALS, series("unit_refusals_total"), (0, 1)),
    "any answer": (RolloutMetric.REFUSALS, series("unit_answers_total", finish="stop"), (1, 0)),
    "praise": (
        RolloutMetric.NEGATIVE_FEEDBACK,
        series("feedback_total", rating="positive"),
        (1, 0),
    ),
    "a streamed answer": (
        RolloutMetric.TIME_TO_FIRST_TOKEN,
        series("unit_first_token_seconds_count"),
        (1, 1),
    ),
    "a quick one": (
        RolloutMetric.TIME_TO_FIRST_TOKEN,
        series("unit_first_token_seconds_bucket", le="0.15"),
        (0, -1),
    ),
    "another bucket": (
        RolloutMetric.TIME_TO_FIRST_TOKEN,
        series("unit_first_token_seconds_bucket", le="0.3"),
        None,
    ),
    "a stream of tokens": (
        RolloutMetric.TOKENS_PER_SECOND,
        series("unit_token_seconds_count"),
        (1, 1),
    ),
    "one that came fast": (
        RolloutMetric.TOKENS_PER_SECOND,
        series("unit_token_seconds_bucket", le="0.15"),
        (0, -1),
    ),
    "a counter of something else": (RolloutMetric.ERROR_RATE, series("tokens_total"), None),
}


@pytest.mark.parametrize(("metric", "given", "wanted"), ADDS.values(), ids=ADDS)
def test_what_an_increment_means(
    metric: RolloutMetric, given: RawSeries, wanted: tuple[int, int] | None
) -> None:
    found = measures.counters(metric, [given], STATUS, 0.15)
    assert [(c.adds_units, c.adds_events) for c in found] == ([] if wanted is None else [wanted])


def test_versions_of_neither_side_do_not_count() -> None:
    given = [series("units_total", v, code="200") for v in ("bot-1", "bot-2", "bot-9")]
    found = measures.counters(RolloutMetric.ERROR_RATE, given, STATUS, None)
    assert [c.arm for c in found] == [Arm.STABLE, Arm.CANDIDATE]


def test_a_gateway_that_two_scrape_counts_once() -> None:
    twice = [series("units_total", code="200", job=job) for job in ("pods", "monitor")]
    assert [s.labels["job"] for s in measures.once(twice)] == ["monitor"]


def test_the_selector_names_one_service_alone() -> None:
    found = measures.selector(SERVICE, "bot", ("v.1", "v2"), [RolloutMetric.ERROR_RATE])
    assert found == (
        '{__name__=~"trimtab_gateway_units_total",namespace="ns",'
        'pod=~"chat-gateway-[a-z0-9]+-[a-z0-9]+",model="bot",version=~"v[.]1|v2"}'
    )


def test_slow_is_what_is_slower_than_most_of_the_stable_version() -> None:
    given = [
        series("unit_first_token_seconds_bucket", "bot-1", 0, count, le=le)
        for le, count in (("0.1", 50), ("0.2", 950), ("0.4", 990), ("+Inf", 1000))
    ]
    assert measures.slow_above(RolloutMetric.TIME_TO_FIRST_TOKEN, given, STATUS) == 0.2
    few = [series("unit_first_token_seconds_bucket", "bot-1", 0, 5, le="+Inf")]
    assert measures.slow_above(RolloutMetric.TIME_TO_FIRST_TOKEN, few, STATUS) is None


# --- notes -----------------------------------------------------------------------------------------

QUERY: dict[str, Any] = {"name": "price", "query": "x", "atMost": 0.5}
WITH_QUERY = Rollout.model_validate({**PLAN, "analysis": {"queries": [QUERY]}})


def heard(at: int, **values: float | None) -> Heard:
    return Heard(START + timedelta(seconds=5 * at), values=values)


def after(*answers: Heard) -> Notes:
    notes = notes_of(STATUS, None)
    for each in answers:
        notes = looks.noted(WITH_QUERY, STATUS, notes, each)
    return notes


def verdict(notes: Notes) -> tuple[str, str]:
    found = looks.judged(WITH_QUERY, STATUS, notes, START + timedelta(seconds=30))
    return found.verdict.value, found.reason


def test_a_query_beyond_its_bounds_three_times_in_a_row_rolls_back() -> None:
    miss = [heard(n, price=0.9) for n in range(3)]
    assert verdict(after(*miss[:2]))[0] == "Hold"
    assert verdict(after(*miss)) == ("RollBack", "QueryFailed")
    assert verdict(after(*miss[:2], heard(2, price=0.1), miss[2]))[0] == "Hold"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_no_number_is_no_miss(value: float | None) -> None:
    notes = after(*(heard(n, price=value) for n in range(9)))
    assert notes.queries["price"].misses == 0
    assert verdict(notes)[0] == "Hold"


def test_notes_are_read_back_as_they_were_written() -> None:
    notes = after(heard(0, price=0.9))
    written = stored_notes([config_map(SERVICE, "bot", notes)])
    assert notes_of(STATUS, written["bot"]) == notes


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"since": 1}', "null", "{"])
def test_notes_that_cannot_be_read_are_begun_anew(text: str) -> None:
    assert notes_of(STATUS, text) == notes_of(STATUS, None)


def test_notes_of_another_rollout_are_not_read() -> None:
    text = after(heard(0, price=0.9)).stored()
    later = STATUS.model_copy(update={"since": "2027-01-01T00:00:00Z"})
    assert notes_of(later, text).queries == {}


@pytest.mark.parametrize("second", [0.0, 0.2, 0.6, 1.3, 2.5, 4.99])
def test_a_look_follows_soon_after_a_cell_is_over(second: float) -> None:
    cell = datetime.fromtimestamp(START.timestamp() // 5 * 5, UTC)
    for digit in "23456789":
        status = begin("uid", routed("bot-1", "1"), routed("bot-2", digit), START)
        looked = cell + timedelta(seconds=second)
        notes = looks.noted(WITH_QUERY, status, notes_of(status, None), Heard(looked))
        left = looks.due_in(notes, looked)
        due = (looked + left).timestamp() % 5
        assert timedelta() < left <= looks.LOOK_EVERY
        assert 0.25 <= due <= 1.25


def test_rollouts_do_not_all_look_at_once() -> None:
    def due(digit: str) -> timedelta:
        status = begin("uid", routed("bot-1", "1"), routed("bot-2", digit), START)
        notes = looks.noted(WITH_QUERY, status, notes_of(status, None), Heard(START))
        return looks.due_in(notes, START)

    assert len({due(digit) for digit in "23456789"}) == 8


def test_a_clock_that_goes_back_puts_no_look_off_for_long() -> None:
    notes = after(heard(1000))
    assert looks.due_in(notes, START) <= looks.LOOK_EVERY


# --- tokens per second -----------------------------------------------------------------------------

PACE = Rollout.model_validate({"analysis": {"metrics": ["TokensPerSecond"]}})
BOUNDS = ("0.02", "0.027", "+Inf")


def paced(scrapes: int, *, slow: tuple[int, int]) -> Heard:
    """Both versions have 100 streams between two scrapes; so many of each are above 0.027 s."""

    def grows(name: str, version: str, gain: int, **labels: str) -> RawSeries:
        known = {"__name__": f"trimtab_gateway_unit_token_seconds_{name}", "pod": "p"}
        moments = range(-30, scrapes)
        samples = tuple(Sample(START.timestamp() + 5 * n, gain * (n + 30)) for n in moments)
        return RawSeries({**known, "version": version, **labels}, samples)

    found = []
    for version, above in zip(("bot-1", "bot-2"), slow, strict=True):
        gains = (80, 100 - above, 100) if above < 20 else (10, 100 - above, 100)
        found += [grows("bucket", version, g, le=le) for g, le in zip(gains, BOUNDS, strict=True)]
        found.append(grows("count", version, 100))
    return Heard(START + timedelta(seconds=5 * scrapes), tuple(found))


def test_a_version_whose_tokens_come_slower_is_rolled_back() -> None:
    notes = looks.noted(PACE, STATUS, notes_of(STATUS, None), paced(6, slow=(5, 40)))
    assert notes.evidence.metrics["TokensPerSecond"].threshold == 0.027
    found = looks.judged(PACE, STATUS, notes, START + timedelta(seconds=30))
    assert (found.verdict, found.reason) == ("RollBack", "CandidateWorse")
    assert "TokensPerSecond: 200 of 500 (40.00 %) against 25 of 500" in found.message


def test_a_version_whose_tokens_come_as_fast_is_none_the_worse() -> None:
    notes = looks.noted(PACE, STATUS, notes_of(STATUS, None), paced(6, slow=(5, 5)))
    assert looks.judged(PACE, STATUS, notes, START + timedelta(seconds=30)).verdict == "Hold"
