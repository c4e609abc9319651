"""A kind cluster has no registry; the demo puts one beside its nodes, as a container on their network.

Nodes and pods know it by its name, this machine by a port on loopback. Only the container tool is
asked: the nodes of a kind cluster are containers with a label.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from examples.quickstart.kube import CommandFailed, run

NAME, PORT = "trimtab-registry", 5000
ADDRESS = f"{NAME}:{PORT}"
NETWORK = "kind"
IMAGE = "docker.io/library/registry:3"
# In the order in which kind itself looks for them.
TOOLS = ("docker", "nerdctl", "podman")
_HOSTS = f"/etc/containerd/certs.d/{ADDRESS}"
_LABEL = "io.x-k8s.kind.cluster"

Run = Callable[..., str]


@dataclass(frozen=True)
class KindCluster:
    """A cluster that kind has made: the tool that runs its nodes, and their names."""

    tool: str
    nodes: Sequence[str]
    run: Run = run

    def registry_from_here(self) -> str:
        """Start the registry where it does not run, tell the nodes of it; its address on loopback."""
        self._start()
        hosts = f'[host."http://{ADDRESS}"]\n'
        for node in self.nodes:
            write = f"mkdir -p {_HOSTS} && cat > {_HOSTS}/hosts.toml"
            self._do("exec", "-i", node, "sh", "-c", write, text=hosts)
        published = self._do("port", NAME, f"{PORT}/tcp").split()
        if not published:
            raise CommandFailed(
                f"container {NAME} publishes no port; remove it ({self.tool} rm -f {NAME}) and try again"
            )
        return published[0]

    def remove_registry(self) -> None:
        """Take the registry away with all that is in it."""
        self._do("rm", "--force", "--volumes", NAME)

    def _start(self) -> None:
        try:
            running = self._do("container", "inspect", "--format", "{{.State.Running}}", NAME)
        except (
            CommandFailed
        ):  # there is none; what else may be wrong, the next command says as well
            published = f"127.0.0.1::{PORT}"
            image = os.environ.get("KIND_REGISTRY_IMAGE", IMAGE)
            self._do(
                *("run", "--detach", "--restart", "unless-stopped", "--network", NETWORK),
                *("--publish", published, "--name", NAME, image),
            )
        else:
            if running.strip() != "true":
                self._do("start", NAME)

    def _do(self, *arguments: str, text: str | None = None) -> str:
        return self.run([self.tool, *arguments], text=text)


def found(
    kubectl: Callable[..., str], run: Run = run, which: Callable[[str], object] = shutil.which
) -> KindCluster | None:
    """The kind cluster behind the kubeconfig's current context, if it is one of this machine's."""
    context = kubectl("config", "current-context").strip()
    if not context.startswith("kind-"):
        return None
    cluster = context.removeprefix("kind-")
    for tool in filter(which, TOOLS):
        listing = [tool, "ps", "--filter", f"label={_LABEL}={cluster}", "--format", "{{.Names}}"]
        nodes = [
            name for name in run(listing).split() if name != f"{cluster}-external-load-balancer"
        ]
        if nodes:
            return KindCluster(tool, tuple(nodes), run)
    return None
