"""What a user of the local cluster has: kubectl, the registry, manifests.

Everything is what a user would type: manifests applied by kubectl, requests over HTTP.
"""

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from examples.quickstart import target
from examples.quickstart.kube import CommandFailed, Kube, condition, post, wait

from trimtab_oci import RegistryClient

Object = dict[str, Any]
TRAINING_SECONDS = 240
QUESTION = {
    "messages": [{"role": "user", "content": "What does os.path.isdir(s) do?"}],
    "max_tokens": 8,
    "temperature": 0,
}
TINY = "{hiddenSize: 96, layers: 2, heads: 3, vocabularySize: 1024, contextLength: 256}"


@dataclass(frozen=True)
class World:
    """The installed product and what the tests put into it."""

    place: target.Target
    folder: Path

    @property
    def kube(self) -> Kube:
        """The tests' own namespace."""
        return self.place.kube

    def push(self, name: str, files: dict[str, bytes]) -> str:
        """Put files into the registry; their address as pods say it."""
        source = self.folder / name
        source.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (source / file).write_bytes(content)
        return asyncio.run(self._push(source, name))

    async def _push(self, source: Path, name: str) -> str:
        async with RegistryClient(plain_http=True) as registry:
            pushed = await registry.push_directory(
                source, f"{self.place.registry_from_here}/e2e/{name}", kind="Files", annotations={}
            )
        return f"oci://{self.place.registry}/e2e/{name}@{pushed.digest}"

    def apply(self, manifest: str) -> None:
        """kubectl apply."""
        self.kube.apply(manifest)

    def job_ends(self, name: str, seconds: float = TRAINING_SECONDS) -> Object:
        """Wait for Complete or Failed; the FineTuneJob."""

        def over() -> bool:
            job = self.kube.get("finetunejob", name)
            return any(condition(job, kind)["status"] == "True" for kind in ("Complete", "Failed"))

        wait(over, seconds, f"the end of FineTuneJob {name}", every=0.5)
        return self.kube.get("finetunejob", name) or {}

    def holds(
        self, kind: str, name: str, type_: str, status: str = "True", seconds: float = 180
    ) -> Object:
        """Wait until the condition has the status; the object."""
        wait(
            lambda: condition(self.kube.get(kind, name), type_)["status"] == status,
            seconds,
            f"{type_}={status} on {kind} {name} (now {condition(self.kube.get(kind, name), type_)})",
            every=0.3,
        )
        return self.kube.get(kind, name) or {}


def base_job(text: str, name: str = "base") -> str:
    """A FineTuneJob that makes a base model in half a minute."""
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: {name}}}
spec:
  baseModel: {{scratch: {TINY}}}
  dataset: {{inline: {{sources: [{{uri: "{text}"}}], task: Text, split: {{train: 96, validation: 0, test: 4, by: Record}}}}}}
  objective: Pretraining
  method: {{full: {{}}}}
  hyperparameters: {{epochs: 1, maxSteps: 120, learningRate: 0.005, batchSize: 16, maxLength: 128, packing: true, seed: 3}}
  output: {{model: {name}}}
  resources: {{gpus: 0, cpu: 300m, memory: 3Gi}}
  storage: {{size: 1Gi}}
"""


def adapter_job(
    pairs: str, base: str, name: str, seed: int = 1, steps: int = 40, **spec: object
) -> str:
    """A FineTuneJob that makes a LoRA adapter in about twenty seconds."""
    more = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in spec.items())
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: {name}}}
spec:
  baseModel: {{modelVersion: {{name: "{base}"}}}}
  dataset:
    inline:
      sources: [{{uri: "{pairs}"}}]
      columns: {{prompt: question, completion: answer}}
      split: {{train: 90, validation: 4, test: 6, by: Completion, seed: 7}}
  method: {{lora: {{rank: 8, alpha: 16}}}}
  hyperparameters: {{epochs: 5, maxSteps: {steps}, learningRate: 0.01, batchSize: 16, maxLength: 128, seed: {seed}}}
  output: {{model: bot}}
  resources: {{gpus: 0, cpu: 300m, memory: 3Gi}}
  storage: {{size: 1Gi}}
{more}"""


def service(base: str, name: str, versions: dict[str, str]) -> str:
    """An InferenceService with one engine on the CPU; `versions` maps public names to selectors."""
    models = "".join(
        f"    - {{name: {public}, version: {selector}}}\n" for public, selector in versions.items()
    )
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  baseModel: {{name: base, modelVersion: {{name: "{base}"}}}}
  replicas: 1
  engine: {{gpus: 0, maxModelLength: 256, dtype: Float32, cpu: 300m, memory: 6Gi, adapters: {{maxRank: 16, slots: 2, resident: 8}}}}
  models:
{models}  gateway: {{replicas: 1}}
"""


def active(world: World, version: str) -> None:
    """Wait until the service's `bot` is that version."""
    world.kube.kubectl(
        "wait",
        "inferenceservice/chat",
        "--timeout=60s",
        f"--for=jsonpath={{.status.models[?(@.name=='bot')].activeVersion}}={version}",
    )


def engine_pods(world: World) -> list[tuple[str, int]]:
    """Each engine pod's uid, and how often its containers were restarted."""
    pods = json.loads(
        world.kube.kubectl("get", "pods", "-l", "app.kubernetes.io/component=engine", "-o", "json")
    )
    return [
        (pod["metadata"]["uid"], sum(s["restartCount"] for s in statuses(pod)))
        for pod in pods["items"]
    ]


def statuses(pod: Object) -> list[Object]:
    """Of all containers; vLLM is a sidecar, which stands among the init containers."""
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


@contextmanager
def traffic(url: str, callers: int = 2) -> Iterator[list[str]]:
    """Callers that ask `bot` without a pause while the context lasts; what went wrong for them."""
    failures: list[str] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                post(f"{url}/v1/chat/completions", {"model": "bot", **QUESTION})
            except (CommandFailed, httpx.HTTPError) as error:
                failures.append(str(error))

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        for _ in range(callers):
            pool.submit(call)
        try:
            yield failures
        finally:
            stop.set()
