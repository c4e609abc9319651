"""Has the traffic moved: what is learned, what is called drift, and what is kept."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_operator.domain.analysis import drift, edetector, signals
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.analysis.drift import Bucket, DriftState, Tally, Watch
from trimtab_operator.domain.analysis.signals import ANCHOR, OTHER

PROFILE = {"cooking": 60.0, "garden": 30.0, "law": 10.0}
USUAL = {"cooking": 0.2, "garden": 0.3, "law": 0.45, OTHER: 0.05}  # not the profile's
NEW = {"cooking": 0.15, "garden": 0.22, "law": 0.33, OTHER: 0.3}


def tallies(
    shares: dict[str, float], openings: int, begin: float = 0.0, seed: int = 1
) -> list[Tally]:
    """Blocks of 25 openings, five seconds each."""
    chance = random.Random(seed)  # noqa: S311 - simulated traffic
    found = []
    for block in range(openings // 25):
        drawn = chance.choices(list(shares), list(shares.values()), k=25)
        counts = {name: drawn.count(name) for name in set(drawn)}
        found.append(Tally(begin + 5.0 * (block + 1), {"Topics": counts}))
    return found


def beginning() -> DriftState:
    return drift.begun({"Topics": PROFILE})


def after(*parts: Iterable[Tally]) -> DriftState:
    return drift.fold(beginning(), itertools.chain(*parts))


def test_day_one_is_learned_and_not_judged() -> None:
    state = after(tallies(USUAL, ANCHOR - 25))
    assert not state.signals["Topics"].is_anchored
    assert not state.is_drifting
    assert state.judged_until is None
    assert state.log_evidence == -math.inf


def test_traffic_that_stays_is_no_drift_though_it_is_not_the_profile() -> None:
    state = after(tallies(USUAL, 40_000))
    assert not state.is_drifting
    assert state.signals["Topics"].psi < 0.1


def test_a_new_topic_is_drift_and_is_told() -> None:
    state = after(tallies(USUAL, 6000), tallies(NEW, 500, 1200.0, 2))
    assert state.is_drifting
    assert state.leader == "Topics"
    moved = state.signals["Topics"].moved()
    assert moved[0].category == OTHER
    assert moved[0].before == pytest.approx(0.05, abs=0.02)
    assert moved[0].now > 0.15
    assert state.quiet_until is not None
    assert 1150 <= state.quiet_until <= 1300


def test_drift_is_taken_back_only_when_the_evidence_has_fallen_far() -> None:
    state = after(tallies(USUAL, 6000), tallies(NEW, 500, 1200.0, 2))
    again = drift.fold(state, tallies(USUAL, 250, 1300.0, 3))
    assert again.is_drifting
    later = drift.fold(state, tallies(USUAL, 6000, 1300.0, 3))
    assert not later.is_drifting


def test_so_many_openings_are_learned_from_as_is_asked_for() -> None:
    state = drift.fold(drift.begun({"Topics": PROFILE}, reference=500), tallies(USUAL, 475))
    assert not state.signals["Topics"].is_anchored
    state = drift.fold(state, tallies(USUAL, 525, 500.0, 2))
    assert sum(state.signals["Topics"].anchor) == 500
    assert not state.is_drifting
    assert drift.fold(state, tallies(NEW, 1000, 1200.0, 3)).is_drifting


def test_another_size_of_the_reference_begins_anew() -> None:
    watch = Watch("v1", after(tallies(USUAL, 100)))
    other = drift.begun({"Topics": PROFILE}, reference=500)
    assert Watch.resumed(watch.stored(), "v1", other) == Watch("v1", other)


def test_a_category_that_nobody_thought_of_counts_as_other() -> None:
    state = after([Tally(5.0, {"Topics": {"klingon": 3, "law": 1}})])
    assert state.signals["Topics"].anchor == (0, 0, 1, 3)


def test_the_same_hour_of_earlier_days_sees_what_the_tolerance_lets_pass() -> None:
    days = [tallies(USUAL, 2000, 86_400.0 * day, day) for day in range(3)]
    slight = {"cooking": 0.2, "garden": 0.3, "law": 0.4375, OTHER: 0.0625}
    state = after(*days, tallies(slight, 2500, 86_400.0 * 3, 9))
    bets = state.signals["Topics"]
    assert edetector.log_sum(*bets.hourly_bets) > edetector.log_sum(*bets.bets)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text[:-5], id="cut short"),
        pytest.param(lambda text: text.replace('"form":1', '"form":7'), id="another form"),
        pytest.param(lambda text: text.replace('"version":"v1"', '"version":"v2"'), id="another"),
        pytest.param(lambda text: text.replace('"seen":[0,', '"seen":['), id="a count is missing"),
        pytest.param(lambda text: text.replace('"Topics"', '"Languages"'), id="other signals"),
        pytest.param(lambda text: text.replace("0.0", "NaN"), id="not a number"),
        pytest.param(lambda text: None, id="nothing"),
    ],
)
def test_a_document_that_is_not_whole_or_of_another_version_is_begun_anew(
    spoil: Callable[[str], str | None],
) -> None:
    watch = Watch("v1", after(tallies(USUAL, 100)))
    assert Watch.resumed(watch.stored(), "v1", beginning()) == watch
    assert Watch.resumed(spoil(watch.stored()), "v1", beginning()) == Watch("v1", beginning())


@given(st.lists(st.integers(0, 120), max_size=4), st.integers(0, 5))
@settings(max_examples=20)
def test_restarts_make_no_difference(cuts: list[int], seed: int) -> None:
    found = [*tallies(USUAL, 2000, seed=seed), *tallies(NEW, 1000, 500.0, seed)]
    watch = Watch("v1", beginning())
    for start, end in itertools.pairwise([0, *sorted(cuts), len(found)]):
        watch = replace(watch, state=drift.fold(watch.state, found[start:end]))
        watch = Watch.resumed(watch.stored(), "v1", beginning())
    assert watch.state == drift.fold(beginning(), found)


def test_samples_count_once_however_often_they_are_read() -> None:
    bucket = Bucket("gateway", "Topics", "law", [Sample(0, 0), Sample(5, 40), Sample(10, 90)])
    watch = drift.watched(Watch("v1", beginning()), [bucket], 10)
    assert watch.state.signals["Topics"].anchor == (0, 0, 90, 0)
    assert drift.watched(watch, [bucket], 10) == watch


@pytest.mark.parametrize("stake", edetector.STAKES)
@pytest.mark.parametrize("edge", [0.011, 0.05, 0.3, 0.9])
def test_a_block_gains_nothing_in_the_mean_where_the_share_is_below_its_edge(
    edge: float, stake: float
) -> None:
    """What an M of 1 becomes in the mean by a block, less the new stake of the block itself."""
    n, place = 12, edetector.STAKES.index(stake)
    for share in (0.0, edge / 2, edge):
        mean = 0.0
        for k in range(n + 1):
            bets = edetector.fold((0.0,) * 6, [k, n - k], [edge, 1 - 1e-6], [0.5, 0.5])
            gain = (bets[place] or 0.0) - math.log(1 + n / 6)
            mean += math.comb(n, k) * share**k * (1 - share) ** (n - k) * math.exp(gain)
        assert mean <= 1 + 1e-5, share


def rated(*shares: float) -> drift.DriftState:
    """After blocks of 1,000 ratings, ten at a time; so many of them negative."""
    learned = signals.SignalState.begun({"negative": 1, "positive": 4}, 200, ("negative",), 2.0)
    state, time = drift.beginning_with({"NegativeFeedback": learned}), 0.0
    for share in shares:
        for _ in range(100):
            time += 60
            bad = round(10 * share)
            counts = {"NegativeFeedback": {"negative": bad, "positive": 10 - bad}}
            state = drift.fold(state, [drift.Tally(time, counts)])
    return state


@pytest.mark.parametrize(
    ("shares", "is_drifting"),
    [
        pytest.param((0.2, 0.2), False, id="as many as before"),
        pytest.param((0.2, 0.5), True, id="more of them"),
        pytest.param((0.5, 0.1), False, id="fewer of them"),
        pytest.param((0.1, 0.0), False, id="none any more"),
    ],
)
def test_only_a_share_that_is_bet_on_may_rise_to_an_alarm(
    shares: tuple[float, ...], is_drifting: bool
) -> None:
    state = rated(*shares)
    assert state.is_drifting is is_drifting
    bets = state.signals["NegativeFeedback"].bets
    assert all(bet is None for bet in bets[len(edetector.STAKES) :])
    assert state.signals["NegativeFeedback"].is_anchored


def staked(rising: tuple[str, ...] = (), *, is_hour_known: bool = False) -> dict[str, float]:
    """What each category's bets get of the new stake of a block of one opening, with what they lose taken off."""
    names = ("cooking", "garden", "law", OTHER)
    begun = signals.SignalState.begun(dict.fromkeys(names, 1.0), 1000, rising)
    state = signals.fold(begun, 0.0, dict.fromkeys(names, 250))
    if is_hour_known:
        state = replace(state, hour=24, hours={0: (250,) * 4})
    # None of it in the category that is looked at, so that a bet of stake e is multiplied by 1 - e.
    found = {}
    for place, name in enumerate(names):
        after = signals.fold(state, 3600.0 * 24, {"law" if name != "law" else "cooking": 1})
        stakes = range(place * len(edetector.STAKES), (place + 1) * len(edetector.STAKES))
        found[name] = sum(
            math.exp(bet) / (1 - edetector.STAKES[at % len(edetector.STAKES)])
            for bets in (after.bets, after.hourly_bets)
            for at in stakes
            if (bet := bets[at]) is not None
        )
    return found


@pytest.mark.parametrize("is_hour_known", [False, True])
def test_what_nobody_thought_of_has_half_of_the_stake_and_all_of_it_is_one(
    is_hour_known: bool,
) -> None:
    parts = staked(is_hour_known=is_hour_known)
    assert parts == pytest.approx(
        {"cooking": 1 / 6, "garden": 1 / 6, "law": 1 / 6, OTHER: 0.5}, abs=1e-4
    )


def test_only_what_is_to_rise_is_staked_on() -> None:
    nothing = {"cooking": 0.0, "garden": 0.0, "law": 0.0, OTHER: 0.0}
    assert staked(("law",)) == pytest.approx({**nothing, "law": 1.0}, abs=1e-4)
    assert staked(("law", OTHER)) == pytest.approx({**nothing, "law": 0.5, OTHER: 0.5}, abs=1e-4)
    assert staked(("law", "garden")) == pytest.approx(
        {**nothing, "law": 0.5, "garden": 0.5}, abs=1e-4
    )


def test_what_is_to_rise_is_one_of_the_categories() -> None:
    with pytest.raises(ValueError, match="no category"):
        signals.SignalState.begun({"negative": 1}, 200, ("bad",))


def test_a_watch_of_an_earlier_release_goes_on() -> None:
    watch = Watch("v1", after(tallies(USUAL, 100)))
    earlier = json.loads(watch.stored())
    for state in earlier["state"]["signals"].values():
        for later in ("reference", "rising", "profile_weight"):
            del state[later]
    assert Watch.resumed(json.dumps(earlier), "v1", beginning()) == watch


def test_an_empty_block_changes_nothing() -> None:
    state = after(tallies(USUAL, 3000))
    assert signals.fold(state.signals["Topics"], 1e6, {}) == state.signals["Topics"]


@pytest.mark.parametrize(
    "weights",
    [{"Topics": 0.0}, {"Topics": 0.7, "Languages": 0.3}, {"Topics": 1.5}],
    ids=["nothing", "of another signal", "more than all"],
)
def test_weights_that_do_not_go_with_the_signals(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        drift.begun({"Topics": PROFILE}, weights)
