"""How often a rollout is taken back or let through wrongly, and how soon rightly.

Counts are simulated; who judges them is the code that decides in the operator
(`trimtab_operator.domain.analysis`), and beside it what others do. Nothing is timed: it needs no
quiet machine.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.rollout import judges
from bench.rollout.judges import Judge
from bench.rollout.traffic import (
    CELL_REQUESTS,
    CELL_SECONDS,
    Table,
    Traffic,
    conversations,
    table,
    users,
)

from trimtab_serving.gateway.units import MOST_PER_USER

RESULTS: Final = Path(__file__).parents[1] / "results" / "rollout.json"
SEED: Final = 20_261_127
WEIGHTS: Final = (0.5, 0.1)

INDEPENDENT: Final = Traffic("independent requests")
TURNS: Final = [
    Traffic(f"conversations of {turns} turns, correlation {rho}", conversations(turns), rho)
    for turns, rho in ((2, 0.1), (5, 0.1), (5, 0.3))
]
UNEQUAL: Final = Traffic("1,000 unequal users", users(1000, 1.0), 0.05)
STICKY: Final = [
    Traffic("the same at three gateways", users(1000, 1.0), 0.05, gateways=3),
    Traffic("1,000 users, activity 1/rank", users(1000, None), 0.05),
    Traffic("1,000 unequal users, every request counted", users(1000, 1.0), 0.05, most_units=None),
]
PEERS: Final[Mapping[str, Judge]] = {
    "naive z-test": judges.naive_z,
    "above 7.5 % in a minute, once": judges.threshold(0.075, 1),
    "above 7.5 % in a minute, four times": judges.threshold(0.075, 4),
}
JUDGES: Final[Mapping[str, Judge]] = {"trimtab": judges.rolls_back, **PEERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="null runs of independent requests")
    parser.add_argument("--sticky-runs", type=int, default=2000, help="and of all others")
    parser.add_argument("--delays", type=int, default=500, help="runs with a worse candidate")
    given = parser.parse_args()
    began = time.monotonic()
    result: dict[str, Any] = {
        "seed": SEED,
        "level": judges.LEVEL,
        "cellSeconds": CELL_SECONDS,
        "requestsPerSecond": CELL_REQUESTS / CELL_SECONDS,
        "unitsPerUser": MOST_PER_USER,
        "rollback": [],
        "rollbackLowRate": [],
        "rollbackLate": [],
        "promotion": [],
    }
    for table_name, row in rows(given):
        result[table_name].append(row)
        result["seconds"] = round(time.monotonic() - began)
        print(table_name, json.dumps(row), flush=True)
        # After each row, so that what was found is kept if the rest takes too long.
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def rows(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """All settings, those first that goals are about."""
    for weight in WEIGHTS:
        yield "rollback", rollback_row(INDEPENDENT, weight, given.runs, given.delays)
    for weight in WEIGHTS:
        yield "promotion", promotion_row(INDEPENDENT, weight, given.runs, given.delays)
    for weight in WEIGHTS:
        yield "rollbackLate", late_row(weight, given.delays)
    for traffic in (UNEQUAL, *TURNS, *STICKY):
        for weight in WEIGHTS:
            yield "rollback", rollback_row(traffic, weight, given.sticky_runs, given.delays)
    for weight in WEIGHTS:
        yield "promotion", promotion_row(UNEQUAL, weight, given.sticky_runs, given.delays)
    yield "rollbackLowRate", low_rate_row(given.runs, given.delays)


def rollback_row(traffic: Traffic, weight: float, runs: int, delays: int) -> dict[str, Any]:
    """False alarms in 20,000 requests at 5 %, and how soon 10 % against 5 % are found."""
    null = list(tables(traffic, weight, (0.05, 0.05), runs, 20_000))
    worse = list(tables(traffic, weight, (0.05, 0.10), delays, 40_000))
    chosen = JUDGES if traffic is INDEPENDENT else {"trimtab": judges.rolls_back}
    return {
        "traffic": traffic.name,
        "weight": weight,
        "runs": runs,
        "judges": {
            name: {"falseAlarms": share(judge, null), **delay(judge, worse)}
            for name, judge in chosen.items()
        },
    }


def low_rate_row(runs: int, delays: int) -> dict[str, Any]:
    """The same at a canary of 10 % where one request in a hundred errs, and three of the worse."""
    null = list(tables(INDEPENDENT, 0.1, (0.01, 0.01), runs, 20_000))
    worse = list(tables(INDEPENDENT, 0.1, (0.01, 0.03), delays, 40_000))
    return {
        "traffic": INDEPENDENT.name,
        "weight": 0.1,
        "runs": runs,
        "judges": {
            name: {"falseAlarms": share(judge, null), **delay(judge, worse)}
            for name, judge in JUDGES.items()
        },
    }


def late_row(weight: float, delays: int) -> dict[str, Any]:
    """The same where the candidate was as good as the stable version for 10,000 requests first."""
    fine = tables(INDEPENDENT, weight, (0.05, 0.05), delays, 10_000)
    worse = tables(INDEPENDENT, weight, (0.05, 0.10), delays, 40_000)
    runs = [np.concatenate(pair) for pair in zip(fine, worse, strict=True)]
    since = 10_000 // CELL_REQUESTS
    kept = [one for one in runs if judges.rolls_back(one[:since]) is None]
    return {"weight": weight, "runs": len(kept), **delay(judges.rolls_back, kept, since)}


def promotion_row(traffic: Traffic, weight: float, runs: int, delays: int) -> dict[str, Any]:
    """How soon two that are alike at 5 % are let through, and how often one at the margin is."""
    alike = list(tables(traffic, weight, (0.05, 0.05), delays, 60_000))
    at_margin = tables(traffic, weight, (0.05, 0.075), runs, 20_000)
    return {
        "traffic": traffic.name,
        "weight": weight,
        "runs": runs,
        "wrong": share(judges.promotes, at_margin),
        **delay(judges.promotes, alike),
    }


def tables(
    traffic: Traffic, weight: float, rates: tuple[float, float], runs: int, requests: int
) -> Iterator[Table]:
    """The runs of one setting; the same whatever else is run."""
    name = int.from_bytes(traffic.name.encode()[-6:])
    at = [round(1000 * number) for number in (weight, *rates)]
    source = np.random.default_rng([SEED, name, *at, requests])
    for _ in range(runs):
        yield table(source, traffic, requests, weight, rates).astype(np.int32)


def share(judge: Judge, runs: Iterable[Table]) -> float:
    """In how many of the runs it acts at all."""
    return round(float(np.mean([judge(one) is not None for one in runs])), 4)


def delay(judge: Judge, runs: list[Table], since: int = 0) -> dict[str, Any]:
    """Requests, and seconds at 20 a second, from a cell until it acts; None where most never see it act."""
    cells = [math.inf if (at := judge(one)) is None else at + 1 - since for one in runs]
    quantiles = np.quantile(cells, [0.5, 0.9], method="inverted_cdf")
    return {
        name: [None if math.isinf(q) else int(q * of_a_cell) for q in quantiles]
        for name, of_a_cell in (("requests", CELL_REQUESTS), ("seconds", CELL_SECONDS))
    }


if __name__ == "__main__":
    main()
