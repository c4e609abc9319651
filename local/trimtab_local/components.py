"""The components of the cluster as a table: how each is started, and when it is ready.

Nothing here runs anything. The order of the table is the order of starting.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trimtab_local import build, packages, render
from trimtab_local.inside import Url
from trimtab_local.layout import (
    API_PORT,
    NODE_ADDRESS,
    NODE_NAME,
    PROMETHEUS_PORT,
    PROVISIONER,
    REGISTRY_PORT,
    SERVICE_RANGE,
    Layout,
)

ETCD: Final = "http://127.0.0.1:2379"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
FORWARDS: Final = "forwards"


@dataclass(frozen=True)
class Component:
    """One long-running program, inside the cluster's network namespace."""

    name: str
    command: tuple[str, ...]
    # Files it reads once, at its start: when one changes, it is started again.
    reads: tuple[Path, ...] = ()
    # Its heap is kept near this figure. It may grow beyond, and then collects garbage all the time: an API server that
    # had seen a few hundred namespaces and other people's CRDs took a whole core for that with 500.
    memory_mib: int = 0
    ready: Url | Path | None = None
    # Started only when these are ready, because it ends itself without them.
    after: tuple[str, ...] = field(default=())
    # Long enough for it to put its files in order.
    grace_seconds: float = 5.0

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        if not self.memory_mib:
            return dict(base)
        return dict(base) | {"GOMEMLIMIT": f"{self.memory_mib}MiB"}

    def fingerprint(self, base: Mapping[str, str]) -> str:
        """Changes when a running one is no longer what a new one would be."""
        parts = [repr(self.command), repr(sorted(self.environment(base).items()))]
        digest = hashlib.sha256("\0".join(parts).encode())
        for path in self.reads:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


def components(layout: Layout) -> tuple[Component, ...]:
    return (
        _etcd(layout),
        _api_server(layout),
        _containerd(layout),
        _registry(layout),
        _controller_manager(layout),
        _scheduler(layout),
        _kubelet(layout),
        _kube_proxy(layout),
        _coredns(layout),
        _volume_provisioner(layout),
        _scrape_targets(layout),
        _prometheus(layout),
    )


def kubeconfig_of(layout: Layout, name: str) -> Path:
    return layout.config / f"{name}.kubeconfig"


def _kube(layout: Layout, program: str, flags: Iterable[str]) -> tuple[str, ...]:
    return (str(build.binary(layout, build.KUBE)), program, *flags)


def _etcd(layout: Layout) -> Component:
    flags = (
        f"--data-dir={layout.etcd}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        # A power cut may cost the cluster's objects; nothing else does, and it is fast.
        "--unsafe-no-fsync",
        "--auto-compaction-retention=10m",
        "--quota-backend-bytes=2147483648",
        "--log-level=warn",
    )
    command = _kube(layout, "etcd", flags)
    return Component("etcd", command, memory_mib=300, ready=Url(2379, "/health"), grace_seconds=20)


def _api_server(layout: Layout) -> Component:
    held = layout.certificates
    audit_policy = layout.config / "audit-policy.json"
    flags = (
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={ETCD}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={held / 'ca.crt'}",
        f"--tls-cert-file={held / 'api-server.crt'}",
        f"--tls-private-key-file={held / 'api-server.key'}",
        f"--kubelet-certificate-authority={held / 'ca.crt'}",
        f"--kubelet-client-certificate={held / 'api-server-to-kubelet.crt'}",
        f"--kubelet-client-key={held / 'api-server-to-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={held / 'service-accounts.key'}",
        f"--service-account-signing-key-file={held / 'service-accounts.key'}",
        # Only one API server: its leases and its profile would cost and tell nothing.
        "--profiling=false",
        "--shutdown-delay-duration=0s",
        f"--audit-policy-file={audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=50",  # MB
        "--audit-log-maxbackup=2",
    )
    return Component(
        "api-server",
        _kube(layout, "kube-apiserver", flags),
        reads=(
            held / "ca.crt",
            held / "api-server.crt",
            held / "service-accounts.key",
            audit_policy,
        ),
        memory_mib=1000,
        ready=Url(API_PORT, "/readyz", NODE_ADDRESS, tls=True),
        after=("etcd",),
        grace_seconds=15,
    )


def _containerd(layout: Layout) -> Component:
    config = layout.config / "containerd.toml"
    return Component(
        "containerd",
        (str(build.binary(layout, "containerd")), "--config", str(config)),
        reads=(config, layout.config / "cni" / "10-trimtab.conflist"),
        memory_mib=300,
        ready=layout.containerd_socket,
    )


def _registry(layout: Layout) -> Component:
    config = layout.config / "registry.yaml"
    return Component(
        "registry",
        (str(build.binary(layout, "registry")), "serve", str(config)),
        reads=(config,),
        memory_mib=150,
        ready=Url(REGISTRY_PORT, "/v2/", NODE_ADDRESS),
    )


def _controller_manager(layout: Layout) -> Component:
    held, config = layout.certificates, kubeconfig_of(layout, "controller-manager")
    flags = (
        f"--kubeconfig={config}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={held / 'ca.crt'}",
        f"--service-account-private-key-file={held / 'service-accounts.key'}",
        f"--cluster-signing-cert-file={held / 'ca.crt'}",
        f"--cluster-signing-key-file={held / 'ca.key'}",
        f"--flex-volume-plugin-dir={layout.kubelet / 'volume-plugins'}",
        "--profiling=false",
    )
    return Component(
        "controller-manager",
        _kube(layout, "kube-controller-manager", flags),
        reads=(config,),
        memory_mib=150,
        ready=Url(10257, "/healthz", tls=True),
        after=("api-server",),
    )


def _scheduler(layout: Layout) -> Component:
    config = kubeconfig_of(layout, "scheduler")
    flags = (f"--kubeconfig={config}", "--leader-elect=false", "--profiling=false")
    return Component(
        "scheduler",
        _kube(layout, "kube-scheduler", flags),
        reads=(config,),
        memory_mib=100,
        ready=Url(10259, "/healthz", tls=True),
        after=("api-server",),
    )


def _kubelet(layout: Layout) -> Component:
    config, access = layout.config / "kubelet.yaml", kubeconfig_of(layout, "kubelet")
    flags = (
        f"--config={config}",
        f"--kubeconfig={access}",
        f"--root-dir={layout.kubelet}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
    )
    return Component(
        "kubelet",
        _kube(layout, "kubelet", flags),
        reads=(config, access),
        memory_mib=200,
        ready=Url(10248, "/healthz"),
        after=("api-server", "containerd"),
    )


def _kube_proxy(layout: Layout) -> Component:
    config = kubeconfig_of(layout, "kube-proxy")
    flags = (
        f"--kubeconfig={config}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=nftables",
        # These limits belong to the host, which is not ours to change.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--oom-score-adj=0",
    )
    return Component(
        "kube-proxy",
        _kube(layout, "kube-proxy", flags),
        reads=(config,),
        memory_mib=80,
        # Its health page says yes only once the rules are written.
        ready=Url(10256, "/healthz", NODE_ADDRESS),
        after=("api-server",),
    )


def _coredns(layout: Layout) -> Component:
    corefile = layout.config / "Corefile"
    return Component(
        "coredns",
        (str(build.binary(layout, "coredns")), "-conf", str(corefile)),
        reads=(corefile, kubeconfig_of(layout, "coredns")),
        memory_mib=80,
        ready=Url(render.DNS_HEALTH_PORT, "/health"),
        after=("api-server",),
    )


def _volume_provisioner(layout: Layout) -> Component:
    config = kubeconfig_of(layout, "volume-provisioner")
    flags = (
        f"-kubeconfig={config}",
        f"-folder={layout.volumes}",
        f"-node={NODE_NAME}",
        f"-provisioner={PROVISIONER}",
    )
    return Component(
        "volume-provisioner",
        _kube(layout, "volume-provisioner", flags),
        reads=(config,),
        memory_mib=50,
        after=("api-server",),
    )


def _scrape_targets(layout: Layout) -> Component:
    config = kubeconfig_of(layout, "scrape-targets")
    flags = (f"-kubeconfig={config}", f"-file={render.scrape_targets(layout)}")
    return Component(
        "scrape-targets",
        _kube(layout, "scrape-targets", flags),
        reads=(config,),
        memory_mib=50,
        after=("api-server",),
    )


def _prometheus(layout: Layout) -> Component:
    config = layout.config / "prometheus.yaml"
    flags = (
        f"--config.file={config}",
        f"--storage.tsdb.path={layout.prometheus}",
        "--storage.tsdb.retention.time=2d",
        "--storage.tsdb.retention.size=1GB",
        f"--web.listen-address={NODE_ADDRESS}:{PROMETHEUS_PORT}",
        "--web.enable-lifecycle",
        "--log.level=warn",
    )
    return Component(
        "prometheus",
        (str(packages.prometheus(layout)), *flags),
        reads=(config,),
        memory_mib=150,
        ready=Url(PROMETHEUS_PORT, "/-/ready", NODE_ADDRESS),
        grace_seconds=10,
    )
