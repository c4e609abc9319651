"""Live progress: one line per step, redrawn on a terminal, printed on change elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FRAME_SECONDS = 0.5
# In a log, not every change of a percentage deserves a line.
LINE_SECONDS = 10


class Step:
    """A step that is under way; `say` changes what stands behind its name."""

    def __init__(self, title: str) -> None:
        """Start the clock."""
        self._title = title
        self._detail = ""
        self._began = time.monotonic()
        self._printed = ("", -float(LINE_SECONDS))
        self._live = sys.stdout.isatty()

    def say(self, detail: str) -> None:
        """Show what is happening now."""
        self._detail = detail
        self._draw()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        sys.stdout.write(f"\r\x1b[2K  {text}\n" if self._live else f"  {text}\n")
        self._draw()

    def finish(self, outcome: str) -> None:
        """Print the step's last line."""
        line = f"{'✓' if outcome == 'done' else '✗'} {self._title} ({self._seconds()}) {self._detail}".rstrip()
        sys.stdout.write(f"\r\x1b[2K{line}\n" if self._live else f"{line}\n")
        sys.stdout.flush()

    def _draw(self) -> None:
        if self._live:
            sys.stdout.write(f"\r\x1b[2K… {self._title} ({self._seconds()}) {self._detail}"[:200])
        elif self._detail not in ("", self._printed[0]) and self._is_time_for_a_line:
            sys.stdout.write(f"… {self._title} ({self._seconds()}) {self._detail}\n")
            self._printed = (self._detail, time.monotonic())
        sys.stdout.flush()

    @property
    def _is_time_for_a_line(self) -> bool:
        return time.monotonic() - self._printed[1] > LINE_SECONDS

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show a step from its beginning to its end, with a clock that moves while it waits."""
    shown, over = Step(title), threading.Event()

    def tick() -> None:
        while not over.wait(FRAME_SECONDS):
            shown.say(shown._detail)  # noqa: SLF001 - the same text with a later clock

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    outcome = "failed"
    try:
        yield shown
        outcome = "done"
    finally:
        over.set()
        clock.join()
        shown.finish(outcome)
