"""A Dataset on a real KubeRay, which is built from its source: `make soak`.

KubeRay runs beside the cluster and reaches the head of a Ray cluster through the API server.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.quickstart import target
from examples.quickstart.kube import condition, wait
from tests.e2e.world import Object, World

KUBERAY = "github.com/ray-project/kuberay/ray-operator"
VERSION = "v1.5.0"
COUNT = 2000
KINDS = ("rayjobs", "rayclusters", "rayservices")
pytestmark = [
    pytest.mark.skipif(not os.environ.get("TRIMTAB_SOAK"), reason="builds KubeRay: make soak"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def kuberay(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """KubeRay at work, and a Trimtab that knows of it."""
    folder = tmp_path_factory.mktemp("kuberay")
    source = built(folder)
    world.kube.kubectl("apply", "--server-side", "-f", str(source / "config/crd/bases"))
    crds = [f"customresourcedefinition/{kind}.ray.io" for kind in KINDS]
    world.kube.kubectl("wait", "--for=condition=Established", "--timeout=60s", *crds)
    wait(
        lambda: "rayjobs" in world.kube.kubectl("api-resources", "--api-group=ray.io"),
        60,
        "RayJobs",
    )
    command = [str(folder / "manager"), "-use-kubernetes-proxy", "-enable-leader-election=false"]
    ports = ["-metrics-addr=127.0.0.1:0", "-health-probe-bind-address=127.0.0.1:0"]
    log = (folder / "log").open("wb")
    with subprocess.Popen(
        [*command, *ports], env=world.kube.environment, stdout=log, stderr=log
    ) as running:
        try:
            upgrade(world, "true")
            yield
            world.kube.kubectl("delete", "datasets", "--all", "--timeout=60s")
            # They have finalizers, which KubeRay alone takes off.
            wait(lambda: not left(world), 120, "the end of RayJobs and their clusters")
        finally:
            # The kinds stay: a garbage collector that has followed a kind may stand still over its end.
            upgrade(world, "false")
            running.terminate()


def built(folder: Path) -> Path:
    """KubeRay's program in a folder; where its source lies."""
    (folder / "go.mod").write_text("module test\n")
    told = subprocess.run(
        ["go", "mod", "download", "-json", f"{KUBERAY}@{VERSION}"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    source = Path(json.loads(told.stdout)["Dir"])
    subprocess.run(["go", "build", "-o", str(folder / "manager"), "."], cwd=source, check=True)
    return source


def left(world: World) -> list[Object]:
    told = world.kube.kubectl("get", "rayjobs,rayclusters", "-o", "json")
    found: list[Object] = json.loads(told)["items"]
    return found


def upgrade(world: World, enabled: str) -> None:
    chart = str(target.ROOT / "charts" / "trimtab")
    place = ("--namespace", target.RELEASE_NAMESPACE, "--reuse-values", "--wait", "--timeout=3m")
    world.kube.helm("upgrade", target.RELEASE, chart, *place, "--set", f"ray.enabled={enabled}")


def dataset(name: str, uri: str, engine: str = "") -> str:
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: Dataset
metadata: {{name: {name}}}
spec:
  sources: [{{uri: "{uri}"}}]
  task: Text
  clean: {{languages: {{allow: [en]}}, pii: {{action: Redact}}, deduplicate: {{method: MinHash}}}}
  resources: {{cpu: 200m, memory: 3Gi}}
  storage: {{size: 1Gi}}
  {engine}
"""


def ended(world: World, name: str) -> Object:
    def over() -> bool:
        return bool(condition(world.kube.get("dataset", name), "Ready")["status"] != "Unknown")

    wait(over, 400, f"the end of Dataset {name}")
    return world.kube.get("dataset", name) or {}


@pytest.mark.usefixtures("kuberay")
def test_soak_kuberay_and_one_pod_come_to_the_same_data(world: World) -> None:
    lines = [
        json.dumps({"text": f"Write to person{n}@example.org about the matter of row {n * n}."})
        for n in range(COUNT)
    ]
    uri = world.push("rows", {"rows.jsonl": "\n".join(lines).encode()})
    spread = "engine: Ray\n  workers: {count: 1, resources: {cpu: 300m, memory: 2Gi}}"
    world.apply(dataset("alone", uri))
    world.apply(dataset("spread", uri, spread))
    alone, shared = ended(world, "alone")["status"], ended(world, "spread")["status"]
    assert shared["digest"] == alone["digest"]
    assert shared["imageDigest"] == alone["imageDigest"]
    assert shared["records"] == alone["records"]


@pytest.mark.usefixtures("kuberay")
def test_soak_what_kuberays_head_cannot_read_is_told_by_its_line(world: World) -> None:
    uri = world.push("torn", {"rows.jsonl": b'{"text": "one two three"}\n{"text": \n'})
    world.apply(dataset("torn", uri, "engine: Ray"))
    ready = condition(ended(world, "torn"), "Ready")
    assert ready["reason"] == "DataMalformed"
    assert "line 2" in ready["message"]
