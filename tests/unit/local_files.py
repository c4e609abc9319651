"""What several commands of the local cluster share: files, and taking turns."""

import io
import itertools
import threading
from pathlib import Path

import pytest

from trimtab_local.files import alone
from trimtab_local.progress import Progress


def test_a_second_command_says_that_it_waits_and_goes_on_after_the_first(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", io.StringIO()
    order: list[str] = []

    def second() -> None:
        with alone(lock, Progress(said), "image build"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with alone(lock, Progress(io.StringIO()), "image build"):
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert said.getvalue().strip() == "another image build is at work: waiting for it"


class Terminal(io.StringIO):
    """Somebody looks."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a minute later."""
    clock = itertools.count(step=60)
    monkeypatch.setattr("trimtab_local.progress.time.monotonic", lambda: next(clock))


@pytest.mark.usefixtures("minutes")
def test_a_long_step_says_in_the_log_how_far_it_is() -> None:
    said = io.StringIO()
    with Progress(said).step("build") as tell:
        tell("3 of 9 packages")
    lines = said.getvalue().splitlines()
    assert lines == ["    ...  build", "    ...  build: 3 of 9 packages", " 240.0s  build"]


def test_what_comes_in_the_same_moment_is_said_once() -> None:
    said = io.StringIO()
    with Progress(said).step("build") as tell:
        tell("3 of 9 packages")
    assert "packages" not in said.getvalue()


@pytest.mark.usefixtures("minutes")
def test_on_a_terminal_a_step_keeps_its_line() -> None:
    said = Terminal()
    with Progress(said).step("build") as tell:
        tell("3 of 9 packages")
    assert "3 of 9 packages" in said.getvalue()
    assert said.getvalue().count("\n") == 1
