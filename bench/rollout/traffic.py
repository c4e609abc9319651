"""Simulated traffic to two versions, counted as the gateway counts: a table of units per cell.

Twenty requests a second, scraped every five seconds. Users and conversations stay with the version
that chance gave them, differ in how often they meet an error, and differ in how much they ask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab_serving.gateway.units import MOST_PER_USER

CELL_REQUESTS: Final = 100
CELL_SECONDS: Final = 5
_TURN_GAP_SECONDS: Final = 15

Integers = NDArray[np.int64]
# One row per cell: units and errors of the stable version, units and errors of the candidate.
Table = Integers


@dataclass(frozen=True)
class Traffic:
    """Who asks, and how alike the requests of one of them are."""

    name: str
    # Draws who makes each of so many requests, as numbers from 0.
    who: Callable[[np.random.Generator, int], Integers] | None = None
    # The correlation of errors between two requests of the same one.
    correlation: float = 0.0
    gateways: int = 1
    # As the gateway counts: at most one request of a user in a cell, and so many in a rollout.
    most_units: int | None = MOST_PER_USER


def users(count: int, spread: float | None) -> Callable[[np.random.Generator, int], Integers]:
    """Users whose activity is log-normal with this spread, or as one over their rank."""

    def draw(source: np.random.Generator, requests: int) -> Integers:
        ranks = np.arange(1, count + 1)
        activity = 1 / ranks if spread is None else np.exp(source.normal(0, spread, count))
        return source.choice(count, requests, p=activity / activity.sum())

    return draw


def conversations(turns: float) -> Callable[[np.random.Generator, int], Integers]:
    """Conversations with a geometric number of turns, many at a time, one turn in 15 seconds."""

    def draw(source: np.random.Generator, requests: int) -> Integers:
        at_once = CELL_REQUESTS // CELL_SECONDS * _TURN_GAP_SECONDS
        slot = source.integers(0, at_once, requests)
        order = np.argsort(slot, kind="stable")
        begins = source.random(requests) < 1 / turns
        begins[np.flatnonzero(np.diff(slot[order], prepend=-1))] = True
        who = np.empty(requests, np.int64)
        who[order] = np.cumsum(begins) - 1
        return who

    return draw


def table(
    source: np.random.Generator,
    traffic: Traffic,
    requests: int,
    weight: float,
    rates: tuple[float, float],
) -> Table:
    """Counts by cell where the stable version and the candidate err at these rates."""
    if traffic.who is None:
        return _independent(source, requests, weight, rates)
    who = traffic.who(source, requests)
    count = int(who.max()) + 1
    is_candidate = source.random(count) < weight
    proneness = _proneness(source, count, rates[0], traffic.correlation)
    units = _counted(source, who, traffic)
    of, cells = who[units], units // CELL_REQUESTS
    rate = np.minimum(proneness[of] * np.where(is_candidate[of], rates[1] / rates[0], 1), 1)
    errs = source.random(len(units)) < rate
    size = requests // CELL_REQUESTS
    chosen = [~is_candidate[of], is_candidate[of]]
    columns = [c for arm in chosen for c in (arm, arm & errs)]
    return np.column_stack([np.bincount(cells[c], minlength=size) for c in columns])


def _independent(
    source: np.random.Generator, requests: int, weight: float, rates: tuple[float, float]
) -> Table:
    size = requests // CELL_REQUESTS
    candidate = source.binomial(CELL_REQUESTS, weight, size)
    stable = CELL_REQUESTS - candidate
    errors = [source.binomial(n, p) for n, p in zip((stable, candidate), rates, strict=True)]
    return np.column_stack([stable, errors[0], candidate, errors[1]])


def _proneness(
    source: np.random.Generator, count: int, rate: float, correlation: float
) -> NDArray[np.float64]:
    """Each one's own rate of errors: beta, with the mean and the correlation that are asked for."""
    if not correlation:
        return np.full(count, rate)
    strength = 1 / correlation - 1
    return source.beta(rate * strength, (1 - rate) * strength, count)


def _counted(source: np.random.Generator, who: Integers, traffic: Traffic) -> Integers:
    """Which requests are units: the first of each one in a cell, up to the limit, at each gateway."""
    if traffic.most_units is None:
        return np.arange(len(who))
    at = who * traffic.gateways + source.integers(0, traffic.gateways, len(who))
    cells = np.arange(len(who)) // CELL_REQUESTS
    _, first = np.unique(cells * (int(at.max()) + 1) + at, return_index=True)
    first.sort()
    order = np.argsort(at[first], kind="stable")
    starts = np.flatnonzero(np.diff(at[first][order], prepend=-1))
    sizes = np.diff(np.append(starts, len(first)))
    nth = np.empty(len(first), np.int64)
    nth[order] = np.arange(len(first)) - np.repeat(starts, sizes)
    return first[nth < traffic.most_units]
