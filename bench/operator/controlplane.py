"""A control plane of the bench's own: etcd and API server, empty, on free ports, gone afterwards.

There are no controllers: nothing starts pods, collects garbage or touches a Job after its creation.
So what is in the audit log was written by the system under test, and by nobody else.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from bench.operator.processes import Process, free_ports

from trimtab_local import build
from trimtab_local.layout import layout_from

TOP = Path(__file__).resolve().parents[2]
UNDER_TEST, LOAD = "under-test", "load"
START_SECONDS = 60
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """One line of the audit log: a request of the system under test that would change something."""

    verb: str
    resource: str
    name: str
    code: int


class AuditLog:
    """Writes of the system under test, in their order."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """A place to read from later."""
        return self._path.stat().st_size if self._path.exists() else 0

    def since(self, mark: int) -> Iterator[Write]:
        """What was written after the mark."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(mark)
            for line in file:
                entry = json.loads(line)
                reference = entry["objectRef"]
                part = reference.get("subresource")
                resource = reference["resource"] + (f"/{part}" if part else "")
                name = reference.get("name", "")
                yield Write(entry["verb"], resource, name, entry["responseStatus"]["code"])

    def counts(self, mark: int) -> Counter[str]:
        """How often each verb met each resource; leases are not about objects."""
        return counted(self.since(mark))


def counted(writes: Iterable[Write]) -> Counter[str]:
    """Writes by verb and resource; a refused one is counted apart, and leases not at all."""
    return Counter(
        f"{write.verb} {write.resource}" + (f" ({write.code})" if write.code >= 400 else "")
        for write in writes
        if write.resource != "leases"
    )


class ControlPlane:
    """etcd and API server on one core."""

    def __init__(self, directory: Path, core: int) -> None:
        self.directory = directory
        self.certificate = directory / "pki" / "ca.crt"
        self.audit = AuditLog(directory / "audit.log")
        etcd_port, peer_port, api_port = free_ports(3)
        self.url = f"https://127.0.0.1:{api_port}"
        self._etcd = f"http://127.0.0.1:{etcd_port}"
        self._peer = f"http://127.0.0.1:{peer_port}"
        self._core = core
        self._program = str(build.binary(layout_from(os.environ), build.KUBE))
        self._processes: list[Process] = []

    @contextmanager
    def running(self) -> Iterator["ControlPlane"]:
        """Start, prepare what every system needs, and leave nothing behind."""
        self._write_files()
        try:
            self._start("etcd", self._etcd_flags())
            self._start("kube-apiserver", self._api_server_flags())
            self._wait_until_ready()
            self._install()
            yield self
        finally:
            for process in reversed(self._processes):
                process.stop()

    def cpu_seconds(self) -> float:
        """What both have used so far."""
        return sum(process.cpu_seconds() for process in self._processes)

    def kubeconfig(self, user: str) -> Path:
        """Written to a file, with the user's token."""
        path = self.directory / f"{user}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "bench",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority": str(self.certificate),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
            "current-context": "bench",
        }
        path.write_text(json.dumps(content))
        return path

    def post(self, path: str, body: Manifest) -> None:
        """Create one object."""
        self._ask("POST", path, body)

    def _start(self, program: str, flags: Iterable[str]) -> None:
        log = self.directory / f"{program}.log"
        self._processes.append(Process([self._program, program, *flags], self._core, log))

    def _write_files(self) -> None:
        hosts = ["127.0.0.1", "localhost"]
        server = {"name": "api-server", "user": "kube-apiserver", "groups": [], "hosts": hosts}
        command = [self._program, "make-certificates", str(self.directory / "pki")]
        subprocess.run([*command, json.dumps([server])], check=True, capture_output=True)
        lines = [f'{user},{user},{user},"system:masters"' for user in (UNDER_TEST, LOAD)]
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")
        writes = ["create", "update", "patch", "delete", "deletecollection"]
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [
                {"level": "Metadata", "users": [UNDER_TEST], "verbs": writes},
                {"level": "None"},
            ],
        }
        (self.directory / "audit-policy.json").write_text(json.dumps(policy))

    def _etcd_flags(self) -> tuple[str, ...]:
        return (
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster=default={self._peer}",
            # The disk under a bench's machine is not what is measured.
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _api_server_flags(self) -> tuple[str, ...]:
        keys = self.directory / "pki"
        return (
            f"--etcd-servers={self._etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.url.rpartition(':')[2]}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--tls-cert-file={keys / 'api-server.crt'}",
            f"--tls-private-key-file={keys / 'api-server.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys / 'service-accounts.key'}",
            f"--service-account-signing-key-file={keys / 'service-accounts.key'}",
            # A token is as cheap to check as that of a service account, which is cached.
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            # Foreign pods come without service accounts: nobody makes those here.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
            f"--audit-policy-file={self.directory / 'audit-policy.json'}",
            f"--audit-log-path={self.directory / 'audit.log'}",
            "--audit-log-maxsize=4000",
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            for process in self._processes:
                process.check()
            try:
                self._ask("GET", "/readyz")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _install(self) -> None:
        definitions = [yaml.safe_load(path.read_text()) for path in (TOP / "crds").glob("*.yaml")]
        for definition in definitions:
            self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        for definition in definitions:
            self._wait_until_served(definition["spec"]["names"]["plural"])

    def _wait_until_served(self, plural: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._ask("GET", f"/apis/trimtab.dev/v1alpha1/{plural}?limit=1")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _ask(self, method: str, path: str, body: Manifest | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {LOAD}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            found: bytes = answer.read()
            return found
