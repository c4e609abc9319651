"""Shares of traffic: by weight, by session, and what happens without."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servingkit import version_of

from trimtab_api.routing import RoutedModel
from trimtab_serving.gateway.routes import Route, by_preference, point_of


def route_of(model: str = "bot", salt: str = "", /, **weights: int) -> Route:
    versions = [version_of(name, f"sha256:{name}", weight=w) for name, w in weights.items()]
    return Route.of(RoutedModel(name=model, versions=versions, salt=salt))


def points_of(route: Route, count: int) -> list[float]:
    return [point_of(route, f"user-{n}".encode(), random.random) for n in range(count)]


def shares(route: Route, points: list[float]) -> dict[str, float]:
    counts = Counter(by_preference(route, point)[0].version for point in points)
    return {name: count / len(points) for name, count in counts.items()}


@pytest.mark.parametrize(
    "weights",
    [
        {"old": 95, "new": 5},
        {"old": 1, "new": 1},
        {"a": 60, "b": 30, "c": 10},
        {"old": 100, "new": 0},
    ],
    ids=str,
)
def test_requests_are_shared_by_weight(weights: dict[str, int]) -> None:
    chance = random.Random(7)  # noqa: S311 - a test's dice
    found = shares(route_of(**weights), [chance.random() for _ in range(50_000)])
    total = sum(weights.values())
    for name, weight in weights.items():
        share = weight / total
        # Five standard deviations: a false alarm in two million runs.
        slack = 5 * (share * (1 - share) / 50_000) ** 0.5
        assert found.get(name, 0) == pytest.approx(share, abs=slack + 1e-9)


def test_sessions_are_shared_by_weight_too_and_each_stays_where_it_is() -> None:
    route = route_of(old=90, new=10)
    points = points_of(route, 20_000)
    assert shares(route, points)["new"] == pytest.approx(0.1, abs=0.011)
    assert points_of(route, 20_000) == points


@pytest.mark.parametrize("names", [("old", "new"), ("a", "b")], ids=str)
def test_a_session_that_moved_to_the_new_version_stays_while_its_share_grows(
    names: tuple[str, str],
) -> None:
    old, new = names
    stayed: set[float] = set()
    for share in (5, 40, 60, 90):
        grown = route_of("bot", "rollout", **{old: 100 - share, new: share})
        points = points_of(grown, 5_000)
        there = {p for p in points if by_preference(grown, p)[0].version == new}
        assert stayed < there
        stayed = there


def test_each_rollout_draws_anew_who_comes_first() -> None:
    firsts = []
    for salt in ("", "one", "two"):
        route = route_of("bot", salt, old=90, new=10)
        found = [by_preference(route, point)[0].version for point in points_of(route, 20_000)]
        firsts.append({user for user, version in enumerate(found) if version == "new"})
    for one, other in ((0, 1), (1, 2), (0, 2)):
        both = len(firsts[one] & firsts[other])
        # A tenth of a tenth; five standard deviations of it.
        assert both == pytest.approx(200, abs=71)


def test_sessions_fall_differently_in_different_models() -> None:
    assert points_of(route_of("a", old=1), 100) != points_of(route_of("b", old=1), 100)


@given(st.floats(0, 1, exclude_max=True), st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_every_version_with_weight_is_tried_once_and_none_without(
    point: float, weights: list[int]
) -> None:
    route = route_of(**{f"v{n}": weight for n, weight in enumerate(weights)})
    order = [version.version for version in by_preference(route, point)]
    assert sorted(order) == sorted(f"v{n}" for n, weight in enumerate(weights) if weight)
