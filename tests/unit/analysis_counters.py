"""Raw samples of counters become blocks in which each request is counted once."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from trimtab_operator.domain.analysis.blocks import Arm, Block, Counter, Counts, counted
from trimtab_operator.domain.analysis.counters import CELL_SECONDS, Cursor, Sample

CURSOR = TypeAdapter(Cursor)


def counter(
    *samples: tuple[float, float],
    arm: Arm = Arm.CANDIDATE,
    instance: str = "gateway-1",
    name: str = "200",
    adds: tuple[int, int] = (1, 0),
) -> Counter:
    return Counter(instance, name, arm, [Sample(*s) for s in samples], *adds)


def total(blocks: Sequence[Block]) -> Block:
    stable, candidate = Counts(), Counts()
    for block in blocks:
        stable, candidate = stable + block.stable, candidate + block.candidate
    return Block(0, stable, candidate)


def candidates(*counters: Counter, cursor: Cursor | None = None, until: float = 1000) -> Counts:
    return total(counted(cursor or Cursor(), counters, until)[1]).candidate


ERRORS = {"name": "500", "adds": (1, 1)}


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        pytest.param([counter((0, 100), (5, 130))], Counts(30), id="the first sample only begins"),
        pytest.param([counter((0, 100))], Counts(), id="one sample tells nothing"),
        pytest.param(
            [counter((0, 100), (5, 130), (10, 20))], Counts(50), id="a counter that fell began anew"
        ),
        pytest.param(
            [counter((0, 100), (5, 110)), counter((5, 3), **ERRORS)],
            Counts(13, 3),
            id="a series that appears at a known gateway counts from nothing",
        ),
        pytest.param(
            [counter((0, 100), (5, 110)), counter((5, 900), (10, 907), instance="gateway-2")],
            Counts(17),
            id="a gateway that appears counts from where it was first seen",
        ),
        pytest.param(
            [counter((0, 1), (5, math.nan), (10, -4), (15, math.inf), (20, 9))],
            Counts(8),
            id="what is no count is passed over",
        ),
        pytest.param(
            [counter((0, 1), (600, 500))], Counts(499), id="ten minutes without a scrape count once"
        ),
        pytest.param(
            [counter((0, 1), (10, 5), (5, 3), (10, 5))],
            Counts(4),
            id="samples out of order and twice count once",
        ),
        pytest.param(
            [
                counter((0, 0), (5, 10), name="count", adds=(1, 1)),
                counter((0, 0), (5, 7), name="le", adds=(0, -1)),
            ],
            Counts(10, 3),
            id="what was slower than a bucket's bound",
        ),
        pytest.param(
            [counter((0, 0), (5, 2)), counter((0, 0), (5, 3), name="refusals", adds=(0, 1))],
            Counts(2, 2),
            id="events that come before their requests are no more than these",
        ),
    ],
)
def test_what_counts(counters: list[Counter], expected: Counts) -> None:
    assert candidates(*counters) == expected


def test_a_clock_that_goes_back_counts_nothing_twice() -> None:
    cursor, blocks = counted(Cursor(), [counter((0, 0), (100, 50))], 100)
    assert total(blocks).candidate == Counts(50)
    cursor, blocks = counted(cursor, [counter((40, 55), (60, 60))], 60)
    assert blocks == ()
    cursor, blocks = counted(cursor, [counter((100, 50), (105, 61))], 105)
    assert total(blocks).candidate == Counts(11)


def test_a_cell_waits_until_it_is_over() -> None:
    samples = counter((0, 0), (4, 7))
    assert counted(Cursor(), [samples], CELL_SECONDS - 0.1)[1] == ()
    assert candidates(samples, until=CELL_SECONDS) == Counts(7)


def test_a_gain_across_a_change_of_weight_is_left_out() -> None:
    series = counter((0, 0), (5, 10), (10, 30), (15, 60))
    _, blocks = counted(Cursor(), [series], 15, breaks=[7])
    assert total(blocks).candidate == Counts(40)


def test_both_versions_of_all_gateways_meet_in_one_block() -> None:
    series = [
        counter((0, 0), (5, 10), arm=Arm.STABLE),
        counter((0, 0), (5, 1), arm=Arm.CANDIDATE),
        counter((1, 0), (4, 20), arm=Arm.STABLE, instance="gateway-2"),
    ]
    assert counted(Cursor(), series, 5)[1] == (Block(5, Counts(30), Counts(1)),)


def test_a_gateway_that_is_gone_for_long_is_forgotten_and_begins_anew() -> None:
    cursor, _ = counted(Cursor(), [counter((0, 5)), counter((0, 5), instance="other")], 5)
    cursor, _ = counted(cursor, [counter((4000, 9))], 4000)
    assert [scrape.instance for scrape in cursor.scrapes] == ["gateway-1"]
    assert counted(cursor, [counter((4100, 700), instance="other")], 4100)[1] == ()


@st.composite
def histories(draw: st.DrawFn) -> list[Counter]:
    """Counters of a few gateways, scraped at odd moments, some of which restart."""
    found = []
    for instance in range(draw(st.integers(1, 3))):
        times = draw(st.lists(st.floats(0, 300), min_size=1, max_size=8, unique=True))
        for arm in Arm:
            values = draw(st.lists(st.integers(0, 50), min_size=len(times), max_size=len(times)))
            samples = [Sample(t, float(v)) for t, v in zip(sorted(times), values, strict=True)]
            found.append(Counter(f"gateway-{instance}", "200", arm, samples, 1, 0))
    return found


@given(histories(), st.lists(st.floats(0, 300), max_size=5), st.randoms(use_true_random=False))
def test_looks_overlaps_and_restarts_make_no_difference(
    history: list[Counter], looks: list[float], chance: random.Random
) -> None:
    once_cursor, once = counted(Cursor(), history, 400)
    cursor, found = Cursor(), list[Block]()
    for until in [*sorted(looks), 400]:
        shuffled = chance.sample(history, len(history))
        cursor, blocks = counted(cursor, shuffled, until)
        found += blocks
        cursor = CURSOR.validate_json(CURSOR.dump_json(cursor))
        assert counted(cursor, history, until)[1] == ()
    assert tuple(found) == once
    assert cursor == once_cursor


@given(histories())
def test_every_gain_is_in_exactly_one_block(history: list[Counter]) -> None:
    gains = 0.0
    for series in history:
        values = [sample.value for sample in series.samples]
        gains += sum(b - a if b >= a else b for a, b in itertools.pairwise(values))
    both = total(counted(Cursor(), history, 400)[1])
    assert both.stable.n + both.candidate.n == gains
