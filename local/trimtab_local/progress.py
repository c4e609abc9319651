"""Progress lines: each step when it begins, and its seconds once it is done."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_LIVE_SECONDS: Final = 0.2
_LOGGED_SECONDS: Final = 15.0


class Progress:
    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._live = out.isatty()
        self._open_line = False

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Names the step while it runs, and its seconds once it is done; what it yields tells how far it is."""
        began = time.monotonic()
        self._open(title)
        try:
            yield self._teller(title)
        except BaseException:
            self._finish(f" failed  {title}")
            raise
        self._finish(f"{time.monotonic() - began:6.1f}s  {title}")

    def _teller(self, title: str) -> Callable[[str], None]:
        """Rewrites the step's line on a terminal; elsewhere adds one now and then."""
        interval = _LIVE_SECONDS if self._live else _LOGGED_SECONDS
        due = time.monotonic() + interval

        def tell(how_far: str) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                self._open(f"{title}: {how_far}")

        return tell

    def _open(self, title: str) -> None:
        start = "\r\x1b[K" if self._open_line else ""
        self._out.write(f"{start}    ...  {title}" + ("" if self._live else "\n"))
        self._out.flush()
        self._open_line = self._live

    def note(self, text: str) -> None:
        """A line below a step that is still running, for one that takes minutes."""
        self._finish(f"         {text}")

    def _finish(self, line: str) -> None:
        start = "\r\x1b[K" if self._open_line else ""
        self._out.write(f"{start}{line}\n")
        self._out.flush()
        self._open_line = False
