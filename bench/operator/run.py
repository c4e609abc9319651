"""The operator's figures beside those of two peers that do the same: stock kopf, controller-runtime.

The system under test has one core, everything else (API server, etcd, this load) another. The
systems take turns, each on a control plane that was empty before.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.operator import report
from bench.operator.figures import Figures, Size, few, many
from bench.operator.systems import GO, NAMES, build_peer_go

RESULTS = Path(__file__).resolve().parents[1] / "results" / "operator.json"
FIGURES = ("changes", "foreign", "resync", "many", "restart")


def main() -> int:
    """Measure, print and keep the figures; 1 when a goal is missed."""
    arguments = _arguments()
    if GO in arguments.systems:
        build_peer_go()
    os.sched_setaffinity(0, {arguments.load_core})
    measured = asyncio.run(_measure(arguments))
    print(report.table(measured))
    print(f"written to {arguments.output}")
    return 0 if all(met for _, _, met in report.verdicts(measured)) else 1


def _keep(arguments: argparse.Namespace, found: Mapping[str, Figures]) -> None:
    """Write what is there: a run that is ended early was not in vain."""
    measured = {name: report.completed(figures) for name, figures in found.items()}
    verdicts = report.verdicts(measured)
    result = {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "loadBefore": arguments.load_before,
        },
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "goals": [{"figure": f, "goal": goal, "met": met} for f, goal, met in verdicts],
        "systems": report.rounded(measured),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000, help="few; many are ten times these")
    parser.add_argument("--systems", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--many", nargs="+", choices=NAMES, default=list(NAMES), help="who also gets the many"
    )
    parser.add_argument(
        "--figures", nargs="*", choices=FIGURES, default=list(FIGURES), help="beside creation"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the creation of few")
    parser.add_argument("--changes", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=20, help="changes per second")
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--foreign", type=int, default=10_000, help="Secrets, and as many Pods")
    parser.add_argument("--resync-seconds", type=int, default=10)
    parser.add_argument("--core", type=int, default=0, help="core of the system under test")
    parser.add_argument("--load-core", type=int, default=1, help="core of everything else")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.load_before = os.getloadavg()[0]
    return arguments


async def _measure(arguments: argparse.Namespace) -> dict[str, Figures]:
    size = Size(
        objects=arguments.objects,
        changes=arguments.changes,
        rate=arguments.rate,
        restarts=arguments.restarts,
        foreign=arguments.foreign,
        resync_seconds=arguments.resync_seconds,
        system_core=arguments.core,
        load_core=arguments.load_core,
    )
    wanted = set(arguments.figures)
    found: dict[str, Figures] = {name: {} for name in arguments.systems}
    rounds: dict[str, list[Figures]] = {name: [] for name in arguments.systems}
    for turn in range(arguments.rounds):
        for name in arguments.systems:
            one = await few(name, size, wanted if turn == 0 else ())
            rounds[name].append(one.pop("creation"))
            rates = [each["objectsPerSecond"] for each in rounds[name]]
            found[name] |= {**one, "creation": _median(rounds[name]), "rates": rates}
            _keep(arguments, found)
            _say(f"{name}, {size.objects} objects, round {turn + 1}", rounds[name][-1])
    for name in arguments.systems:
        if wanted & {"many", "restart"} and name in arguments.many:
            found[name] |= await many(name, size, wanted)
            _keep(arguments, found)
            _say(f"{name}, {10 * size.objects} objects", found[name]["manyCreation"])
    return {name: report.completed(figures) for name, figures in found.items()}


def _median(rounds: Sequence[Figures]) -> Figures:
    """The round in the middle, as a whole: its figures belong together."""
    return sorted(rounds, key=lambda one: float(one["objectsPerSecond"]))[len(rounds) // 2]


def _say(what: str, creation: Figures) -> None:
    rate, cost = creation["objectsPerSecond"], creation["cpuMsPerObject"]
    print(f"{what}: {rate:.1f} a second, {cost:.2f} ms each", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
