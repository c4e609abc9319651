"""What is counted once: units of the tests, and openings of conversations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servingkit import version_of

from trimtab_api.routing import RoutedModel
from trimtab_serving.gateway.openings import (
    MOST_CALLERS,
    MOST_PER_KEY,
    MOST_PER_SECOND,
    MOST_PER_USER,
    Openings,
    is_opening,
)
from trimtab_serving.gateway.routes import Route
from trimtab_serving.gateway.units import CELL_SECONDS, Units
from trimtab_serving.gateway.units import MOST_PER_USER as MOST_UNITS


def route_of(salt: str = "one", /, **weights: int) -> Route:
    weights = weights or {"old": 95, "new": 5}
    versions = [version_of(name, f"sha256:{name}", weight=w) for name, w in weights.items()]
    return Route.of(RoutedModel(name="bot", salt=salt, versions=versions))


def test_a_user_is_a_unit_once_in_a_cell_of_time() -> None:
    units, route = Units(), route_of()
    asked = [0.0, 0.1, CELL_SECONDS - 0.01, CELL_SECONDS, CELL_SECONDS + 1, 7 * CELL_SECONDS]
    assert [units.is_unit(route, b"ann", now) for now in asked] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert units.is_unit(route, b"bob", 0.2)


def test_who_says_nothing_of_himself_is_a_unit_each_time() -> None:
    units = Units()
    assert all(units.is_unit(route_of(), None, 0.0) for _ in range(50))
    assert units.users == 0


def test_a_user_counts_so_often_in_one_rollout_and_again_in_the_next() -> None:
    units, route = Units(), route_of("one")
    count = sum(units.is_unit(route, b"ann", CELL_SECONDS * n) for n in range(100))
    assert count == MOST_UNITS
    units.follow({"bot": route_of("one", old=50, new=50)})
    assert not units.is_unit(route, b"ann", CELL_SECONDS * 200)
    units.follow({"bot": route_of("two")})
    assert units.is_unit(route_of("two"), b"ann", CELL_SECONDS * 201)


def test_where_nothing_is_compared_each_request_counts_and_nobody_is_remembered() -> None:
    units, alone = Units(), route_of("", old=100)
    assert all(units.is_unit(alone, b"ann", 0.0) for _ in range(50))
    assert units.users == 0


def test_invented_users_fill_no_more_than_their_room_and_those_that_stay_are_a_fair_sample() -> (
    None
):
    units, route = Units(most_users=1000), route_of()
    early = [f"early-{n}".encode() for n in range(5000)]
    late = [f"late-{n}".encode() for n in range(5000)]
    for user in (*early, *late):
        units.is_unit(route, user, 0.0)
        assert units.users <= 1000
    again = [[u for u in who if units.is_unit(route, u, CELL_SECONDS)] for who in (early, late)]
    # Of each half alike, however long ago they came: five standard deviations of 400.
    assert abs(len(again[0]) - len(again[1])) < 5 * (len(again[0]) + len(again[1])) ** 0.5
    assert len(again[0]) > 100


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 60)), max_size=200))
def test_no_cell_holds_a_user_twice_whatever_comes(asked: list[tuple[int, float]]) -> None:
    units, route = Units(), route_of()
    cells = [
        (user, int(now // CELL_SECONDS))
        for user, now in sorted(asked, key=lambda pair: pair[1])
        if units.is_unit(route, str(user).encode(), now)
    ]
    assert len(cells) == len(set(cells))


CONTENTS = [
    pytest.param("a prompt", True, id="a prompt opens"),
    pytest.param([1, 2, 3], True, id="so do tokens"),
    pytest.param([{"role": "user", "content": "a"}], True, id="a first question opens"),
    pytest.param(
        [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}],
        True,
        id="with a system prompt too",
    ),
    pytest.param(
        [{"role": "user"}, {"role": "assistant"}, {"role": "user"}], False, id="a third turn not"
    ),
    pytest.param(["odd", None, 3], True, id="what is no message is no answer"),
]


@pytest.mark.parametrize(("content", "opens"), CONTENTS)
def test_what_opens_a_conversation(content: object, opens: bool) -> None:
    assert is_opening(content) is opens


def test_a_user_and_a_key_have_their_shares_of_a_minute() -> None:
    openings = Openings()
    user = [openings.admit(b"key", b"ann", n / 10) for n in range(10)]
    assert user.count(True) == MOST_PER_USER
    key = [openings.admit(b"key", None, 1 + n / 10) for n in range(10)]
    assert key.count(True) == MOST_PER_KEY
    assert openings.admit(b"key", b"ann", 61.0)
    assert openings.admit(b"other", b"ann", 61.0)  # the same name under another key


def test_however_many_callers_there_are_a_second_has_its_limit() -> None:
    openings = Openings()
    for second in range(3):
        asked = [openings.admit(b"k", f"{second}-{n}".encode(), second + 0.5) for n in range(200)]
        assert asked.count(True) == MOST_PER_SECOND


def test_invented_callers_fill_no_more_than_their_room() -> None:
    openings = Openings()
    openings._counts = {str(n).encode(): 1 for n in range(MOST_CALLERS)}
    openings._minute = 0
    assert not openings.admit(b"k", b"one more", 1.0)
    assert openings.admit(b"k", b"one more", 61.0)
