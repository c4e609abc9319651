"""From the first bad answer of a new version to the last request that was sent to it, round after round.

A version that answers without a word gets half of the requests; Prometheus scrapes, the operator
decides, the gateways follow. What is measured is read off where it happens: the engine notes when
it is asked, Prometheus when it has answered, a watch of the bench's own when status and table say it.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.rollback.load import Load
from bench.rollback.objects import SERVICE, Manifest
from bench.rollback.world import (
    CONFIG_MAPS,
    SERVICES,
    Cores,
    World,
    running,
)

from trimtab_operator.domain.analysis.counters import CELL_SECONDS

RESULTS: Final = Path(__file__).resolve().parents[1] / "results" / "rollback.json"
FLIP_GOAL_MS: Final = 250
# After a rollback, for streams that go on where they began and for stragglers.
SETTLE_SECONDS: Final = 2.0


@dataclass
class Flip:
    """What a watch has heard of one rollback."""

    version: str
    in_status: float = 0.0
    in_table: float = 0.0
    is_done: bool = False

    def status_seen(self, moment: float, service: Manifest) -> None:
        """An event of the watch on the service."""
        for model in service.get("status", {}).get("models", []):
            last = model.get("lastRollback") or {}
            if last.get("from") == self.version:
                self.in_status = self.in_status or moment
                self.is_done = "decision" in last

    def table_seen(self, moment: float, config_map: Manifest) -> None:
        """An event of the watch on the routing table."""
        models = json.loads(config_map["data"]["table.json"])["models"]
        versions = [v for m in models for v in m["versions"] if v["version"] == self.version]
        has_requests = any(v.get("weight", 0) > 0 for v in versions)
        if self.in_status and not has_requests:
            self.in_table = self.in_table or moment


def main() -> int:
    """Measure, print and keep the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rate", type=float, default=90, help="requests a second, all gateways")
    parser.add_argument("--scrape-seconds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0, help="core of operator and gateways")
    parser.add_argument("--rest-core", type=int, default=1, help="core of everything else")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.rest_core})
    load_before = os.getloadavg()[0]
    result = asyncio.run(_measure(arguments))
    result["machine"]["loadBefore"] = round(load_before, 2)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=1))
    return 0 if result["met"] else 1


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    cores = Cores(arguments.core, arguments.rest_core)
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), cores, arguments.scrape_seconds) as world:
            load = Load(world.urls, arguments.rate)
            rounds = []
            async with load.running():
                await world.until(lambda: len(load.answers_at) == len(world.urls))
                load.failures.clear()  # from before the first table
                for number in range(1, arguments.rounds + 1):
                    rounds.append(await _round(world, f"bot-{number}"))
                    print(f"{number}: {rounds[-1]}", file=sys.stderr, flush=True)
    return _result(arguments, rounds, load)


async def _round(world: World, version: str) -> dict[str, float]:
    """One bad version, from its first share to its last request; milliseconds."""
    flip, engine = Flip(version), world.engine
    watches = (
        world.api.watching(SERVICES, SERVICE, flip.status_seen),
        world.api.watching(CONFIG_MAPS, f"{SERVICE}-routing", flip.table_seen),
    )
    async with watches[0], watches[1]:
        await world.release(version, bad=True)
        await world.until(lambda: flip.is_done and flip.in_table)
    await asyncio.sleep(SETTLE_SECONDS)
    decided, asked = world.prometheus.answered(before=flip.in_status)
    rests_on = await world.prometheus.scraped(asked // CELL_SECONDS * CELL_SECONDS)
    began, last = engine.first_bad_answer[version], engine.asked_last[version]
    spans = {
        "scrapeMs": rests_on - began,
        "decisionMs": decided - rests_on,
        # Where callers were slow, the last request may have come before.
        "flipMs": max(last - decided, 0.0),
        "statusAfterDecisionMs": flip.in_status - decided,
        "tableAfterDecisionMs": flip.in_table - decided,
        "firstBadAnswerToLastRequestMs": last - began,
        "firstBadAnswerToLastAnswerMs": engine.last_bad_answer[version] - began,
    }
    return {name: round(seconds * 1000, 1) for name, seconds in spans.items()}


def _result(
    arguments: argparse.Namespace, rounds: Sequence[dict[str, float]], load: Load
) -> dict[str, Any]:
    figures = {name: _quantiles([each[name] for each in rounds]) for name in rounds[0]}
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "rollbacks": len(rounds),
        "gateways": 3,
        "requestsPerSecond": arguments.rate,
        "scrapeSeconds": arguments.scrape_seconds,
        "goal": {"flipP99Ms": FLIP_GOAL_MS, "failedRequests": 0},
        "met": figures["flipMs"]["p99"] <= FLIP_GOAL_MS and not load.failures,
        "requests": load.requests,
        "streams": load.streams,
        "failedRequests": len(load.failures),
        "failures": load.failures[:10],
        **figures,
        "rounds": list(rounds),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """The nearest ranks; the 99th percentile of fewer than 100 is the highest."""
    ordered = sorted(values)
    rank = {q: ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] for q in (90, 99)}
    return {
        "p50": round(statistics.median(ordered), 1),
        "p90": rank[90],
        "p99": rank[99],
        "max": ordered[-1],
    }


if __name__ == "__main__":
    sys.exit(main())
