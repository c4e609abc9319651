"""`python -m trimtab_operator replay`: what a policy of drift would have said of what Prometheus has recorded.

Needs no cluster and changes nothing.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from trimtab_api.v1alpha1.drift import Drift, DriftSignal
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.prometheus import Prometheus
from trimtab_operator.adapters.recordings import recorded
from trimtab_operator.commandline import add_credentials, credentials
from trimtab_operator.domain import replay
from trimtab_operator.domain.errors import MetricsError
from trimtab_operator.domain.inferenceservice.drift import METRIC
from trimtab_operator.domain.replayplot import picture
from trimtab_operator.domain.series import RawSeries


def main(arguments: Sequence[str]) -> int:
    """Read, replay, tell, draw; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        policy = Drift.model_validate(
            {
                "signals": given.signals.split(","),
                "requestsPerFalseAlarm": given.requests_per_false_alarm,
                "referenceRequests": given.reference_requests,
            }
        )
        series = (
            replay.recorded(json.loads(given.file.read_bytes()))
            if given.file
            else asyncio.run(_asked(given))
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError, MetricsError) as error:
        sys.stderr.write(f"nothing can be replayed: {error}\n")
        return 2
    found = [replay.replay(policy, *pair, series) for pair in replay.pairs(series)]
    if not found:
        sys.stderr.write(f"there are no series {METRIC} with model and version in it\n")
        return 1
    for each in found:
        sys.stdout.writelines(f"{line}\n" for line in replay.lines(each))
    if given.plot:
        given.plot.write_text(picture(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab_operator replay", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--file",
        type=Path,
        help=f"an answer of Prometheus's /api/v1/query to {METRIC}{{…}}[24h]",
    )
    source.add_argument("--server", help="a Prometheus, for example http://127.0.0.1:9090")
    add_credentials(parser)
    parser.add_argument("--selector", default=METRIC, help="with --server: the series")
    parser.add_argument("--hours", type=float, default=24, help="with --server: how far back")
    default = Drift()
    parser.add_argument(
        "--signals", default=",".join(default.signals), help=f"of {', '.join(DriftSignal)}"
    )
    parser.add_argument(
        "--requests-per-false-alarm", type=int, default=default.requests_per_false_alarm
    )
    parser.add_argument("--reference-requests", type=int, default=default.reference_requests)
    parser.add_argument("--plot", type=Path, help="where to draw it, as SVG")
    return parser


async def _asked(given: argparse.Namespace) -> tuple[RawSeries, ...]:
    end = SystemClock().now()
    async with aiohttp.ClientSession() as session:
        server = Prometheus(session, given.server, credentials(given))
        return await recorded(server, given.selector, end - timedelta(hours=given.hours), end)
