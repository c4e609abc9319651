"""The sequential tests of a rollout: what they may never do by more than chance, and what they see."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_operator.domain.analysis import guard, latency, promotion, rollback, sharing
from trimtab_operator.domain.analysis.blocks import Block, Counts
from trimtab_operator.domain.analysis.evidence import (
    Evidence,
    MetricEvidence,
    begun,
    guarded,
    with_blocks,
)
from trimtab_operator.domain.analysis.guard import GuardTest
from trimtab_operator.domain.analysis.promotion import Margin, PromotionTest
from trimtab_operator.domain.analysis.rollback import RATIOS, RollbackTest

RATES = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.999, 1.0]
BELIEFS = [0.0005, 0.01, 0.05, 0.3, 0.6, 0.9, 0.995]
SHAPES = [(3, 3), (9, 1), (1, 9)]
MARGINS = [Margin(), Margin(0.005, 0.0), Margin(0.02, 1.0)]


def expected(
    factor: Callable[[Block], float], shape: tuple[int, int], stable: float, candidate: float
) -> float:
    """The exact mean of what one block multiplies the stake by."""
    n_s, n_c = shape
    return sum(
        chance(n_s, e_s, stable)
        * chance(n_c, e_c, candidate)
        * math.exp(factor(Block(0, Counts(n_s, e_s), Counts(n_c, e_c))))
        for e_s, e_c in itertools.product(range(n_s + 1), range(n_c + 1))
    )


def chance(n: int, k: int, rate: float) -> float:
    return math.comb(n, k) * rate**k * (1 - rate) ** (n - k)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("belief", BELIEFS)
def test_a_block_gains_nothing_in_the_mean_where_the_candidate_is_no_worse(
    belief: float, ratio: float, shape: tuple[int, int]
) -> None:
    for stable, candidate in itertools.product(RATES, RATES):
        if candidate <= stable:
            mean = expected(
                lambda b: rollback.log_factor(b, belief, ratio), shape, stable, candidate
            )
            assert mean <= 1 + 1e-9, (stable, candidate)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("belief", BELIEFS)
def test_a_block_proves_nothing_in_the_mean_where_the_margin_is_exceeded(
    belief: float, margin: Margin, shape: tuple[int, int]
) -> None:
    for stable, more in itertools.product(RATES, [0, 0.01, 0.2]):
        candidate = min(margin.edge(stable) + more, 1.0)
        if candidate >= margin.edge(stable):
            mean = expected(
                lambda b: promotion.log_factor(b, belief, margin), shape, stable, candidate
            )
            assert mean <= 1 + 1e-6, (stable, candidate)


@pytest.mark.parametrize("bound", [0.001, 0.02, 0.075, 0.5, 0.97])
def test_a_block_gains_the_guard_nothing_in_the_mean_below_the_bound(bound: float) -> None:
    def factor(block: Block) -> float:
        return guard.fold(GuardTest(bound), [block]).log_evidence

    for candidate in (rate for rate in [*RATES, bound] if rate <= bound):
        assert expected(factor, (0, 8), 0.0, candidate) <= 1 + 1e-9, candidate


SOME = st.builds(lambda n, of: Counts(n, n * of // 8), st.integers(0, 500), st.integers(0, 8))
BLOCKS = st.lists(st.builds(Block, st.just(5.0), SOME, SOME), max_size=8)


def folded(blocks: Sequence[Block], cuts: Sequence[int] = ()) -> Evidence:
    """All blocks, with a restart from the stored document at each cut."""
    evidence = begun(Evidence("a", "b"), "ErrorRate", Margin(), None)
    edges = [0, *sorted(min(cut, len(blocks)) for cut in cuts), len(blocks)]
    for start, end in itertools.pairwise(edges):
        one = with_blocks(evidence.metrics["ErrorRate"], blocks[start:end])
        evidence = replace(evidence, metrics={"ErrorRate": one})
        evidence = Evidence.resumed(evidence.stored(), "a", "b")
    return evidence


@given(BLOCKS, st.lists(st.integers(0, 8), max_size=3))
def test_restarts_make_no_difference(blocks: list[Block], cuts: list[int]) -> None:
    assert folded(blocks, cuts) == folded(blocks)


@given(BLOCKS)
def test_evidence_is_always_a_number(blocks: list[Block]) -> None:
    one = folded(blocks).metrics["ErrorRate"]
    later = [bet for bet in one.rollback.later if bet is not None]
    numbers = [*one.rollback.bets, *later, one.rollback.peak, one.promotion.log_evidence]
    assert all(math.isfinite(number) for number in numbers)


@given(BLOCKS, SOME)
def test_one_version_alone_is_no_evidence(blocks: list[Block], counts: Counts) -> None:
    for lonely in (Block(0, counts), Block(0, Counts(), counts)):
        before = rollback.fold(RollbackTest(), blocks)
        after = rollback.fold(before, [lonely])
        assert (after.bets, after.peak) == (before.bets, before.peak)
        assert after.log_evidence == pytest.approx(before.log_evidence)
        proof = promotion.fold(PromotionTest(), blocks)
        assert promotion.fold(proof, [lonely]).log_evidence == proof.log_evidence


def alternating(stable: int, candidate: int, blocks: int) -> list[Block]:
    """Fifty of each a block, with so many errors."""
    return [Block(5.0 * i, Counts(50, stable), Counts(50, candidate)) for i in range(blocks)]


def test_a_candidate_that_errs_twice_as_often_is_an_alarm() -> None:
    assert rollback.fold(RollbackTest(), alternating(3, 6, 20)).is_alarm(0.05)


def test_a_candidate_that_turns_bad_late_need_not_make_up_for_its_good_time() -> None:
    fine = rollback.fold(RollbackTest(), alternating(3, 3, 200))
    assert fine.log_evidence < 0
    assert rollback.fold(fine, alternating(3, 6, 25)).is_alarm(0.05)


def test_a_candidate_that_errs_as_often_is_none_and_is_proven() -> None:
    blocks = alternating(3, 3, 60)
    assert not rollback.fold(RollbackTest(), blocks).is_alarm(0.05)
    assert promotion.fold(PromotionTest(), blocks).is_proven(0.05)


def test_a_candidate_worse_by_the_margin_is_not_proven() -> None:
    assert not promotion.fold(PromotionTest(), alternating(4, 6, 200)).is_proven(0.05)


def test_an_alarm_stays_when_later_blocks_speak_against_it() -> None:
    state = rollback.fold(RollbackTest(), alternating(3, 6, 20))
    later = rollback.fold(state, alternating(6, 3, 40))
    assert later.log_evidence < 0
    assert later.is_alarm(0.05)


def test_nothing_is_worse_than_always_failing() -> None:
    state = rollback.fold(RollbackTest(), alternating(50, 50, 400))
    assert not state.is_alarm(0.05)


def test_where_nearly_everything_fails_nothing_is_bet_on_a_better_candidate() -> None:
    """The highest rate that is bet on must not fall below the stable version's."""
    block = Block(0, Counts(99, 99), Counts(1, 0))
    assert rollback.log_factor(block, 0.9999, 1.5) == 0.0


def test_a_proof_that_faded_is_none() -> None:
    state = promotion.fold(PromotionTest(), alternating(3, 3, 60))
    assert not promotion.fold(state, alternating(3, 8, 30)).is_proven(0.05)


def test_what_is_still_needed_shrinks_to_nothing() -> None:
    state = PromotionTest()
    assert state.still_needed(0.05, 0.5) is None
    needed = []
    for block in alternating(3, 3, 60):
        state = promotion.fold(state, [block])
        needed.append(state.still_needed(0.05, 0.5))
    assert needed[5] is not None
    assert 500 < needed[5] < 10_000
    assert needed[-1] == 0


def test_the_guard_sees_a_version_that_became_worse() -> None:
    one = with_blocks(MetricEvidence(), alternating(3, 3, 60))
    evidence = guarded(Evidence("a", "b", {"ErrorRate": one}))
    test = evidence.metrics["ErrorRate"].guard
    assert test is not None
    assert test.bound == pytest.approx(0.09)
    fine = with_blocks(evidence.metrics["ErrorRate"], [Block(1, Counts(), Counts(5000, 300))])
    assert fine.guard is not None
    assert not fine.guard.is_alarm(0.05)
    bad = with_blocks(fine, [Block(2, Counts(), Counts(500, 120))])
    assert bad.guard is not None
    assert bad.guard.is_alarm(0.05)
    assert guarded(Evidence("a", "b", {"x": bad})).metrics["x"] == bad


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text[:-9], id="cut short"),
        pytest.param(lambda text: text.replace('"form":2', '"form":1'), id="another form"),
        pytest.param(lambda text: text.replace('"peak":0.0', '"peak":NaN'), id="not a number"),
        pytest.param(lambda text: text.replace('"bets":[0.0,', '"bets":['), id="a bet is missing"),
        pytest.param(lambda text: text.replace('"n":0', '"n":-1'), id="a count below zero"),
        pytest.param(lambda text: text.replace('"candidate":"b"', '"candidate":"c"'), id="others"),
        pytest.param(lambda text: None, id="nothing"),
    ],
)
def test_a_document_that_is_not_whole_or_of_other_versions_is_begun_anew(
    spoil: Callable[[str], str | None],
) -> None:
    evidence = begun(Evidence("a", "b"), "ErrorRate", Margin(), None)
    assert Evidence.resumed(evidence.stored(), "a", "b") == evidence
    assert Evidence.resumed(spoil(evidence.stored()), "a", "b") == Evidence("a", "b")


def test_versions_that_changed_places_begin_anew() -> None:
    stored = folded(alternating(3, 6, 20)).stored()
    assert Evidence.resumed(stored, "b", "a") == Evidence("b", "a")


def test_events_beyond_the_units_cannot_be() -> None:
    with pytest.raises(ValueError, match="3 events of 2 units"):
        Counts(2, 3)


@pytest.mark.parametrize("given", [(0.0, 0.5), (1.0, 0.5), (0.01, -0.1), (math.nan, 0.5)])
def test_a_margin_that_excludes_nothing_cannot_be(given: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="margin"):
        Margin(*given)


@pytest.mark.parametrize(
    ("below", "bound"),
    [
        pytest.param({0.1: 50, 0.2: 95, 0.5: 99, math.inf: 100}, 0.2, id="nine tenths are quicker"),
        pytest.param({0.1: 10, 0.2: 20, math.inf: 100}, None, id="too slow to be told"),
        pytest.param({0.1: 9, math.inf: 10}, None, id="too few"),
        pytest.param({0.1: math.nan, math.inf: 1000}, None, id="not a number"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_the_bound_of_what_is_slow(below: dict[float, float], bound: float | None) -> None:
    assert latency.threshold(below) == bound


def test_errors_have_most_of_the_level_and_all_is_the_whole() -> None:
    shares = sharing.weights(["ErrorRate", "TimeToFirstToken", "Refusals"])
    assert shares == pytest.approx({"ErrorRate": 0.8, "TimeToFirstToken": 0.1, "Refusals": 0.1})
    assert sum(sharing.levels(0.05, shares).values()) == pytest.approx(0.05)
    assert sharing.weights(["ErrorRate"]) == {"ErrorRate": 1.0}
    assert sharing.weights(["Refusals", "Empty"]) == {"Refusals": 0.5, "Empty": 0.5}


def test_a_level_is_not_spent_twice() -> None:
    with pytest.raises(ValueError, match="named twice"):
        sharing.weights(["ErrorRate", "ErrorRate"])
    with pytest.raises(ValueError, match="1 together"):
        sharing.levels(0.05, {"ErrorRate": 0.8, "Refusals": 0.3})
