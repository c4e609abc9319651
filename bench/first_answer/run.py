"""From `kubectl apply` of an adapter's ModelVersion to its first right answer through the gateway.

Run it on the local cluster after `make demo`. It makes variants of the demo's adapter, lets Trimtab
evaluate each once, and then registers each anew with its report, one after the other, while other
callers keep asking a sibling. Measured on the caller's side: from before kubectl starts until the
gateway's answer names the new version; the answer must be what the same version says later.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from examples.quickstart import target
from examples.quickstart.kube import Kube, condition, wait
from safetensors.numpy import load_file, save_file

from trimtab_local.layout import layout_from
from trimtab_oci import Reference, RegistryClient

NAMESPACE = "trimtab-bench"
DEMO = "trimtab-demo"
QUESTION = {
    "messages": [{"role": "user", "content": "What does os.path.isdir(s) do?"}],
    "max_tokens": 8,
    "temperature": 0,
}
RESULTS = Path(__file__).parents[1] / "results" / "first_answer.json"


def main() -> None:
    """Prepare, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    samples = parser.parse_args().samples
    layout = layout_from(os.environ)
    demo = Kube(layout.kubeconfig, DEMO, layout.programs)
    kube = Kube(layout.kubeconfig, NAMESPACE, layout.programs)
    place = target.Target(
        kube=kube,
        registry="registry.internal:5000/trimtab",
        registry_from_here=f"127.0.0.1:{layout.ports.registry}/trimtab",
        plain_http=True,
        image_prefix="localhost/trimtab",
    )
    kube.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n")
    base, original = copied(demo, kube)
    variants = asyncio.run(made(place, original, samples, layout.home.parent / "trimtab-bench"))
    reports = evaluated(kube, base, variants)
    kube.apply(version("fast-0", base, variants[0], reports[0]))
    kube.apply(service(base))
    ready(kube, "inferenceservice", "bench")
    with kube.forwarded("bench", 80) as url:
        result = measured(kube, url, base, variants, reports)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(
        json.dumps({k: v for k, v in result.items() if k != "seconds"}, indent=1) + "\n"
    )


def copied(demo: Kube, kube: Kube) -> tuple[str, dict[str, Any]]:
    """The demo's base registered in our namespace, with its report; and the demo's adapter."""
    versions = json.loads(demo.kubectl("get", "modelversions", "-o", "json"))["items"]
    base = next(v for v in versions if v["spec"]["artifact"]["kind"] == "Full")
    adapter = next(v for v in versions if v["spec"]["artifact"]["kind"] == "Adapter")
    name: str = base["metadata"]["name"]
    kube.apply(
        json.dumps(
            {
                "apiVersion": "trimtab.dev/v1alpha1",
                "kind": "ModelVersion",
                "metadata": {"name": name},
                "spec": {
                    "model": base["spec"]["model"],
                    "artifact": base["spec"]["artifact"],
                    "evaluation": {"report": base["status"]["evaluation"]["report"]},
                },
            }
        )
    )
    return name, adapter


async def made(
    place: target.Target, adapter: dict[str, Any], count: int, folder: Path
) -> list[dict[str, Any]]:
    """Artifacts of as many variants: the adapter's weights with a little noise, seeded by their number."""
    inside, outside = (a.partition("/")[0] for a in (place.registry, place.registry_from_here))
    here = adapter["spec"]["artifact"]["uri"].replace(inside, outside)
    artifacts = []
    async with RegistryClient(plain_http=True) as registry:
        manifest = await registry.manifest(Reference.parse(here))
        for number in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            await registry.pull(Reference.parse(here), folder)
            weights = folder / "adapter_model.safetensors"
            noise = np.random.default_rng(number)
            save_file(
                {
                    k: v + noise.normal(0, 0.02, v.shape).astype(v.dtype)
                    for k, v in load_file(weights).items()
                },
                weights,
                {"format": "pt"},
            )
            pushed = await registry.push_directory(
                folder,
                f"{place.registry_from_here}/bench/variant",
                kind="Adapter",
                annotations=manifest.annotations,
            )
            uri = f"oci://{place.registry}/bench/variant@{pushed.digest}"
            artifacts.append({**adapter["spec"]["artifact"], "uri": uri})
    shutil.rmtree(folder, ignore_errors=True)
    return artifacts


def evaluated(kube: Kube, base: str, artifacts: list[dict[str, Any]]) -> list[str]:
    """The address of each variant's report, as Trimtab's own evaluation wrote it."""
    names = [f"slow-{number}" for number in range(len(artifacts))]
    for name, artifact in zip(names, artifacts, strict=True):
        kube.apply(version(name, base, artifact, None))
    reports = []
    for name in names:
        ready(kube, "modelversion", name)
        reports.append((kube.get("modelversion", name) or {})["status"]["evaluation"]["report"])
        kube.kubectl("delete", "modelversion", name)
    return reports


def ready(kube: Kube, kind: str, name: str) -> None:
    """Wait until it is Ready."""
    wait(
        lambda: condition(kube.get(kind, name), "Ready")["status"] == "True",
        300,
        f"{kind} {name} Ready",
    )


def measured(
    kube: Kube, url: str, base: str, artifacts: list[dict[str, Any]], reports: list[str]
) -> dict[str, Any]:
    """Seconds from apply to answer for each variant but the first, and what the sibling's callers saw."""
    stop, asked, failed, seconds, wrong = threading.Event(), [0], [0], [], 0

    def sibling() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                asked[0] += 1
                failed[0] += client.post(
                    f"{url}/v1/chat/completions", json={"model": "sibling", **QUESTION}
                ).is_error
                time.sleep(0.05)

    caller = threading.Thread(target=sibling)
    caller.start()
    try:
        with httpx.Client(timeout=60) as client:
            for number in range(1, len(artifacts)):
                manifest = version(f"fast-{number}", base, artifacts[number], reports[number])
                began = time.monotonic()
                kube.apply(manifest)
                first = answered_by(client, url, f"fast-{number}")
                seconds.append(time.monotonic() - began)
                time.sleep(1)
                wrong += first != answered_by(client, url, f"fast-{number}")
    finally:
        stop.set()
        caller.join()
    ordered = sorted(seconds)
    return {
        "samples": len(seconds),
        "p50_seconds": round(statistics.median(ordered), 3),
        "p95_seconds": round(ordered[max(0, int(len(ordered) * 0.95 + 0.5) - 1)], 3),
        "wrong_first_answers": wrong,
        "sibling_requests": asked[0],
        "sibling_failures": failed[0],
        "seconds": [round(s, 3) for s in seconds],
    }


def answered_by(client: httpx.Client, url: str, wanted: str) -> str:
    """Ask until the version answers; what it said."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        answer = client.post(f"{url}/v1/chat/completions", json={"model": "bot", **QUESTION})
        if answer.is_success and answer.headers["x-trimtab-version"] == wanted:
            return str(answer.json()["choices"][0]["message"]["content"])
        time.sleep(0.02)  # an engine that only answers us would be slow at what we wait for
    raise TimeoutError(f"{wanted} did not answer within 60 s")


def version(name: str, base: str, artifact: dict[str, Any], report: str | None) -> str:
    """A ModelVersion manifest, as JSON."""
    return json.dumps(
        {
            "apiVersion": "trimtab.dev/v1alpha1",
            "kind": "ModelVersion",
            "metadata": {"name": name},
            "spec": {
                "model": "bot",
                "artifact": artifact,
                "baseModel": {"modelVersion": {"name": base}},
                "evaluation": {"report": report} if report else {},
            },
        }
    )


def service(base: str) -> str:
    """One engine, the newest version of `bot`."""
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: InferenceService
metadata: {{name: bench}}
spec:
  baseModel: {{name: base, modelVersion: {{name: "{base}"}}}}
  replicas: 1
  engine: {{gpus: 0, maxModelLength: 512, dtype: Float32, memory: 6Gi, adapters: {{maxRank: 16, slots: 4, resident: 32}}}}
  models:
    - {{name: bot, version: {{latestOf: bot}}}}
    - {{name: sibling, version: {{name: fast-0}}}}
  gateway: {{replicas: 1}}
"""


if __name__ == "__main__":
    main()
