"""How far a figure could have come out otherwise: percentile bootstrap over the examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_SEED = 20_230_401
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


def _resampled_sums(table: Table) -> Table:
    count = len(table)
    source = np.random.default_rng(_SEED)
    per_chunk = max(1, _CHUNK // count)
    sums = []
    for start in range(0, RESAMPLES, per_chunk):
        size = (min(per_chunk, RESAMPLES - start), count)
        # How often each example is drawn, so that a resample is one matrix product.
        drawn = source.integers(0, count, size=size)
        weights = np.zeros(size, dtype=np.float64)
        np.add.at(weights, (np.arange(size[0])[:, None], drawn), 1.0)
        sums.append(weights @ table)
    return np.concatenate(sums)
