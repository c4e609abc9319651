"""Processes are known by pid and start time, and nothing else is ever stopped."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trimtab_local import processes
from trimtab_local.layout import MARKER
from trimtab_local.processes import Process, ProcessTable, look_up, parse_stat

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(SLEEP) as child:
        yield child
        child.kill()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("sleep", id="a plain name"),
        pytest.param("a b) R 1 (c", id="a name made to mislead"),
    ],
)
def test_state_and_start_are_found_behind_any_name(name: str) -> None:
    rest = "S " + " ".join(str(n) for n in range(4, 53))
    assert parse_stat(f"17 ({name}) {rest}") == ("S", 22)


def test_a_remembered_process_is_running(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    table = ProcessTable(tmp_path)
    table.remember("etcd", sleeper.pid, "print")
    running = table.running("etcd")
    assert running is not None
    assert (running.pid, running.fingerprint) == (sleeper.pid, "print")
    assert table.names() == ["etcd"]


def test_another_process_under_the_same_pid_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "etcd.json").write_text(
        f'{{"pid": {os.getpid()}, "started": 1, "boot": "other", "fingerprint": ""}}'
    )
    assert ProcessTable(tmp_path).running("etcd") is None


def test_stopping_spares_whoever_has_the_pid_now(sleeper: "subprocess.Popen[bytes]") -> None:
    now = look_up(sleeper.pid)
    assert now is not None
    processes.stop([Process(now.pid, now.started - 1, now.boot)], grace_seconds=0.2)
    assert sleeper.poll() is None


def test_a_file_cut_off_by_a_crash_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "etcd.json").write_text('{"pid": 1')
    assert ProcessTable(tmp_path).running("etcd") is None


def test_a_dead_child_that_nobody_collected_is_not_running() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert look_up(child.pid) is None
    child.wait()


def test_one_that_ignores_the_request_is_killed_after_its_grace() -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        victim = look_up(child.pid)
        assert victim is not None
        processes.stop([victim], grace_seconds=0.3)
        assert not processes.is_alive(victim)


def test_a_started_process_outlives_its_terminal_and_carries_the_mark(tmp_path: Path) -> None:
    child = processes.start(
        SLEEP, log=tmp_path / "log", folder=tmp_path, environment={MARKER: str(tmp_path)}
    )
    try:
        assert os.getsid(child.pid) == child.pid
        deadline = time.monotonic() + 10
        # For a blink after its start the kernel shows no environment of a new program.
        while not (found := list(processes.members(tmp_path))) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [member.pid for member in found] == [child.pid]
    finally:
        child.kill()
        child.wait()
