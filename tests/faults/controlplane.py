"""An API server of the bench's own: etcd, kube-apiserver and the controllers, with no node.

Real admission, real authorisation, real Jobs, Deployments and garbage collection, on loopback ports
and in a temporary folder. It shares nothing with the local cluster but the programs.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import pytest
from kubernetes import client, config, utils
from tests.builders import Manifest
from tests.registries import free_port

from trimtab_local import build, render
from trimtab_local.identities import Certificate
from trimtab_local.layout import layout_from

ISSUER = "https://kubernetes.default.svc"
# No nodes, no load balancers, no certificates: only what turns our children into pods and away.
CONTROLLERS = (
    "job-controller",
    "deployment-controller",
    "replicaset-controller",
    "garbage-collector-controller",
    "persistentvolumeclaim-protection-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "resourcequota-controller",
)
CERTIFICATES = (
    Certificate("api-server", "kube-apiserver", hosts=("127.0.0.1", "localhost")),
    Certificate("admin", "bench:admin", ("system:masters",)),
    Certificate("controller-manager", "system:kube-controller-manager"),
)
UP_WITHIN_SECONDS = 90.0


@dataclass(frozen=True)
class ControlPlane:
    """Where it is, and what a client needs to be believed."""

    folder: Path
    address: str

    @property
    def kubeconfig(self) -> Path:
        """Everything is allowed to whoever has this file."""
        return self.folder / "admin.kubeconfig"

    @property
    def authority(self) -> Path:
        """Who signs for the API server."""
        return self.folder / "certificates" / "ca.crt"

    def write_kubeconfig(self, name: str) -> Path:
        """A kubeconfig for one of the certificates."""
        held = self.folder / "certificates"
        parts = [(held / part).read_bytes() for part in ("ca.crt", f"{name}.crt", f"{name}.key")]
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(render.kubeconfig(self.address, *parts))
        return path

    def install(self, manifests: Sequence[Manifest]) -> None:
        """Create what is not there yet."""
        connection = config.new_client_from_config(str(self.kubeconfig))
        try:
            for manifest in manifests:
                with suppress(utils.FailToCreateError):
                    utils.create_from_dict(connection, manifest)
        finally:
            connection.close()

    def token(self, namespace: str, account: str) -> str:
        """What a pod of this account would find mounted."""
        connection = config.new_client_from_config(str(self.kubeconfig))
        try:
            asked = {"spec": {"expirationSeconds": 4 * 3600}}
            made = client.CoreV1Api(connection).create_namespaced_service_account_token(
                account, namespace, asked
            )
            return str(made.status.token)
        finally:
            connection.close()


@contextmanager
def control_plane(folder: Path, also: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Up, until the block ends; `also` names further controllers."""
    program = build.binary(layout_from(os.environ), build.KUBE)
    if not program.exists():
        pytest.fail("the cluster's programs are not built: make cluster-up")
    plane = ControlPlane(folder, f"https://127.0.0.1:{free_port()}")
    store = f"http://127.0.0.1:{free_port()}"
    _make_certificates(program, folder)
    for name in ("admin", "controller-manager"):
        plane.write_kubeconfig(name)
    commands = {
        "etcd": _etcd(folder, store),
        "kube-apiserver": _api_server(plane, store),
        "kube-controller-manager": _controllers(plane, (*CONTROLLERS, *also)),
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, flags in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                command = [str(program), name, *flags]
                running.append(subprocess.Popen(command, stdout=log, stderr=log))
            if name == "etcd":
                _wait(f"{store}/health", folder / "etcd.log")
            if name == "kube-apiserver":
                _wait(f"{plane.address}/readyz", folder / "kube-apiserver.log")
        yield plane
    finally:
        # Nothing of it is ever read again.
        for process in reversed(running):
            process.kill()
            process.wait()


def _make_certificates(program: Path, folder: Path) -> None:
    requests = json.dumps([asdict(certificate) for certificate in CERTIFICATES])
    command = [str(program), "make-certificates", str(folder / "certificates"), requests]
    subprocess.run(command, check=True, capture_output=True)


def _etcd(folder: Path, address: str) -> list[str]:
    peer = f"http://127.0.0.1:{free_port()}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={address}",
        f"--advertise-client-urls={address}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(plane: ControlPlane, store: str) -> list[str]:
    held = plane.folder / "certificates"
    return [
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={plane.address.rpartition(':')[2]}",
        f"--etcd-servers={store}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        f"--client-ca-file={held / 'ca.crt'}",
        f"--tls-cert-file={held / 'api-server.crt'}",
        f"--tls-private-key-file={held / 'api-server.key'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={held / 'service-accounts.key'}",
        f"--service-account-signing-key-file={held / 'service-accounts.key'}",
        # The operator's own budget of requests is no subject of these tests.
        "--enable-priority-and-fairness=false",
        # It would reconcile an Endpoints object for an address that is no address.
        "--endpoint-reconciler-type=none",
        "--profiling=false",
        "--shutdown-delay-duration=0s",
    ]


def _controllers(plane: ControlPlane, controllers: Sequence[str]) -> list[str]:
    held = plane.folder / "certificates"
    return [
        f"--kubeconfig={plane.folder / 'controller-manager.kubeconfig'}",
        f"--controllers={','.join(controllers)}",
        f"--service-account-private-key-file={held / 'service-accounts.key'}",
        f"--root-ca-file={held / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        f"--secure-port={free_port()}",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            # Only whether it answers counts; who it is, is known from its port.
            if httpx.get(url, verify=False, timeout=2).status_code == 200:  # noqa: S501
                return
        time.sleep(0.1)
    pytest.fail(f"{url} did not come up:\n{log.read_text()[-2000:]}")
