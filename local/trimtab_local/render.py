"""The configuration files of the components. Pure: settings in, text out.

Most of it is written as JSON, which every YAML reader takes.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trimtab_local.layout import (
    API_PORT,
    CLUSTER_DOMAIN,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    POD_RANGE,
    PROMETHEUS_NAME,
    REGISTRY_NAME,
    REGISTRY_PORT,
    Layout,
)

DNS_HEALTH_PORT: Final = 8080
_Config = dict[str, Any]


@dataclass(frozen=True)
class Host:
    """What the machine allows, as far as a configuration depends on it."""

    cgroup_v2: bool
    may_lower_oom_score: bool


def kubeconfig(server: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """Certificates go inside, so that the file can be copied anywhere."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    user = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    name = "trimtab-local"
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def audit_policy() -> str:
    """Writes, by whom and when, without their contents; reads would be most of the log."""
    writes = ["create", "update", "patch", "delete", "deletecollection"]
    return _json(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "verbs": writes}, {"level": "None"}],
        }
    )


def kubelet(layout: Layout, host: Host) -> str:
    certificates = layout.certificates
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{certificates / 'ca.crt'}"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{layout.cgroup}",
            "clusterDNS": [DNS_SERVICE_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
            "enforceNodeAllocatable": [],
            # A disk that is nearly full is the user's to judge: evicted pods and
            # images that nobody can pull again would be worse.
            "evictionHard": {
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
                "memory.available": "0%",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            # Or an image that was loaded is pulled after all, as soon as the same
            # content has once come from a registry under another name.
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "oomScoreAdj": -999 if host.may_lower_oom_score else 0,
            "podLogsDir": f"{layout.pod_logs}",
            "resolvConf": f"{layout.config / 'resolv.conf'}",
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
            "tlsCertFile": f"{certificates / 'kubelet-server.crt'}",
            "tlsPrivateKeyFile": f"{certificates / 'kubelet-server.key'}",
            "volumePluginDir": f"{layout.kubelet / 'volume-plugins'}",
        }
    )


def containerd(layout: Layout, host: Host) -> str:
    restrict = "false" if host.may_lower_oom_score else "true"
    return f"""\
version = 3
root = '{layout.containerd}'
state = '{layout.run / "containerd"}'
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.zfs',
  'io.containerd.tracing.processor.v1.otlp',
]

[grpc]
  address = '{layout.containerd_socket}'

[ttrpc]
  address = '{layout.run / "containerd.ttrpc.sock"}'

[plugins.'io.containerd.internal.v1.opt']
  path = '{layout.containerd / "opt"}'

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE_IMAGE}'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '{layout.config / "registries"}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '{layout.config / "cni"}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      Root = '{layout.run / "runc"}'
      SystemdCgroup = false
"""


def registry_hosts() -> str:
    """Tells containerd where the registry's name leads: the host knows nothing of it."""
    return f"""\
server = 'http://{NODE_ADDRESS}:{REGISTRY_PORT}'

[host.'http://{NODE_ADDRESS}:{REGISTRY_PORT}']
  capabilities = ['pull', 'resolve']
"""


def cni(layout: Layout) -> str:
    """Each pod gets a cable of its own instead of a place on a bridge.

    Bridged answers to a service address would bypass the node's translation of it.
    """
    return _json(
        {
            "cniVersion": "1.0.0",
            "name": "trimtab-local",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{layout.run / 'addresses'}",
                        "ranges": [[{"subnet": POD_RANGE}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
    )


def corefile(layout: Layout) -> str:
    """No name outside is looked up: an unknown one is said not to exist, at once."""
    return f"""\
{CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    health 127.0.0.1:{DNS_HEALTH_PORT}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.config / "coredns.kubeconfig"}
        ttl 5
    }}
}}
internal:53 {{
    bind {NODE_ADDRESS}
    errors
    hosts {{
        {NODE_ADDRESS} {REGISTRY_NAME} {PROMETHEUS_NAME}
    }}
}}
.:53 {{
    bind {NODE_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def registry(layout: Layout) -> str:
    return _json(
        {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": f"{layout.registry}"},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"{NODE_ADDRESS}:{REGISTRY_PORT}"},
        }
    )


def prometheus(layout: Layout) -> str:
    """Scrapes what a program of ours finds: Debian's build cannot ask a Kubernetes API."""
    targets = {"files": [f"{scrape_targets(layout)}"]}
    return _json(
        {
            "global": {"scrape_interval": "5s", "scrape_timeout": "4s"},
            "scrape_configs": [{"job_name": "pods", "file_sd_configs": [targets]}],
        }
    )


def scrape_targets(layout: Layout) -> Path:
    return layout.home / "scrape-targets.json"


def resolv_conf() -> str:
    return f"nameserver {NODE_ADDRESS}\n"


def api_address() -> str:
    return f"https://{NODE_ADDRESS}:{API_PORT}"


def _json(value: _Config) -> str:
    return json.dumps(value, indent=2) + "\n"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
