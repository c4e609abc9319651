"""The demo on a kind cluster: a registry beside its nodes, whatever of it is there already."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from examples.quickstart import kind
from examples.quickstart.kind import KindCluster
from examples.quickstart.kube import CommandFailed


@dataclass
class ContainerTool:
    """What docker, nerdctl and podman have in common, as far as it is asked for."""

    running: bool | None = None  # None: there is no such container
    ports: str = "127.0.0.1:40321\n"
    files: dict[str, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def __call__(self, command: Sequence[str], text: str | None = None) -> str:
        match command[1:]:
            case ["ps", *_]:
                return "pets-control-plane\npets-worker\npets-external-load-balancer\n"
            case ["container", "inspect", *_]:
                if self.running is None:
                    raise CommandFailed("Error: No such container: trimtab-registry")
                return f"{str(self.running).lower()}\n"
            case ["run", *options]:
                self.begun = options
                self.running = True
            case ["start", "trimtab-registry"]:
                self.running = True
            case ["exec", "-i", node, "sh", "-c", script]:
                self.files[f"{node}:{script.rpartition(' > ')[2]}"] = text or ""
            case ["port", "trimtab-registry", "5000/tcp"]:
                return self.ports
            case ["rm", "--force", "--volumes", "trimtab-registry"]:
                self.running = None
            case other:
                raise AssertionError(other)
        return ""


HOSTS = "/etc/containerd/certs.d/trimtab-registry:5000/hosts.toml"


@pytest.mark.parametrize(
    "before",
    [None, False, True],
    ids=["there is no registry", "it was stopped", "it runs already"],
)
def test_a_registry_runs_beside_the_nodes_and_each_of_them_knows_it(before: bool | None) -> None:
    tool = ContainerTool(running=before)
    cluster = KindCluster("docker", ("pets-control-plane", "pets-worker"), tool)
    assert cluster.registry_from_here() == "127.0.0.1:40321"
    assert tool.running
    assert tool.files == {
        f"pets-control-plane:{HOSTS}": '[host."http://trimtab-registry:5000"]\n',
        f"pets-worker:{HOSTS}": '[host."http://trimtab-registry:5000"]\n',
    }
    assert bool(tool.begun) is (before is None), "what is there is not made again"


def test_the_registry_is_on_the_network_of_the_nodes_and_on_loopback_only() -> None:
    tool = ContainerTool()
    KindCluster("docker", ("pets-control-plane",), tool).registry_from_here()
    options = " ".join(tool.begun)
    assert "--network kind" in options
    assert "--publish 127.0.0.1::5000" in options


def test_a_registry_that_cannot_be_reached_from_here_is_told_with_the_remedy() -> None:
    cluster = KindCluster("docker", ("pets-control-plane",), ContainerTool(running=True, ports=""))
    with pytest.raises(CommandFailed, match="docker rm -f trimtab-registry"):
        cluster.registry_from_here()


def test_the_registry_goes_with_what_is_in_it() -> None:
    tool = ContainerTool(running=True)
    KindCluster("docker", (), tool).remove_registry()
    assert tool.running is None


@pytest.mark.parametrize(
    ("context", "nodes"),
    [
        ("kind-pets", ("pets-control-plane", "pets-worker")),
        ("minikube", None),
    ],
    ids=["a kind cluster's nodes, without its load balancer", "another cluster is not asked about"],
)
def test_a_kind_cluster_is_known_by_its_context_and_the_label_of_its_nodes(
    context: str, nodes: tuple[str, ...] | None
) -> None:
    cluster = kind.found(lambda *_: f"{context}\n", ContainerTool(), {"podman"}.__contains__)
    if nodes is None:
        assert cluster is None
    else:
        assert cluster is not None
        assert (cluster.tool, cluster.nodes) == ("podman", nodes)


def test_nodes_that_are_on_another_machine_are_not_found() -> None:
    assert kind.found(lambda *_: "kind-pets", lambda *_, **__: "", {"docker"}.__contains__) is None
