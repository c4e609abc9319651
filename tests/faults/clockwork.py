"""The operator's own program, but that its time of day is off by the seconds that a file holds.

python -m tests.faults.clockwork SETTINGS PORT OFFSET-FILE
"""

import logging
import sys
from datetime import datetime, timedelta
from pathlib import Path

from trimtab_operator.__main__ import JsonLines, run
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.handlers import process
from trimtab_operator.main import Operator
from trimtab_operator.settings import Settings


class WrongClock(SystemClock):
    """A clock that somebody turns while it is looked at."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset

    def now(self) -> datetime:
        """What it shows."""
        return super().now() + timedelta(seconds=float(self._offset.read_text()))


def main() -> int:
    """Run until SIGTERM."""
    settings, port, offset = sys.argv[1:]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    process.quiet()
    read = Settings.model_validate_json(Path(settings).read_bytes())
    return run(Operator(read, port=int(port), clock=WrongClock(Path(offset))))


if __name__ == "__main__":
    sys.exit(main())
