"""Engines move to another release while the leader is killed and engines are evicted.

An API server of the test's own, two operators, and the node of the fault bench: an engine there is
ready only once the routing table names it, so that without an operator the move halts.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException
from tests import builders
from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.bench import installed, operator_kubeconfig, rendered_chart
from tests.faults.controlplane import ControlPlane, control_plane
from tests.faults.kubelet import RANK
from tests.faults.operators import Replica
from tests.faults.scenario import BASE, BOT, Models, push_models
from tests.faults.surroundings import Surroundings, surroundings
from tests.ociserver import registry_in_thread
from tests.operatorkit import Server, eventually

from trimtab_api import names

pytestmark = pytest.mark.timeout(600)

SERVICE = "chat"
ENGINES = 2
NEXT = {"metadata": {"annotations": {names.ANNOTATION_ENGINE_RELEASE: "next"}}}
# Much longer than it takes: on a machine that is busy with other things nothing is late by itself.
PATIENCE_SECONDS = 180.0
LOOKED_EVERY_SECONDS = 0.05


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Models]]:
    with registry_in_thread() as registry:
        folder = tmp_path_factory.mktemp("models")
        yield registry.address, asyncio.run(push_models(f"{registry.address}/trimtab", folder))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("plane")
    with control_plane(folder, also=("disruption-controller",)) as made:
        yield made


@pytest.fixture(scope="module")
def chart(plane: ControlPlane, models: tuple[str, Models]) -> tuple[str, Manifest]:
    """The operators' token and settings; the kinds are there."""
    registry, _ = models
    return installed(plane, rendered_chart(registry))


@pytest.fixture
def server(plane: ControlPlane, chart: tuple[str, Manifest]) -> Iterator[Server]:
    made = Server(str(plane.kubeconfig))
    yield made
    made.close()


@pytest.fixture
def around(plane: ControlPlane, server: Server) -> Iterator[Surroundings]:
    with surroundings(plane, server.namespace) as made:
        yield made
        made.let_go()


Installed = Callable[[str], AbstractContextManager[Sequence[Replica]]]


@pytest.fixture
def release(
    server: Server, around: Surroundings, chart: tuple[str, Manifest], tmp_path: Path
) -> Installed:
    """Two operators of a release, until the block ends."""
    token, settings = chart
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(operator_kubeconfig(around.address, token))

    @contextmanager
    def running(tag: str) -> Iterator[Sequence[Replica]]:
        images = settings["images"] | {"engine": f"localhost/trimtab/engine:{tag}"}
        told = settings | {"watchNamespaces": [server.namespace], "images": images}
        replicas = [
            Replica(tmp_path, f"{tag}-{name}", kubeconfig, told) for name in ("first", "second")
        ]
        for replica in replicas:
            replica.start()
        try:
            yield replicas
        finally:
            for replica in replicas:
                replica.stop()

    return running


@pytest.fixture
def service(server: Server, models: tuple[str, Models]) -> str:
    """Two engines, and an adapter that answers."""
    _, pushed = models
    uri, report = pushed.adapters[0]
    own_base = {"modelVersion": {"name": BASE}}
    base = builders.full_version(BASE, model=BASE, artifact={"uri": pushed.base, "kind": "Full"})
    adapter = builders.model_version(
        f"{BOT}-1",
        model=BOT,
        artifact={"uri": uri, "kind": "Adapter", "rank": RANK},
        baseModel=own_base,
        evaluation={"report": report},
    )
    served = builders.inference_service(
        SERVICE,
        replicas=ENGINES,
        baseModel={"name": "tiny", **own_base},
        engine={"gpus": 0, "memory": "1Gi", "cpu": "0.5"},
        gateway={"replicas": 1},
        models=[{"name": BOT, "version": {"name": f"{BOT}-1"}}],
    )
    for manifest in (base, adapter, served):
        server.create(manifest)
    return SERVICE


@dataclass(frozen=True)
class Engine:
    """An engine pod as it was when it was looked at."""

    name: str
    address: str
    is_ready: bool


def engines(server: Server) -> list[Engine]:
    selector = f"{names.LABEL_COMPONENT}={names.ENGINE}"
    found = server.core.list_namespaced_pod(server.namespace, label_selector=selector).items
    return [
        Engine(
            pod.metadata.name,
            pod.status.pod_ip or "",
            any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []),
        )
        for pod in found
        if pod.metadata.deletion_timestamp is None
    ]


def routing(server: Server) -> Manifest:
    found = server.core.read_namespaced_config_map(f"{SERVICE}-routing", server.namespace)
    table: Manifest = json.loads(found.data[names.ROUTING_TABLE_KEY])
    return table


def named(server: Server) -> set[str]:
    """Addresses that gateways know."""
    return {e["address"].rpartition(":")[0] for e in routing(server)["engines"]}


def answered_by(table: Manifest) -> str | None:
    (bot,) = [m for m in table["models"] if m["name"] == BOT]
    return next((v["version"] for v in bot["versions"] if v["weight"]), None)


@dataclass
class Watcher:
    """What callers would notice, looked at all the time."""

    server: Server
    faults: list[str] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        table, there = routing(self.server), engines(self.server)
        reachable = {e["address"].rpartition(":")[0] for e in table["engines"]}
        self.looks += 1
        if not any(e.is_ready and e.address in reachable for e in there):
            self.faults.append(f"nobody could answer: {there}, gateways know {reachable}")
        if answered_by(table) != f"{BOT}-1":
            self.faults.append(f"{BOT} was answered by {answered_by(table)}")
        if len(there) > ENGINES + 1:
            self.faults.append(f"not one by one: {there}")


@contextmanager
def watched(plane: ControlPlane, server: Server) -> Iterator[Watcher]:
    """Until the block ends, on a connection and a thread of its own."""
    own = Server(str(plane.kubeconfig))
    spare, own.namespace = own.namespace, server.namespace
    watcher, is_over = Watcher(own), threading.Event()

    def run() -> None:
        while not is_over.wait(LOOKED_EVERY_SECONDS):
            watcher.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watcher
    finally:
        is_over.set()
        thread.join()
        own.namespace = spare
        own.close()


def led(replica: Replica) -> int:
    """How often it came to lead; a process that was started again is another candidate."""
    return sum(line.get("message") == "leading" for line in replica.log)


def evicted(server: Server, engine: str) -> bool:
    """Whether a drain may take this engine away now."""
    meta = {"name": engine, "namespace": server.namespace}
    try:
        server.core.create_namespaced_pod_eviction(engine, server.namespace, {"metadata": meta})
    except ApiException as refusal:
        if refusal.status != 429:
            raise
        return False
    return True


def test_a_move_of_engines_outlives_its_leader_and_a_drain(
    plane: ControlPlane,
    server: Server,
    around: Surroundings,
    service: str,
    release: Installed,
) -> None:
    with release("first"):
        eventually(lambda: server.is_true("InferenceService", service, "Ready"), PATIENCE_SECONDS)
    before = {e.name for e in engines(server)}
    with release("next") as operators, watched(plane, server) as watcher:
        eventually(lambda: any(map(led, operators)), PATIENCE_SECONDS, "nobody leads")
        around.kubelet.joining.add(service)
        around.kubelet.held.add(service)
        server.change("InferenceService", service, NEXT)
        new = eventually(
            lambda: [e.name for e in engines(server) if e.name not in before and e.address],
            PATIENCE_SECONDS,
            "no new engine came",
        )
        (leader,) = [replica for replica in operators if led(replica)]
        leader.kill()
        first, second = sorted(before)
        eventually(lambda: evicted(server, first), PATIENCE_SECONDS)  # once the budget is counted
        assert not evicted(server, second), "the last one that answers has to stay"
        around.kubelet.held.discard(service)  # the new one could join now, but nobody names it
        joining = {e.address for e in engines(server) if e.name in new}
        eventually(lambda: joining & named(server), PATIENCE_SECONDS, "nobody named it")
        assert sum(map(led, operators)) == 2, "it went on without a leader"
        eventually(
            lambda: (
                {e.address for e in engines(server) if e.is_ready} == named(server)
                and not before & {e.name for e in engines(server)}
            ),
            PATIENCE_SECONDS,
            "the move did not go on",
        )
        eventually(lambda: _has_moved(server), PATIENCE_SECONDS, "the move did not end")
    assert not watcher.faults, "\n".join(watcher.faults[:10])
    assert watcher.looks > 10
    for replica in operators:
        assert not oracles.complaints(replica.log)
        assert not replica.crashes
    assert not oracles.not_allowed(around.proxy.calls)


def _has_moved(server: Server) -> bool:
    found = server.get("InferenceService", SERVICE)
    told = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    is_asked = found["status"]["release"]["requested"] == "next"
    return (
        is_asked
        and told["Ready"] == told["EngineReady"] == "True"
        and len(engines(server)) == ENGINES
    )
