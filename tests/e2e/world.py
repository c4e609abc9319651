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

from trimtab_api import names
from trimtab_oci import RegistryClient

Object = dict[str, Any]
TRAINING_SECONDS = 240
QUESTION: Object = {
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

    def trained(self, manifest: str, name: str) -> str:
        """Have a FineTuneJob made; the name of its version, once that is Ready."""
        self.apply(manifest)
        version: str = self.job_ends(name)["status"]["modelVersion"]
        self.holds("modelversion", version, "Ready")
        return version

    def holds(
        self, kind: str, name: str, type_: str, status: str = "True", seconds: float = 180
    ) -> Object:
        """Wait until the condition has the status; the object."""
        return self._until(kind, name, type_, "status", status, seconds)

    def says(self, kind: str, name: str, type_: str, reason: str, seconds: float = 60) -> Object:
        """Wait until the condition has the reason, with a sentence to it; the object."""
        found = self._until(kind, name, type_, "reason", reason, seconds)
        assert condition(found, type_)["message"]
        return found

    def _until(
        self, kind: str, name: str, type_: str, field: str, value: str, seconds: float
    ) -> Object:
        found: Object = {}

        def reached() -> bool:
            nonlocal found
            found = self.kube.get(kind, name) or {}
            return bool(condition(found, type_)[field] == value)

        what = f"{type_} with {field} {value} on {kind} {name}"
        try:
            wait(reached, seconds, what, every=0.3)
        except CommandFailed as late:
            raise AssertionError(f"{late}; now {condition(found, type_)}") from late
        return found


def base_job(text: str, name: str = "base", seed: int = 3) -> str:
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
  hyperparameters: {{epochs: 1, maxSteps: 120, learningRate: 0.005, batchSize: 16, maxLength: 128, packing: true, seed: {seed}}}
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


def service(base: str, name: str, versions: dict[str, str], memory: str = "4Gi") -> str:
    """An InferenceService with one engine on the CPU; `versions` maps public names to selectors."""
    models = ", ".join(
        f"{{name: {public}, version: {selector}}}" for public, selector in versions.items()
    )
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  baseModel: {{name: base, modelVersion: {{name: "{base}"}}}}
  replicas: 1
  engine: {{gpus: 0, maxModelLength: 256, dtype: Float32, cpu: 300m, memory: {memory}, adapters: {{maxRank: 16, slots: 2, resident: 8}}}}
  models: [{models}]
  gateway: {{replicas: 1}}
"""


def named(version: str) -> str:
    """How a service says which version it wants."""
    return f'{{name: "{version}"}}'


def ask(url: str, name: str) -> httpx.Response:
    """One question to a public name."""
    return httpx.post(f"{url}/v1/chat/completions", json={"model": name, **QUESTION}, timeout=60)


def answered_by(url: str, name: str = "bot") -> str:
    """The version that answers under a public name."""
    return str(ask(url, name).raise_for_status().headers["x-trimtab-version"])


def serve(world: World, base: str, version: str) -> None:
    """Have the service's `bot` answered by that version, and wait until it is."""
    world.apply(service(base, "chat", {"bot": named(version)}))
    world.kube.kubectl(
        "wait",
        "inferenceservice/chat",
        "--timeout=60s",
        f"--for=jsonpath={{.status.models[?(@.name=='bot')].activeVersion}}={version}",
    )


def pods(world: World, selector: str, namespace: str = "") -> list[Object]:
    """The pods with these labels, the oldest first; of the tests' own namespace unless told."""
    place = ["--namespace", namespace or world.kube.namespace]
    by_age = "--sort-by=.metadata.creationTimestamp"
    text = world.kube.kubectl("get", "pods", *place, "-l", selector, by_age, "-o", "json")
    found: list[Object] = json.loads(text)["items"]
    return found


def running(world: World, name: str) -> Object:
    """Wait until a FineTuneJob has made a step; its pod."""

    def trains() -> bool:
        status = (world.kube.get("finetunejob", name) or {}).get("status", {})
        return bool(status.get("progress", {}).get("step", 0) > 0)

    wait(trains, 180, f"the first step of {name}", every=0.3)
    return trainers(world, name)[-1]


def trainers(world: World, name: str) -> list[Object]:
    """The training pods of a FineTuneJob, the oldest first."""
    return pods(world, f"trimtab.dev/finetunejob={name},app.kubernetes.io/component=train")


def part(name: str, component: str) -> str:
    """The labels of the pods of one part of a service."""
    return f"trimtab.dev/inferenceservice={name},app.kubernetes.io/component={component}"


def restarts(world: World, component: str = "engine", name: str = "chat") -> dict[str, int]:
    """How often the containers of each pod of a service were restarted, by the pod's uid."""
    return {
        pod["metadata"]["uid"]: sum(s["restartCount"] for s in statuses(pod))
        for pod in pods(world, part(name, component))
    }


def measured(world: World, component: str, series: str, name: str = "chat") -> float:
    """The sum of the metrics of a service's part whose lines begin so."""
    port = names.PORT_AGENT if component == names.ENGINE else names.PORT_GATEWAY_ADMIN
    pod = pods(world, part(name, component))[-1]["metadata"]["name"]
    path = f"/api/v1/namespaces/{world.kube.namespace}/pods/{pod}:{port}/proxy/metrics"
    lines = world.kube.kubectl("get", "--raw", path).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def statuses(pod: Object) -> list[Object]:
    """Of all containers; vLLM is a sidecar, which stands among the init containers."""
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


@contextmanager
def traffic(url: str, callers: int = 2, pause: float = 0) -> Iterator[list[str]]:
    """Callers that ask `bot` while the context lasts; what went wrong for them.

    Without a pause, in seconds, they leave no processor for an engine that starts.
    """
    failures: list[str] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.wait(pause):
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
