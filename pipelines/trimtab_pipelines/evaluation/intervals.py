"""How far a figure could have come out otherwise: percentile bootstrap over the examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20_230_401
_LOW, _HIGH = 2.5, 97.5
# So many numbers are drawn at once.
_CHUNK = 2_000_000

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def ratio(sums: Table) -> float:
    """The first column's sum over the second's: a mean, weighted by what the second counts."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def estimate(rows: Sequence[Sequence[float]], statistic: Callable[[Table], float]) -> Estimate:
    """A statistic of the column sums over all examples, and over examples drawn with return.

    The same rows always give the same interval.
    """
    table = np.asarray(rows, dtype=np.float64)
    drawn = [statistic(sums) for sums in _resampled_sums(table)]
    low, high = np.percentile(drawn, [_LOW, _HIGH])
    return Estimate(statistic(table.sum(axis=0)), float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """How far one model is ahead of another on the same examples, with a bound on either side.

    `deviation` is that of one example: the bootstrap's own, so that it holds for figures that are
    no means, too.
    """

    other: float
    difference: float
    low: float
    high: float
    deviation: float


def paired(
    own: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    statistic: Callable[[Table], float],
    gain: Callable[[float, float], float],
    confidence: float,
) -> Paired:
    """Each resample draws the same examples for both; each bound holds with the confidence."""
    table = np.hstack([np.asarray(own, dtype=np.float64), np.asarray(other, dtype=np.float64)])
    width = table.shape[1] // 2

    def difference(sums: Table) -> float:
        return gain(statistic(sums[:width]), statistic(sums[width:]))

    drawn = [difference(sums) for sums in _resampled_sums(table)]
    low, high = np.percentile(drawn, [100 * (1 - confidence), 100 * confidence])
    whole = table.sum(axis=0)
    return Paired(
        other=statistic(whole[width:]),
        difference=difference(whole),
        low=float(low),
        high=float(high),
        deviation=float(np.std(drawn, ddof=1) * np.sqrt(len(table))),
    )


def _resampled_sums(table: Table) -> Table:
    return _draws(len(table)) @ table


@lru_cache(maxsize=1)
def _draws(count: int) -> Table:
    """How often each resample draws each example: the same for every figure of an evaluation."""
    source = np.random.default_rng(SEED)
    per_chunk = max(1, _CHUNK // count)
    drawn = np.empty((RESAMPLES, count), dtype=np.float64)
    for start in range(0, RESAMPLES, per_chunk):
        size = (min(per_chunk, RESAMPLES - start), count)
        for row, chosen in enumerate(source.integers(0, count, size=size), start):
            drawn[row] = np.bincount(chosen, minlength=count)
    return drawn
