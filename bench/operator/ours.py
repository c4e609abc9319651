"""Trimtab's operator with a resync every few seconds: ten minutes are too long to wait for."""

import os
import sys
from datetime import timedelta

from trimtab_operator import __main__ as program
from trimtab_operator import main

SECONDS = float(os.environ["BENCH_RESYNC_SECONDS"])
main.RESYNC = timedelta(seconds=SECONDS)  # type: ignore[misc] # final for everybody else
main.RESYNC_SPREAD = timedelta(seconds=SECONDS / 4)  # type: ignore[misc] # as above

sys.exit(program.main())
