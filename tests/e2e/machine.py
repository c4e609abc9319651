"""The machine below the local cluster: what a test breaks there, and mends.

Kubernetes has no API for a node that loses its power, a registry that is away, or an engine that
reads other files than its agent has written. Nothing here goes past what the test itself made but
for the components that it ends, and `up` starts those again.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.world import Object, statuses

from trimtab_local import processes
from trimtab_local.layout import Layout
from trimtab_local.processes import ProcessTable

ADAPTERS = "/adapters"
LIE = ".other"


@dataclass(frozen=True)
class Machine:
    """The one node, by its processes and folders."""

    layout: Layout

    @contextmanager
    def without(self, component: str) -> Iterator[None]:
        """A component of the cluster is killed, and started again when the context ends."""
        victim = ProcessTable(self.layout.processes).running(component)
        assert victim is not None, f"{component} does not run"
        os.kill(victim.pid, signal.SIGKILL)
        while processes.is_alive(victim):
            time.sleep(0.02)
        try:
            yield
        finally:
            _run(sys.executable, "-m", "trimtab_local", "up")

    def kill(self, pod: Object) -> None:
        """End what runs in the pod at once; only the kubelet could tell anybody."""
        for status in statuses(pod):
            if "running" in status["state"]:
                self._ctr("tasks", "kill", "--all", "--signal", "SIGKILL", _container(status))

    @contextmanager
    def also_called(self, images: Sequence[str], tag: str, other: str) -> Iterator[None]:
        """Images of the node have another tag, too, while the context lasts."""
        for image in images:
            self._ctr("images", "tag", "--force", f"{image}:{tag}", f"{image}:{other}")
        try:
            yield
        finally:
            self._ctr("images", "remove", *(f"{image}:{other}" for image in images))

    @contextmanager
    def reads_instead(self, pod: Object, told: str, instead: str) -> Iterator[None]:
        """In the engine's container alone, the adapter `told` has the files of `instead` (digests).

        Its agent sees the truth, and so does whoever looks at the volume.
        """
        uid = pod["metadata"]["uid"]
        volumes = self.layout.kubelet / "pods" / uid / "volumes" / "kubernetes.io~empty-dir"
        truth = volumes / ADAPTERS.strip("/")
        for name in (told, instead):
            shutil.copytree(truth / _hex(instead), truth / LIE / _hex(name))
        engine = next(s for s in statuses(pod) if s["name"] == "engine")
        self._inside(engine, "mount", "--bind", f"{ADAPTERS}/{LIE}", ADAPTERS)
        try:
            yield
        finally:
            # Lazily: vLLM keeps files that it has read open for a while.
            self._inside(engine, "umount", "--lazy", ADAPTERS)
            shutil.rmtree(truth / LIE)

    def _inside(self, status: Object, *command: str) -> None:
        """Run a program of the container's image with its view of files, and the rights of this test."""
        listed = self._ctr("tasks", "list").splitlines()
        pid = next(line.split()[1] for line in listed if line.startswith(_container(status)))
        _run("nsenter", "--target", pid, "--mount", "--pid", "--", *command)

    def _ctr(self, *arguments: str) -> str:
        address = str(self.layout.containerd_socket)
        ctr = str(self.layout.programs / "ctr")
        return _run(ctr, "--address", address, "--namespace", "k8s.io", *arguments)

    def blob(self, digest: str) -> Path:
        """A blob as the registry keeps it."""
        name = _hex(digest)
        blobs = self.layout.registry / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / name[:2] / name / "data"


def _container(status: Object) -> str:
    found: str = status["containerID"].rpartition("//")[2]
    return found


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
