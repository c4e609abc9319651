"""The systems under test: how each is started on the bench's control plane."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.operator import objects
from bench.operator.controlplane import TOP, UNDER_TEST, ControlPlane
from bench.operator.processes import Process, free_ports

HERE = Path(__file__).resolve().parent
# Images hold compiled modules; where this is set to a value, each start would compile ours.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
# Trimtab's operator runs as in a pod: the service account lies where the kubelet mounts it, which
# only this process sees.
AS_IN_A_POD = """
mount -t tmpfs tmpfs /var/run && mkdir -p /var/run/secrets/kubernetes.io && \
cp -r "$0" /var/run/secrets/kubernetes.io/serviceaccount && exec "$@"
"""
OURS, KOPF, GO = "trimtab", "kopf", "go"


@dataclass(frozen=True)
class Program:
    """What is run."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None


class System:
    """One of them: started, stopped and started again, always on the same core."""

    def __init__(self, name: str, plane: ControlPlane, core: int) -> None:
        self.name = name
        self.ready_url: str | None = None
        self._plane = plane
        self._core = core
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running one."""
        if self._process is None:
            raise RuntimeError("it is not running")
        return self._process

    def start(self, resync_seconds: int | None = None) -> None:
        """Start it; None leaves its resync as it comes."""
        program = _PROGRAMS[self.name](self._plane, resync_seconds)
        log = self._plane.directory / f"{self.name}.log"
        self.ready_url = program.ready_url
        self._process = Process(program.command, self._core, log, program.environment)

    def stop(self) -> None:
        """End it, as a rollout would."""
        if self._process is not None:
            self._process.stop()
            self._process = None


def build_peer_go() -> Path:
    """The Go peer, once per content of its folder."""
    folder = HERE / "peer-go"
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab"
    program = cache / "bench" / f"peer-go-{digest.hexdigest()[:16]}"
    if not program.exists():
        command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), "."]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "CGO_ENABLED": "0"})
    return program


def _ours(plane: ControlPlane, resync_seconds: int | None) -> Program:
    settings = plane.directory / "operator.json"
    more = {} if resync_seconds is None else {"resyncSeconds": resync_seconds}
    settings.write_text(json.dumps(objects.SETTINGS | more))
    (port,) = free_ports(1)
    command = ["-m", "trimtab_operator", "--settings", str(settings), "--port", str(port)]
    parts = (TOP, TOP / "crds", TOP / "operator")
    host, _, api_port = plane.url.removeprefix("https://").partition(":")
    pod = ("unshare", "--mount", "sh", "-c", AS_IN_A_POD, str(_service_account(plane)))
    return Program(
        (*pod, sys.executable, *command),
        {
            **COMPILED,
            "PYTHONPATH": os.pathsep.join(map(str, parts)),
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": api_port,
        },
        f"http://127.0.0.1:{port}/readyz",
    )


def _service_account(plane: ControlPlane) -> Path:
    folder = plane.directory / "serviceaccount"
    folder.mkdir(exist_ok=True)
    shutil.copy(plane.certificate, folder / "ca.crt")
    (folder / "token").write_text(UNDER_TEST)
    return folder


def _kopf(plane: ControlPlane, _resync_seconds: int | None) -> Program:
    # It has no resync to shorten.
    program = ("-m", "kopf", "run", str(HERE / "peer_kopf.py"), "--all-namespaces", "--standalone")
    return Program(
        (sys.executable, *program, "--quiet"),
        {
            **COMPILED,
            "KUBECONFIG": str(plane.kubeconfig(UNDER_TEST)),
            "BENCH_CHILDREN": str(_templates(plane)),
        },
    )


def _go(plane: ControlPlane, resync_seconds: int | None) -> Program:
    flags = [f"-resync={resync_seconds}s"] if resync_seconds is not None else []
    return Program(
        (
            str(build_peer_go()),
            f"-kubeconfig={plane.kubeconfig(UNDER_TEST)}",
            f"-children={_templates(plane)}",
            f"-lease-namespace={objects.SYSTEM_NAMESPACE}",
            *flags,
        )
    )


def _templates(plane: ControlPlane) -> Path:
    path = plane.directory / "children.json"
    path.write_text(json.dumps(objects.templates()))
    return path


_PROGRAMS: dict[str, Callable[[ControlPlane, int | None], Program]] = {
    OURS: _ours,
    KOPF: _kopf,
    GO: _go,
}
NAMES = tuple(_PROGRAMS)
