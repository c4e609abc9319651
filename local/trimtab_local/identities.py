"""Who is who in the cluster: certificates, kubeconfigs, and what each may do."""

import json
import subprocess
from dataclasses import asdict, dataclass
from typing import Any, Final

from trimtab_local import build, render
from trimtab_local.errors import Trouble
from trimtab_local.files import write_if_changed
from trimtab_local.layout import (
    API_SERVICE_ADDRESS,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    NODE_NAME,
    PROVISIONER,
    STORAGE_CLASS,
    Layout,
)

_Object = dict[str, Any]


@dataclass(frozen=True)
class Certificate:
    """One to have: a server's if it has hosts, else a client's."""

    name: str
    user: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


_API_HOSTS: Final = (
    "127.0.0.1",
    "localhost",
    NODE_ADDRESS,
    NODE_NAME,
    API_SERVICE_ADDRESS,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVERS: Final = (
    Certificate("api-server", "kube-apiserver", hosts=_API_HOSTS),
    Certificate("kubelet-server", f"system:node:{NODE_NAME}", hosts=(NODE_ADDRESS, NODE_NAME)),
)
# These get a kubeconfig each, under the same name.
CLIENTS: Final = (
    Certificate("admin", "trimtab-local:admin", ("system:masters",)),
    Certificate("controller-manager", "system:kube-controller-manager"),
    Certificate("coredns", "trimtab-local:coredns"),
    Certificate("kube-proxy", "system:kube-proxy"),
    Certificate("kubelet", f"system:node:{NODE_NAME}", ("system:nodes",)),
    Certificate("scheduler", "system:kube-scheduler"),
    Certificate("scrape-targets", "trimtab-local:scrape-targets"),
    Certificate("volume-provisioner", "trimtab-local:volume-provisioner"),
)
API_SERVER_TO_KUBELET: Final = Certificate("api-server-to-kubelet", "trimtab-local:api-server")
CERTIFICATES: Final = (*SERVERS, *CLIENTS, API_SERVER_TO_KUBELET)


def make_certificates(layout: Layout) -> None:
    """Keeps those that are still good: kubeconfigs handed out stay valid."""
    requests = json.dumps([asdict(certificate) for certificate in CERTIFICATES])
    program = str(build.binary(layout, build.KUBE))
    command = [program, "make-certificates", str(layout.certificates), requests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(
            f"the certificates could not be made ({done.stderr.strip()})",
            f"look whether {layout.certificates} can be written",
        )


def write_kubeconfigs(layout: Layout) -> None:
    for client in CLIENTS:
        path = layout.config / f"{client.name}.kubeconfig"
        write_if_changed(path, _kubeconfig(layout, client.name, render.api_address()), 0o600)
    outside = f"https://127.0.0.1:{layout.ports.api}"
    write_if_changed(layout.kubeconfig, _kubeconfig(layout, "admin", outside), 0o600)


def _kubeconfig(layout: Layout, name: str, server: str) -> str:
    held = layout.certificates
    return render.kubeconfig(
        server,
        (held / "ca.crt").read_bytes(),
        (held / f"{name}.crt").read_bytes(),
        (held / f"{name}.key").read_bytes(),
    )


def objects() -> list[_Object]:
    """What the cluster holds from the start: roles, the DNS service, the storage class."""
    return [
        *_may("coredns", _rule("", "endpoints services pods namespaces"), _SLICES),
        *_may("scrape-targets", _rule("", "pods")),
        *_may(
            "volume-provisioner",
            _rule("", "persistentvolumeclaims"),
            _rule("", "persistentvolumes", "get list watch create delete"),
        ),
        _binding("api-server-to-kubelet", "system:kubelet-api-admin", API_SERVER_TO_KUBELET.user),
        *_dns_service(),
        _storage_class(),
    ]


def _rule(group: str, resources: str, verbs: str = "get list watch") -> _Object:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


_SLICES: Final = _rule("discovery.k8s.io", "endpointslices")


def _may(name: str, *rules: _Object) -> list[_Object]:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"trimtab-local:{name}"},
        "rules": list(rules),
    }
    return [role, _binding(name, f"trimtab-local:{name}", f"trimtab-local:{name}")]


def _binding(name: str, role: str, user: str) -> _Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"trimtab-local:{name}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def _dns_service() -> list[_Object]:
    """CoreDNS runs beside the kubelet, not in a pod: the service names its address."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    ports += [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    where = {"name": "kube-dns", "namespace": "kube-system"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": where,
        "spec": {"clusterIP": DNS_SERVICE_ADDRESS, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": where | {"labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS]}],
        "ports": ports,
    }
    return [service, endpoints]


def _storage_class() -> _Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
