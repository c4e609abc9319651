"""What Trimtab takes up: memory of the operator at rest and with 100 objects, and sizes of the images.

Run it on the local cluster with the chart installed. The objects are suspended FineTuneJobs in a
namespace of their own, which is removed at the end.
"""

import json
import os
import sys
import time
from pathlib import Path

from examples.quickstart.kube import Kube, wait
from examples.quickstart.target import IMAGES, RELEASE_NAMESPACE

from trimtab_local.buildah import Buildah
from trimtab_local.layout import layout_from

NAMESPACE = "trimtab-footprint"
OBJECTS = 100
SETTLE_SECONDS = 15
RESULTS = Path(__file__).parents[1] / "results" / "footprint.json"


def main() -> None:
    """Measure, print and keep the figures."""
    layout = layout_from(os.environ)
    operator = Kube(layout.kubeconfig, RELEASE_NAMESPACE, layout.programs)
    kube = Kube(layout.kubeconfig, NAMESPACE, layout.programs)
    # A fresh process: what an earlier load left in its memory is not "at rest".
    operator.kubectl(
        "rollout", "restart", "deployment", "-l", "app.kubernetes.io/component=operator"
    )
    operator.kubectl(
        "rollout", "status", "deployment", "-l", "app.kubernetes.io/component=operator"
    )
    time.sleep(SETTLE_SECONDS)
    result: dict[str, object] = {"operator_mib_at_rest": memory(operator)}
    kube.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n")
    try:
        kube.apply("\n---\n".join(job(number) for number in range(OBJECTS)))
        wait(lambda: told(kube) == OBJECTS, 120, "a status for every object")
        time.sleep(SETTLE_SECONDS)
        result[f"operator_mib_with_{OBJECTS}_objects"] = memory(operator)
    finally:
        kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    result["images"] = sizes()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def memory(operator: Kube) -> float:
    """Resident memory of the leader's process, MiB, as it says itself; a standby has less."""
    return max(_said(operator, name) for name in _pods(operator))


def _pods(operator: Kube) -> list[str]:
    found = operator.kubectl(
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=operator",
        "--field-selector=status.phase=Running",
        "-o",
        "name",
    )
    return [line.removeprefix("pod/") for line in found.split()]


def _said(operator: Kube, pod: str) -> float:
    path = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{pod}:8080/proxy/metrics"
    samples = dict(
        line.rsplit(" ", 1)
        for line in operator.kubectl("get", "--raw", path).splitlines()
        if not line.startswith("#")
    )
    return round(float(samples["process_resident_memory_bytes"]) / (1 << 20), 1)


def told(kube: Kube) -> int:
    """How many objects have a condition."""
    items = json.loads(kube.kubectl("get", "finetunejobs", "-o", "json"))["items"]
    return sum(1 for item in items if (item.get("status") or {}).get("conditions"))


def sizes() -> dict[str, str]:
    """Unpacked size of each image with its layers, as the builder says it."""
    layout = layout_from(os.environ)
    builder = Buildah(layout.cache / "containers", Path("/run/trimtab-buildah"))
    listed = json.loads(builder.ask(["images", "--json"]) or "[]")
    by_name = {name: image for image in listed for name in image.get("names") or ()}
    return {
        name: by_name[f"localhost/trimtab/{name}:dev"]["size"]
        for name in IMAGES
        if f"localhost/trimtab/{name}:dev" in by_name
    }


def job(number: int) -> str:
    """A FineTuneJob that waits."""
    return f"""apiVersion: trimtab.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: job-{number}}}
spec:
  suspend: true
  baseModel: {{modelVersion: {{name: none}}}}
  dataset: {{inline: {{sources: [{{uri: "oci://registry.internal:5000/none:v1"}}]}}}}
  method: {{lora: {{}}}}
  output: {{model: none}}
"""


if __name__ == "__main__":
    main()
