"""Starts components in their order and waits until each is ready.

A component that runs and is what a new one would be is left alone, so that a
second `up` changes nothing and a repair touches only what is broken.
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_local import build, inside, network, processes
from trimtab_local.components import FORWARDS, Component
from trimtab_local.errors import Trouble
from trimtab_local.files import last_lines
from trimtab_local.inside import Url
from trimtab_local.layout import MARKER, Layout
from trimtab_local.processes import Process, ProcessTable
from trimtab_local.progress import Progress

_SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_SECONDS: Final = 0.1
# Generous: other work on two cores can slow a start tenfold.
_READY_SECONDS: Final = 180.0
# How long a component found running may be deaf before it is taken for hung.
_HUNG_SECONDS: Final = 20.0
_LOG_BYTES: Final = 20 * 1024**2
_SHIM: Final = "containerd-shim-runc-v2"


@dataclass
class _Waiting:
    """A component on its way: when it began, and whether it was found running."""

    began: float
    found_running: bool


class Runtime:
    """The processes of one cluster."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        self._layout = layout
        self._progress = progress
        self.table = ProcessTable(layout.processes)

    @property
    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's: a component must not depend on who started it."""
        programs = build.binary(self._layout, "containerd").parent
        return {
            "HOME": str(self._layout.home),
            "PATH": f"{programs}:{_SYSTEM_FOLDERS}",
            MARKER: str(self._layout.home),
        }

    def is_current(self, component: Component) -> bool:
        running = self.table.running(component.name)
        return running is not None and running.fingerprint == component.fingerprint(
            self._environment
        )

    def is_ready(self, component: Component) -> bool:
        if self.table.running(component.name) is None:
            return False
        match component.ready:
            case None:
                return True
            case Url() as url:
                return inside.is_healthy(self._layout.network, url)
            case Path() as socket_path:
                return inside.accepts(socket_path)

    def bring_up(self, wanted: Sequence[Component]) -> None:
        """Starts them all, each as soon as what it needs is ready."""
        ready: set[str] = set()
        waiting: dict[str, _Waiting] = {}
        while len(ready) < len(wanted):
            for component in wanted:
                if component.name in ready or not ready.issuperset(component.after):
                    continue
                if component.name not in waiting:
                    waiting[component.name] = self._begin(component)
                if self._check(component, waiting[component.name]):
                    ready.add(component.name)
            time.sleep(_POLL_SECONDS)

    def _begin(self, component: Component) -> _Waiting:
        if self.is_current(component):
            return _Waiting(time.monotonic(), found_running=True)
        old = self.table.running(component.name)
        if old:
            processes.stop([old], component.grace_seconds)
        self._start(component)
        return _Waiting(time.monotonic(), found_running=False)

    def _start(self, component: Component) -> None:
        environment = component.environment(self._environment)
        log = self.log_of(component.name)
        _rotate(log)
        child = processes.start(
            network.entered(self._layout, component.command),
            log=log,
            folder=self._layout.home,
            environment=environment,
        )
        self.table.remember(component.name, child.pid, component.fingerprint(self._environment))

    def _check(self, component: Component, state: _Waiting) -> bool:
        seconds = time.monotonic() - state.began
        if self.is_ready(component):
            if not state.found_running:
                self._progress.note(f"{seconds:5.1f}s  {component.name}")
            return True
        running = self.table.running(component.name)
        if state.found_running and (running is None or seconds > _HUNG_SECONDS):
            self._progress.note(f"{component.name} does not answer and is started again")
            if running:
                processes.stop([running], component.grace_seconds)
            self._start(component)
            state.began, state.found_running = time.monotonic(), False
        elif running is None and seconds > 1:
            raise self._ended(component)
        elif seconds > _READY_SECONDS:
            raise Trouble(
                f"{component.name} runs but was not ready after {_READY_SECONDS:.0f} seconds",
                f"see `trimtab-local logs {component.name}`, and whether the machine is very busy",
            )
        return False

    def _ended(self, component: Component) -> Trouble:
        reason = (last_lines(self.log_of(component.name), 1) or ["its log is empty"])[0]
        return Trouble(
            f"{component.name} ended right after its start ({reason.strip()[:300]})",
            f"see `trimtab-local logs {component.name}`; if its files are damaged, "
            "`trimtab-local reset` starts afresh",
        )

    def log_of(self, name: str) -> Path:
        return self._layout.logs / f"{name}.log"

    def forwards_run(self) -> bool:
        running = self.table.running(FORWARDS)
        return running is not None and running.fingerprint == self._forwards_fingerprint()

    def _forwards_fingerprint(self) -> str:
        return f"{build.binary(self._layout, 'forward')} {self._layout.ports}"

    def start_forwards(self, listeners: Sequence[socket.socket]) -> None:
        """Hands the listening sockets over; they stay the host's inside the namespace."""
        program = str(build.binary(self._layout, "forward"))
        arguments = network.forwarder_arguments(listeners, self._layout.ports)
        child = processes.start(
            network.entered(self._layout, [program, *arguments]),
            log=self.log_of(FORWARDS),
            folder=self._layout.home,
            environment=self._environment,
            descriptors=[listener.fileno() for listener in listeners],
        )
        self.table.remember(FORWARDS, child.pid, self._forwards_fingerprint())
        for listener in listeners:
            listener.close()

    def stop_forwards(self) -> None:
        running = self.table.running(FORWARDS)
        if running:
            processes.stop([running], grace_seconds=2)

    def strays(self) -> list[Process]:
        """Ours, started by us and in no pid file: a crash came between the two.

        The shims are containerd's to find again, and what a component started
        itself (it is then in that one's session) is that component's.
        """
        known = {
            process.pid for name in self.table.names() if (process := self.table.running(name))
        }
        return [
            member
            for member in processes.members(self._layout.home)
            if member.pid not in known and _leads_a_session(member.pid) and not _is_shim(member.pid)
        ]

    def stop_all(self, wanted: Sequence[Component]) -> None:
        """Ends everything in the reverse of the starting order, etcd last."""
        for component in reversed(wanted):
            if component.name in ("etcd", "api-server"):
                continue
            running = self.table.running(component.name)
            if running:
                processes.ask_to_end(running)
        for component in reversed(wanted):
            running = self.table.running(component.name)
            if running:
                processes.stop([running], component.grace_seconds)
            self.table.forget(component.name)
        self.stop_forwards()
        self.table.forget(FORWARDS)
        processes.stop(list(processes.members(self._layout.home)), grace_seconds=1)


def _leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _is_shim(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == _SHIM
    except FileNotFoundError:
        return False


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
