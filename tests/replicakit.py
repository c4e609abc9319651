"""Several operators as local processes, each under an account of its own, and what they wrote.

The API server's audit log tells their writes apart by account; a `Wire` between one of them and the
API server can be cut in the way that hurts most: nothing is refused, nothing is answered.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.operatorkit import OperatorProcess, Server, eventually

from trimtab_local.layout import layout_from

LEASE = "trimtab-operator"
AUDIT_LOG = layout_from(os.environ).audit_log


class Wire:
    """A loopback port that leads to the API server until it is cut."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._target = (str(parts.hostname), int(parts.port or 443))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_cut = threading.Event()
        self._ends: list[socket.socket] = []
        self.address = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on every byte is lost, of connections old and new."""
        self._is_cut.set()

    def close(self) -> None:
        """End all connections."""
        self.cut()
        for end in (self._listener, *self._ends):
            # A thread that waits for bytes wakes by a shutdown, not by a close.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                if self._is_cut.is_set():
                    continue
                far = socket.create_connection(self._target)
                self._ends.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                if not self._is_cut.is_set():
                    sink.sendall(received)
            if not self._is_cut.is_set():
                sink.shutdown(socket.SHUT_WR)


class Replica(OperatorProcess):
    """One of several operators for one namespace."""

    def __init__(self, server: Server, folder: Path, name: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.account = _account(server, name)
        self.wire = Wire(server.connection.configuration.host)
        super().__init__(
            server,
            folder,
            port,
            registry="127.0.0.1:9/trimtab",
            kubeconfig=_kubeconfig(server, folder, name, self.wire.address),
            leaderElection={"namespace": server.namespace, "lease": LEASE},
        )

    @property
    def leads(self) -> bool:
        """What it says of itself."""
        return self.metric("trimtab_operator_leader") == 1


@contextmanager
def pair(server: Server, folder: Path) -> Iterator[tuple[Replica, Replica]]:
    """A leader and a standby; whatever is left of them ends."""
    replicas = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        replicas.append(Replica(server, folder / name, name))
    first, second = replicas
    try:
        first.start()
        eventually(lambda: first.leads, what="the only replica does not lead")
        second.start()
        yield first, second
    finally:
        for replica in replicas:
            replica.kill()
            replica.wire.close()


def writes(replica: Replica, since: datetime) -> list[str]:
    """What the API server has got from a replica since then, except for its lease."""
    return [
        f"{entry['verb']} {entry['objectRef'].get('resource')}/{entry['objectRef'].get('name')}"
        for entry in _audited(replica, since)
        if entry["objectRef"]["resource"] != "leases"
    ]


def lease_writes(replica: Replica, since: datetime) -> int:
    """How often a replica has tried to write a lease since then."""
    return sum(e["objectRef"]["resource"] == "leases" for e in _audited(replica, since))


def _audited(replica: Replica, since: datetime) -> Iterator[Mapping[str, Any]]:
    for line in AUDIT_LOG.read_text().splitlines():
        entry = json.loads(line)
        received = datetime.fromisoformat(entry["requestReceivedTimestamp"])
        if entry["user"]["username"] == replica.account and received >= since:
            yield entry


def _account(server: Server, name: str) -> str:
    """An account that may do everything in the test's namespace, and elsewhere only read its labels."""
    place = server.namespace
    core, rbac = server.core, server.rbac
    if name not in {a.metadata.name for a in core.list_namespaced_service_account(place).items}:
        _may_read_namespace(server, name)
        core.create_namespaced_service_account(place, {"metadata": {"name": name}})
        binding = {
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place}],
        }
        rbac.create_namespaced_role_binding(place, binding)
    return f"system:serviceaccount:{place}:{name}"


def _may_read_namespace(server: Server, account: str) -> None:
    """Cluster-wide objects, which go with the namespace."""
    place = server.core.read_namespace(server.namespace)
    owner = {"apiVersion": "v1", "kind": "Namespace"}
    owner |= {"name": place.metadata.name, "uid": place.metadata.uid}
    metadata = {"name": f"{server.namespace}-{account}", "ownerReferences": [owner]}
    rule = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}
    rule["resourceNames"] = [server.namespace]
    server.rbac.create_cluster_role({"metadata": metadata, "rules": [rule]})
    binding = {
        "metadata": metadata,
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": metadata["name"],
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": server.namespace}],
    }
    server.rbac.create_cluster_role_binding(binding)


def _kubeconfig(server: Server, folder: Path, name: str, address: str) -> str:
    config = json.loads(Path(server.kubeconfig).read_text())
    config["clusters"][0]["cluster"]["server"] = address
    asked = {"spec": {"expirationSeconds": 3600}}
    token = server.core.create_namespaced_service_account_token(name, server.namespace, asked)
    config["users"][0]["user"] = {"token": token.status.token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)
