"""Where everything is: folders, addresses, ports. Reads the environment, changes nothing."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

NODE_NAME: Final = "trimtab-local"
# Marks the processes we start, so that one whose pid file was never written is found again.
MARKER: Final = "TRIMTAB_LOCAL_MEMBER"

# 192.0.2.0/24 is set apart for documentation: no real network has it.
NODE_ADDRESS: Final = "192.0.2.1"
POD_RANGE: Final = "10.244.0.0/16"
SERVICE_RANGE: Final = "10.96.0.0/16"
API_SERVICE_ADDRESS: Final = "10.96.0.1"
DNS_SERVICE_ADDRESS: Final = "10.96.0.10"
CLUSTER_DOMAIN: Final = "cluster.local"
REGISTRY_NAME: Final = "registry.internal"
PROMETHEUS_NAME: Final = "prometheus.internal"
API_PORT: Final = 6443
REGISTRY_PORT: Final = 5000
PROMETHEUS_PORT: Final = 9090

PAUSE_IMAGE: Final = "trimtab.local/pause:1"
PROVISIONER: Final = "local.trimtab.dev/folder"
STORAGE_CLASS: Final = "local"


@dataclass(frozen=True)
class Ports:
    """The host's loopback ports; inside, the programs always have the usual ones."""

    api: int = API_PORT
    registry: int = REGISTRY_PORT
    prometheus: int = PROMETHEUS_PORT


@dataclass(frozen=True)
class Layout:
    """All paths of one cluster. State outlives `down`; `run` does not outlive a reboot.

    Two clusters on one machine differ in home, run and ports.
    """

    home: Path
    cache: Path
    run: Path = Path("/run/trimtab-local")
    ports: Ports = field(default_factory=Ports)

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def certificates(self) -> Path:
        return self.home / "certificates"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def audit_log(self) -> Path:
        """Who has changed what, one line of JSON each; no contents."""
        return self.logs / "audit.log"

    @property
    def pod_logs(self) -> Path:
        return self.home / "pod-logs"

    @property
    def etcd(self) -> Path:
        return self.home / "etcd"

    @property
    def containerd(self) -> Path:
        return self.home / "containerd"

    @property
    def kubelet(self) -> Path:
        return self.home / "kubelet"

    @property
    def registry(self) -> Path:
        return self.home / "registry"

    @property
    def prometheus(self) -> Path:
        return self.home / "prometheus"

    @property
    def volumes(self) -> Path:
        return self.home / "volumes"

    @property
    def settings(self) -> Path:
        return self.home / "settings.json"

    @property
    def processes(self) -> Path:
        return self.run / "processes"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def network(self) -> Path:
        """The network namespace, held open by a mount: enter it by `nsenter --net=`."""
        return self.run / "network"

    @property
    def cgroup(self) -> str:
        """Below the root of each hierarchy; pods run in it."""
        return self.run.name

    @property
    def lock(self) -> Path:
        return self.run.with_suffix(".lock")

    @property
    def programs(self) -> Path:
        """Stable names of what was built, fit for a PATH."""
        return self.cache / "bin"


def layout_from(environment: Mapping[str, str]) -> Layout:
    """The layout the environment asks for, with the ports the last `up` was given."""
    user_cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = Path(environment.get("TRIMTAB_LOCAL_HOME") or "/var/lib/trimtab-local").absolute()
    cache = Path(environment.get("TRIMTAB_CACHE") or Path(user_cache) / "trimtab").absolute()
    run = Path(environment.get("TRIMTAB_LOCAL_RUN") or "/run/trimtab-local").absolute()
    return Layout(home=home, cache=cache, run=run, ports=saved_ports(home / "settings.json"))


def saved_ports(settings: Path) -> Ports:
    try:
        saved = json.loads(settings.read_text())
    except (FileNotFoundError, PermissionError):
        return Ports()
    return Ports(**saved["ports"])


def save_ports(layout: Layout) -> None:
    layout.settings.write_text(json.dumps({"ports": asdict(layout.ports)}) + os.linesep)
