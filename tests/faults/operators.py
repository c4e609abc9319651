"""Operator processes, started again whenever they end, as a kubelet would."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.builders import Manifest
from tests.operatorkit import PYTHONPATH, ROOT
from tests.registries import free_port

# What a process says that ends itself because another one may lead; any other end is a crash.
LOST: Final = "leadership lost"
RESTARTED_AFTER_SECONDS: Final = 0.2


class Replica:
    """One operator. `offset` names a file with the seconds by which its clock is off."""

    def __init__(self, folder: Path, name: str, kubeconfig: Path, settings: Manifest) -> None:
        self._log = folder / f"{name}.log"
        self._settings = folder / f"{name}.json"
        self._settings.write_text(json.dumps(settings))
        self._offset = folder / f"{name}.offset"
        self._kubeconfig = kubeconfig
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.crashes: list[int] = []
        self.starts = 0
        self.turn_clock(0)

    def start(self) -> None:
        """Keep one running from now on."""
        self._keeper.start()

    def kill(self) -> None:
        """As a node that loses power would; another one is started."""
        with self._guard:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """As a kubelet would, for good."""
        self._over.set()
        with self._guard:
            if self._process is not None:
                self._process.terminate()
        self._keeper.join(20)
        with self._guard:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def turn_clock(self, seconds: float) -> None:
        """Its time of day is off by so much from now on."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._offset)

    @property
    def log(self) -> list[Manifest]:
        """What it said, as far as it is in lines of JSON; the rest is {"text": line}."""
        return [_parsed(line) for line in self._log.read_text().splitlines()]

    def _keep(self) -> None:
        while not self._over.is_set():
            with self._guard, self._log.open("ab") as log:
                self.starts += 1
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tests.faults.clockwork"),
                        *(str(self._settings), str(free_port()), str(self._offset)),
                    ],
                    cwd=ROOT,
                    env={
                        **os.environ,
                        "KUBECONFIG": str(self._kubeconfig),
                        "PYTHONPATH": os.pathsep.join((str(ROOT), PYTHONPATH)),
                    },
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            code = self._process.wait()
            was_killed = code == -signal.SIGKILL
            if not (was_killed or self._over.is_set() or self._has_lost()):
                self.crashes.append(code)
            self._over.wait(RESTARTED_AFTER_SECONDS)

    def _has_lost(self) -> bool:
        return any(LOST in line.get("message", "") for line in self.log[-20:])


def _parsed(line: str) -> Manifest:
    with suppress(ValueError):
        content = json.loads(line)
        if isinstance(content, dict):
            return content
    return {"text": line}
