"""What a detector would need that is told all shares, those before a change and those after it.

Shiryaev and Roberts' procedure on the true likelihood ratio, with a mean run length of 2 million: no
detector of that run length is much quicker. It looks after every request. Nothing is timed.
"""

import math

import numpy as np
from bench.drift.traffic import OTHER, TOPICS
from numpy.typing import NDArray

RUN_LENGTH = 2_000_000
RUNS = 300
SEED = 20_261_128
BEFORE = 2000
LONGEST = 4000


def main() -> None:
    for watched in ("all topics", "near no topic"):
        for mixed in (0.25, 0.1):
            source = np.random.default_rng(SEED)
            found = [delay(source, mixed, watched) for _ in range(RUNS)]
            print(watched, mixed, np.quantile(found, [0.5, 0.9], method="inverted_cdf"), flush=True)


def delay(source: np.random.Generator, mixed: float, watched: str) -> float:
    """Requests from the change to the alarm, in a world of its own."""
    other = source.uniform(0.02, 0.06)
    before = np.append(source.dirichlet(np.full(TOPICS, 2.0)) * (1 - other), other)
    new = np.zeros(TOPICS + 1)
    new[[OTHER, 0, 1]] = (0.6, 0.2, 0.2)
    after = (1 - mixed) * before + mixed * new
    if watched == "near no topic":
        before, after = (np.array([1 - shares[OTHER], shares[OTHER]]) for shares in (before, after))
    return _alarm(source, before, after)


def _alarm(
    source: np.random.Generator, before: NDArray[np.float64], after: NDArray[np.float64]
) -> float:
    ratios = after / before
    value = 0.0
    for ratio in ratios[source.choice(len(before), BEFORE, p=before)]:
        value = (1 + value) * ratio
    for at, ratio in enumerate(ratios[source.choice(len(after), LONGEST, p=after)]):
        value = (1 + value) * ratio
        if value >= RUN_LENGTH:
            return at + 1
    return math.inf


if __name__ == "__main__":
    main()
