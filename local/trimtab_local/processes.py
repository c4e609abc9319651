"""The processes of the cluster, known by pid and start time.

A pid alone is reused sooner or later; together with the start time and the boot
it names one process for good, so nothing is ever stopped by mistake.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trimtab_local.layout import MARKER

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """One process that ran: `started` is in clock ticks since `boot`."""

    pid: int
    started: int
    boot: str
    fingerprint: str = ""


def parse_stat(text: str) -> tuple[str, int]:
    """State and start time from /proc/PID/stat; the name in it may hold anything."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def look_up(pid: int, proc: Path = Path("/proc")) -> Process | None:
    """The process that has this pid now; a dead one waiting to be collected is none."""
    try:
        state, started = parse_stat((proc / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        return None
    return Process(pid, started, boot_of(proc))


def boot_of(proc: Path) -> str:
    return (proc / "sys/kernel/random/boot_id").read_text().strip()


class ProcessTable:
    """One file per component in a folder that a reboot empties."""

    def __init__(self, folder: Path, proc: Path = Path("/proc")) -> None:
        self._folder = folder
        self._proc = proc

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def recorded(self, name: str) -> Process | None:
        try:
            return Process(**json.loads(self._file(name).read_text()))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, TypeError):
            return None  # cut off by a crash: the marker in its environment finds the process

    def running(self, name: str) -> Process | None:
        record = self.recorded(name)
        if record is None:
            return None
        now = look_up(record.pid, self._proc)
        same = now and (now.started, now.boot) == (record.started, record.boot)
        return record if same else None

    def remember(self, name: str, pid: int, fingerprint: str) -> None:
        found = look_up(pid, self._proc)
        if found is None:
            return  # it died at once; whoever waits for it to be ready will say so
        self._folder.mkdir(parents=True, exist_ok=True)
        record = Process(found.pid, found.started, found.boot, fingerprint)
        staged = self._file(name).with_suffix(".new")
        staged.write_text(json.dumps(asdict(record)))
        staged.replace(self._file(name))

    def forget(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def start(
    command: Sequence[str],
    *,
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    descriptors: Iterable[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a process that outlives us: its own session, its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )


def stop(victims: Iterable[Process], grace_seconds: float) -> None:
    """Asks them all to end at once, then insists; returns when all are gone."""
    left = [victim for victim in victims if is_alive(victim)]
    for victim in left:
        ask_to_end(victim)
    left = _wait_until_gone(left, grace_seconds)
    for victim in left:
        _signal(victim, signal.SIGKILL)
    _wait_until_gone(left, grace_seconds)


def ask_to_end(process: Process) -> None:
    """Asks without waiting, so that several can put their files in order at once."""
    _signal(process, signal.SIGTERM)


def is_alive(process: Process) -> bool:
    now = look_up(process.pid)
    return now is not None and (now.started, now.boot) == (process.started, process.boot)


def _signal(victim: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if is_alive(victim):
            os.kill(victim.pid, number)


def _wait_until_gone(victims: list[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    left = victims
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        for victim in left:
            _collect(victim.pid)
        left = [victim for victim in left if is_alive(victim)]
    return left


def _collect(pid: int) -> None:
    """A child of ours stays in the table until it is waited for."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def members(home: Path, proc: Path = Path("/proc")) -> Iterator[Process]:
    """Every process that carries our mark, in the pid files or not."""
    mark = f"{MARKER}={home}".encode()
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or a kernel thread
        if mark in environment.split(b"\0"):
            found = look_up(int(entry.name), proc)
            if found is not None:
                yield found
