"""What a test would need that is told both rates: a yardstick for the goals.

It bets on the true pair against the nearest point of the null, in the same cells, on what the
gateway counts. Wald's test at the same level: where units are independent, nothing
sequential needs much less. Nothing is timed.
"""

import numpy as np
from bench.rollout.judges import LEVEL
from bench.rollout.run import INDEPENDENT, STICKY, TURNS, UNEQUAL, WEIGHTS, delay, tables
from bench.rollout.traffic import Table

from trimtab_operator.domain.analysis import promotion
from trimtab_operator.domain.analysis.blocks import Block, Counts

RATES = (0.05, 0.10)
RUNS = 300


def main() -> None:
    for traffic in (INDEPENDENT, *TURNS, UNEQUAL, *STICKY):
        for weight in WEIGHTS:
            worse = list(tables(traffic, weight, RATES, RUNS, 40_000))
            print(traffic.name, weight, delay(told, worse)["requests"], flush=True)
    for traffic in (INDEPENDENT, UNEQUAL):
        for weight in WEIGHTS:
            alike = list(tables(traffic, weight, (RATES[0],) * 2, RUNS, 60_000))
            print("alike", traffic.name, weight, delay(proven, alike)["requests"], flush=True)


def told(table: Table) -> int | None:
    """The cell in which the likelihood of the true rates is enough above that of the best equal ones."""
    n_s, e_s, n_c, e_c = table.T.astype(np.float64)
    low, high = RATES
    both = (low * n_s + high * n_c) / np.maximum(n_s + n_c, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        candidate = e_c * np.log(high / both) + (n_c - e_c) * np.log((1 - high) / (1 - both))
        stable = e_s * np.log(low / both) + (n_s - e_s) * np.log((1 - low) / (1 - both))
    evidence = np.cumsum(np.where((n_s > 0) & (n_c > 0), candidate + stable, 0))
    found = evidence >= -np.log(LEVEL)
    return int(found.argmax()) if found.any() else None


def proven(table: Table) -> int | None:
    """The cell in which "no worse by the margin" is proven by a bet that need not learn the rate."""
    evidence, rate = 0.0, RATES[0]
    for cell, counts in enumerate(table.tolist()):
        block = Block(0.0, Counts(*counts[:2]), Counts(*counts[2:]))
        if block.is_comparison:
            evidence += promotion.log_factor(block, rate, promotion.DEFAULT_MARGIN)
        if evidence >= -np.log(LEVEL):
            return cell
    return None


if __name__ == "__main__":
    main()
