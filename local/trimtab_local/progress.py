"""Progress lines: each step when it begins, and its seconds once it is done."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._live = out.isatty()
        self._open_line = False

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Names the step while it runs, and its seconds once it is done."""
        began = time.monotonic()
        self._out.write(f"    ...  {title}" + ("" if self._live else "\n"))
        self._out.flush()
        self._open_line = self._live
        try:
            yield
        except BaseException:
            self._finish(f" failed  {title}")
            raise
        self._finish(f"{time.monotonic() - began:6.1f}s  {title}")

    def note(self, text: str) -> None:
        """A line below a step that is still running, for one that takes minutes."""
        self._finish(f"         {text}")

    def _finish(self, line: str) -> None:
        start = "\r\x1b[K" if self._open_line else ""
        self._out.write(f"{start}{line}\n")
        self._out.flush()
        self._open_line = False
