"""`python -m trimtab_operator` runs the operator; `release-finalizers` is for uninstalling.

`replay` and `replay-rollout` say what a policy of drift, or of rollouts, would have said of recorded
traffic; `history` makes a page of what was decided about a service.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from trimtab_api import names
from trimtab_operator import history, replay, rolloutreplay
from trimtab_operator.adapters import visits
from trimtab_operator.adapters.lease import LeadershipLost
from trimtab_operator.handlers import process
from trimtab_operator.main import Operator, release_finalizers
from trimtab_operator.settings import SETTINGS_PATH, Settings

EXIT_LEADERSHIP_LOST: Final = 1
# They run anywhere, beside the operator or without it.
FOR_PEOPLE: Final = {
    "replay": replay.main,
    "replay-rollout": rolloutreplay.main,
    "history": history.main,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line: which reconcile it is about, and what is passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        visit = visits.current()
        line |= visit.fields if visit is not None else {}
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main() -> int:
    """Parse the command line and run."""
    if sys.argv[1:2] and (command := FOR_PEOPLE.get(sys.argv[1])) is not None:
        return command(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="trimtab_operator", description=__doc__)
    parser.add_argument("command", nargs="?", default="run", choices=["run", "release-finalizers"])
    parser.add_argument("--settings", type=Path, default=Path(SETTINGS_PATH))
    parser.add_argument("--port", type=int, default=names.PORT_OPERATOR_METRICS)
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    level = os.environ.get("TRIMTAB_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, handlers=[handler])
    process.quiet()
    try:
        settings = Settings.model_validate_json(arguments.settings.read_bytes())
    except (OSError, ValidationError) as error:
        print(f"{arguments.settings} cannot be used: {error}", file=sys.stderr)
        return 2
    if arguments.command == "release-finalizers":
        print(f"released {asyncio.run(release_finalizers(settings))} objects")
        return 0
    if settings.leader_election.enabled and not settings.leader_election.namespace:
        print(f"{arguments.settings}: leaderElection.namespace is missing", file=sys.stderr)
        return 2
    return run(Operator(settings, port=arguments.port))


def run(operator: Operator) -> int:
    """Run it; returns the exit code."""
    code = 0
    try:
        asyncio.run(operator.run())
    except* LeadershipLost:
        # It has been said, and a new process is the clean way to stand by again.
        code = EXIT_LEADERSHIP_LOST
    return code


if __name__ == "__main__":
    sys.exit(main())
