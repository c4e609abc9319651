"""Processes on cores of their own, and what they cost according to the kernel."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [found.getsockname()[1] for found in sockets]


class Process:
    """A program pinned to one core before it begins: Go counts the cores at its start."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads."""
        self.check()
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_mib(self) -> float:
        """Resident memory now."""
        self.check()
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def check(self) -> None:
        """Raise when it has ended by itself: no figure of a dead program counts."""
        code = self._process.poll()
        if code is not None:
            last = self.log.read_text(errors="replace")[-2000:]
            message = f"{self.log.stem} has ended with code {code}:\n{last}"
            raise RuntimeError(message)

    def stop(self, seconds: float = 20) -> None:
        """Ask it to end, and see to it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
