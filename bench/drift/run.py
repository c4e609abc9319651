"""How long until drift is called where there is none, and how soon where there is.

Topics are simulated; who judges them is the code that decides in the operator
(`trimtab_operator.domain.analysis.drift`), and beside it what others do. Nothing is timed: it needs
no quiet machine. `requirements/venv.sh bench.txt` has the peers.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.drift import detectors
from bench.drift.detectors import Detector
from bench.drift.traffic import DAY_REQUESTS, Setting, drawn

from trimtab_operator.domain.analysis.drift import THRESHOLD

RESULTS: Final = Path(__file__).parents[1] / "results" / "drift.json"
SEED: Final = 20_261_127
STRETCH: Final = 4 * DAY_REQUESTS
CHANGES_AT: Final = 5_237
OURS: Final = "trimtab, blocks of 100"
TRIMTAB: Final[Mapping[str, Detector]] = {OURS: detectors.trimtab(100)}
CHEAP: Final[Mapping[str, Detector]] = {
    "PSI above 0.2": detectors.psi,
    "ADWIN": detectors.adwin,
    "Page-Hinkley": detectors.page_hinkley,
}
DEAR: Final[Mapping[str, Detector]] = {
    "KS, Bonferroni": detectors.kolmogorov_smirnov,
    "Evidently, text content": detectors.evidently_text,
}
EVERY_TURN: Final = {"trimtab, every turn counted": detectors.trimtab(100, every_turn=True)}
SMALL: Final = {"trimtab, blocks of 20": detectors.trimtab(20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stretches", type=int, default=10, help="of 200,000 requests each")
    parser.add_argument("--delays", type=int, default=200, help="runs with a change")
    parser.add_argument("--dear", type=int, default=20, help="runs of the slow peers")
    given = parser.parse_args()
    began = time.monotonic()
    result: dict[str, Any] = {
        "seed": SEED,
        "threshold": THRESHOLD,
        "reference": detectors.REFERENCE,
        "window": detectors.WINDOW,
        "quiet": [],
        "changed": [],
        "changedAfterThreeDays": [],
    }
    for table_name, row in rows(given):
        result[table_name].append(row)
        result["seconds"] = round(time.monotonic() - began)
        print(table_name, json.dumps(row), flush=True)
        # After each row, so that what was found is kept if the rest takes too long.
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def rows(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """All settings, those first that goals are about."""
    for mixed in (0.25, 0.1):
        yield "changed", changed(given, Setting(mixed=mixed, changes_at=CHANGES_AT))
    yield "quiet", quiet(given, Setting(), {**TRIMTAB, **CHEAP})
    yield "quiet", quiet(given, Setting(swing=0.2), {**TRIMTAB, **CHEAP})
    yield "changedAfterThreeDays", known_hours(given)
    for turns in (5, 2):
        yield "quiet", quiet(given, Setting(turns=turns), {**TRIMTAB, **EVERY_TURN, **CHEAP})
        for mixed in (0.25, 0.1):
            # After as many openings as in the other settings: before, there is nothing to compare with.
            setting = Setting(mixed=mixed, turns=turns, changes_at=turns * CHANGES_AT)
            yield "changed", changed(given, setting)


def quiet(
    given: argparse.Namespace,
    setting: Setting,
    chosen: Mapping[str, Detector],
) -> dict[str, Any]:
    """Alarms where nothing changes, and over how many requests: a stretch ends with its alarm."""
    found = {name: alarms(d, setting, given.stretches, STRETCH) for name, d in chosen.items()}
    short = {name: alarms(d, setting, given.dear, 20_000) for name, d in DEAR.items()}
    return {**asdict(setting), "detectors": {**found, **short}}


def alarms(detector: Detector, setting: Setting, stretches: int, length: int) -> dict[str, int]:
    ends = [detector(drawn(_source(setting, run), setting, length)) for run in range(stretches)]
    return {
        "alarms": sum(end is not None for end in ends),
        "requests": sum(length if end is None else end for end in ends),
    }


def changed(given: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """Requests from the change to the alarm, of the runs without an earlier one."""
    runs = {**TRIMTAB, **SMALL, **CHEAP}
    found = {name: delays(detector, setting, given.delays) for name, detector in runs.items()}
    slow = {name: delays(detector, setting, given.dear) for name, detector in DEAR.items()}
    return {**asdict(setting), "detectors": {**found, **slow}}


def known_hours(given: argparse.Namespace) -> dict[str, Any]:
    """The same for 10 %, with a daily swing and three days by which to know the hours."""
    setting = Setting(swing=0.2, mixed=0.1, changes_at=3 * DAY_REQUESTS + 1_237)
    return {**asdict(setting), "detectors": {OURS: delays(TRIMTAB[OURS], setting, given.dear)}}


def delays(detector: Detector, setting: Setting, runs: int) -> dict[str, Any]:
    found, early = list[float](), 0
    for run in range(runs):
        length = setting.changes_at + 15_000
        end = detector(drawn(_source(setting, run), setting, length))
        if end is not None and end <= setting.changes_at:
            early += 1
        else:
            found.append(math.inf if end is None else end - setting.changes_at)
    quantiles = np.quantile(found, [0.5, 0.9], method="inverted_cdf") if found else [math.inf] * 2
    return {
        "runs": runs,
        "early": early,
        "delay": [None if math.isinf(q) else int(q) for q in quantiles],
    }


def _source(setting: Setting, run: int) -> np.random.Generator:
    at = [round(100 * number) for number in (setting.swing, setting.turns, setting.mixed)]
    return np.random.default_rng([SEED, *at, setting.changes_at, run])


if __name__ == "__main__":
    main()
