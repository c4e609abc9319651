"""What a crash leaves is mended by `up`, and `down` leaves nothing: on a cluster of its own.

It lives beside the one that everything else uses, with other folders and ports,
so that it may be broken. Its programs are the ones already built.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trimtab_local import api, build, imagestore, inside, leftovers, network, processes
from trimtab_local.inside import Url
from trimtab_local.layout import Layout, Ports, layout_from
from trimtab_local.ociarchive import write_archive
from trimtab_local.processes import ProcessTable

pytestmark = pytest.mark.timeout(400)

PROBE = "trimtab.local/probe:1"
NAME = f"trimtab-recovery-{os.getpid()}"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "steady"},
    "spec": {"containers": [{"name": "probe", "image": PROBE, "args": ["serve", "still", "here"]}]},
}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def trimtab_local(layout: Layout, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "PYTHONPATH": str(build.SOURCES),
        "TRIMTAB_CACHE": str(layout.cache),
        "TRIMTAB_LOCAL_HOME": str(layout.home),
        "TRIMTAB_LOCAL_RUN": str(layout.run),
    }
    command = [sys.executable, "-m", "trimtab_local", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def kubectl(layout: Layout, *arguments: str, text: str = "") -> str:
    command = [str(layout.programs / "kubectl"), f"--kubeconfig={layout.kubeconfig}", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def up(layout: Layout) -> str:
    ports = layout.ports
    flags = [f"--api-port={ports.api}", f"--registry-port={ports.registry}"]
    done = trimtab_local(layout, "up", *flags, f"--prometheus-port={ports.prometheus}")
    assert done.returncode == 0, done.stderr
    return done.stderr


def kill(layout: Layout, names: list[str]) -> None:
    """All at once and without warning, as the kernel does it when memory is out."""
    table = ProcessTable(layout.processes)
    victims = [process for name in names if (process := table.running(name))]
    assert len(victims) == len(names)
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    while any(processes.is_alive(victim) for victim in victims):
        time.sleep(0.05)


def eventually(wanted: Callable[[], bool], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if wanted():
            return True
        time.sleep(0.3)
    return False


def serves(layout: Layout) -> bool:
    """Whether the steady pod answers now, looked at from the node."""
    status = api.get(layout, "/api/v1/namespaces/default/pods/steady").body.get("status", {})
    address = status.get("podIP")
    return bool(address) and inside.is_healthy(layout.network, Url(8080, "/", address))


def container_of(layout: Layout) -> str:
    status = api.get(layout, "/api/v1/namespaces/default/pods/steady").body["status"]
    return str(status["containerStatuses"][0]["containerID"])


def traces(layout: Layout) -> list[str]:
    """Everything that a cluster which is down must not leave."""
    table = Path("/proc/self/mountinfo").read_text()
    mounts = leftovers.mounts_below((layout.home, layout.run), table)
    found = [f"mount {path}" for path in mounts]
    found += [f"cgroup {path}" for path in leftovers.cgroup_folders(layout.cgroup)]
    found += [f"process {member.pid}" for member in processes.members(layout.home)]
    found += [f"folder {layout.run}"] if layout.run.exists() else []
    for _, port, _ in network.targets(layout.ports):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(f"port {port}")
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    cache = layout_from(os.environ).cache
    folder = tmp_path_factory.mktemp("recovery")
    ports = Ports(*free_ports(3))
    layout = Layout(home=folder / "home", cache=cache, run=Path("/run") / NAME, ports=ports)
    if os.geteuid() != 0 or build.missing(layout):
        pytest.skip("the programs of the local cluster are not built: `trimtab-local up`")
    try:
        up(layout)
        write_archive(
            build.build(build.PROBE, layout, folder / "build.log") / "probe",
            PROBE,
            folder / "probe.tar",
        )
        imagestore.load(layout, folder / "probe.tar")
        kubectl(layout, "apply", "-f", "-", text=json.dumps(POD))
        assert eventually(lambda: serves(layout))
        yield layout
    finally:
        trimtab_local(layout, "reset")
    layout.lock.unlink(missing_ok=True)
    assert traces(layout) == []
    assert not layout.home.exists()


def test_a_second_up_starts_nothing(cluster: Layout) -> None:
    table = ProcessTable(cluster.processes)
    before = {name: table.running(name) for name in table.names()}
    up(cluster)
    assert {name: table.running(name) for name in table.names()} == before


def test_only_the_dead_are_started_again_and_pods_run_on(cluster: Layout) -> None:
    container = container_of(cluster)
    table = ProcessTable(cluster.processes)
    kill(cluster, ["kubelet", "containerd", "coredns", "forwards"])
    alive = {name: process for name in table.names() if (process := table.running(name))}
    up(cluster)
    assert {name: table.running(name) for name in alive} == alive
    assert eventually(lambda: serves(cluster))
    assert container_of(cluster) == container


def test_a_component_that_hangs_is_started_again(cluster: Layout) -> None:
    table = ProcessTable(cluster.processes)
    hung = table.running("coredns")
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)
    assert "coredns does not answer and is started again" in up(cluster)
    assert not processes.is_alive(hung)


def test_a_process_whose_pid_file_was_never_written_is_found_and_ended(cluster: Layout) -> None:
    table = ProcessTable(cluster.processes)
    orphan = table.running("etcd")
    assert orphan is not None
    table.forget("etcd")
    assert "stray" in up(cluster)
    assert not processes.is_alive(orphan)
    assert eventually(lambda: serves(cluster))


def test_all_dead_at_once_and_the_network_gone_is_mended(cluster: Layout) -> None:
    table = ProcessTable(cluster.processes)
    kill(cluster, table.names())
    network.remove(cluster)
    up(cluster)
    assert eventually(lambda: serves(cluster))


def test_a_taken_port_is_said_before_anything_else_happens(cluster: Layout) -> None:
    taken = cluster.ports.api
    done = trimtab_local(cluster, "up", f"--registry-port={taken}")
    assert done.returncode == 1
    assert f"port {taken} of 127.0.0.1 is taken" in done.stderr
    up(cluster)


def test_down_leaves_nothing_but_the_state_and_up_goes_on_with_it(cluster: Layout) -> None:
    done = trimtab_local(cluster, "down")
    assert done.returncode == 0, done.stderr
    assert traces(cluster) == []
    assert trimtab_local(cluster, "down").returncode == 0  # there is nothing left to end
    up(cluster)
    assert PROBE in imagestore.names(cluster)
    assert eventually(lambda: serves(cluster))


def test_down_after_everything_died_clears_what_the_dead_left(cluster: Layout) -> None:
    kill(cluster, ProcessTable(cluster.processes).names())
    assert traces(cluster) != []
    assert trimtab_local(cluster, "down").returncode == 0
    assert traces(cluster) == []
    up(cluster)
    assert eventually(lambda: serves(cluster))
