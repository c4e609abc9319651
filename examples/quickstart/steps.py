"""The steps from raw text to an answer. Each looks first at what is there, so that it goes on after an interruption."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from examples.quickstart import harvest
from examples.quickstart.kube import CommandFailed, Kube, Object, condition, holds, wait
from examples.quickstart.plot import Curve
from examples.quickstart.progress import Step, step
from examples.quickstart.target import Target

from trimtab_oci import RegistryClient

MANIFESTS = Path(__file__).parent / "manifests"
PREPARING_SECONDS = 900
TRAINING_SECONDS = 1800
SERVING_SECONDS = 900


def pushed(directory: Path, target: Target, name: str) -> str:
    """Put the files into the registry; their address by digest, as pods say it."""
    return asyncio.run(_push(directory, target, name))


async def _push(directory: Path, target: Target, name: str) -> str:
    async with RegistryClient(plain_http=target.plain_http) as registry:
        pushed = await registry.push_directory(
            directory,
            f"{target.registry_from_here}/quickstart/{name}",
            kind="Files",
            annotations={},
        )
    return f"oci://{target.registry}/quickstart/{name}@{pushed.digest}"


def data(target: Target, output: Path) -> dict[str, str]:
    """Harvest questions and text, push both to the registry; their addresses by digest."""
    with step("Data: documentation of Python's standard library") as shown:
        pairs, texts = harvest.harvest(output)
        addresses = {}
        for name in ("text", "pairs"):
            folder = output / name
            folder.mkdir(exist_ok=True)
            (output / f"{name}.jsonl").replace(folder / f"{name}.jsonl")
            addresses[name.upper()] = pushed(folder, target, name)
        shown.say(f"{pairs} questions with answers, {texts} texts, pushed to the registry")
    return addresses


def prepare(kube: Kube, names: Sequence[str], manifest: str) -> list[Object]:
    """Apply the Datasets, wait until all are Ready as they stand; the objects."""
    with step(f"Datasets {' and '.join(names)}") as shown:
        failed = [name for name in names if _is_given_up(kube.get("dataset", name))]
        if failed:
            # They would stay so until somebody asks again; making them anew is one way to ask.
            kube.delete(manifest)
            shown.note(f"{' and '.join(failed)} of an earlier run failed: all are made anew.")
        kube.apply(manifest)

        def ready() -> bool:
            for name in names:
                found = kube.get("dataset", name)
                state = condition(found, "Ready")
                if _is_given_up(found):
                    raise CommandFailed(f"Dataset {name} is not Ready: {state['message']}")
                if not holds(found, state):
                    shown.say(f"{name}: {state['message']}")
                    return False
            return True

        wait(ready, PREPARING_SECONDS, f"Datasets {' and '.join(names)} Ready")
        found = [kube.get("dataset", name) or {} for name in names]
        shown.say(
            ", ".join(f"{_kept(each)} records in {each['metadata']['name']}" for each in found)
        )
    return found


def _kept(dataset: Object) -> int:
    kept: int = dataset["status"]["records"]["kept"]
    return kept


def _is_given_up(dataset: Object | None) -> bool:
    state = condition(dataset, "Ready")
    generation = (dataset or {}).get("metadata", {}).get("generation", 0)
    return bool(state["status"] == "False" and state.get("observedGeneration", 0) >= generation)


def train(kube: Kube, name: str, manifest: str, title: str) -> tuple[str, Curve]:
    """Apply the FineTuneJob, follow it to its end; its ModelVersion and its losses."""
    with step(title) as shown:
        if condition(kube.get("finetunejob", name), "Failed")["status"] == "True":
            # It would go on with the image that it began with, which may be what was wrong.
            kube.delete(manifest)
            shown.note(f"FineTuneJob {name} of an earlier run failed and is made anew.")
        _put(kube, manifest, f"FineTuneJob {name}", shown)
        return _end_of(kube, name, shown)


def followed(kube: Kube, name: str, title: str) -> tuple[str, Curve]:
    """Follow a FineTuneJob that is there to its end; its ModelVersion and its losses."""
    with step(title) as shown:
        return _end_of(kube, name, shown)


def _end_of(kube: Kube, name: str, shown: Step) -> tuple[str, Curve]:
    losses: dict[int, float] = {}
    wait(
        lambda: _followed(kube, name, losses, shown),
        TRAINING_SECONDS,
        f"FineTuneJob {name} complete",
    )
    job = kube.get("finetunejob", name) or {}
    version: str = job["status"]["modelVersion"]
    shown.say(f"made {version}")
    return version, Curve(name, [(float(percent), loss) for percent, loss in losses.items()])


def evaluated(kube: Kube, version: str) -> Object:
    """Wait until the version is Ready; the object."""
    with step(f"Evaluation of {version}") as shown:

        def ready() -> bool:
            found = kube.get("modelversion", version)
            state = condition(found, "Ready")
            shown.say(state["message"])
            if state["status"] == "False" and state["reason"] not in {
                "Pending",
                "EvaluationPending",
                "Evaluating",
            }:
                raise CommandFailed(f"ModelVersion {version} is not Ready: {state['message']}")
            return bool(state["status"] == "True")

        wait(ready, SERVING_SECONDS, f"ModelVersion {version} Ready")
    return kube.get("modelversion", version) or {}


def serve(kube: Kube, manifest: str, name: str) -> Object:
    """Apply the InferenceService, wait until a real request was answered; the object."""
    with step("Serving: vLLM engine, adapter, gateway") as shown:
        _put(kube, manifest, f"InferenceService {name}", shown)

        def ready() -> bool:
            found = kube.get("inferenceservice", name)
            states = [
                condition(found, kind)
                for kind in ("EngineReady", "AdaptersReady", "GatewayReady", "Ready")
            ]
            behind = next((s for s in states if not holds(found, s)), None)
            shown.say(
                f"{behind['type']}: {behind['message']}" if behind else "a request was answered"
            )
            return behind is None

        wait(ready, SERVING_SECONDS, f"InferenceService {name} Ready")
    return kube.get("inferenceservice", name) or {}


def _put(kube: Kube, manifest: str, name: str, shown: Step) -> None:
    if kube.replace(manifest):
        shown.note(f"{name} of an earlier run had another spec, which is fixed: it is made anew.")


def rendered(name: str, **values: str) -> str:
    """A manifest of this example with its placeholders filled in."""
    return Template((MANIFESTS / name).read_text(encoding="utf-8")).substitute(values)


def _followed(kube: Kube, name: str, losses: dict[int, float], shown: Step) -> bool:
    job = kube.get("finetunejob", name)
    status = (job or {}).get("status") or {}
    progress = status.get("progress") or {}
    if progress.get("loss") is not None:
        losses[progress["percent"]] = progress["loss"]
    for kind in ("Failed", "Complete"):
        state = condition(job, kind)
        if state["status"] == "True":
            if kind == "Failed":
                raise CommandFailed(f"FineTuneJob {name} failed: {state['message']}")
            return True
    shown.say(_told(progress) if progress else condition(job, "Started")["message"])
    return False


def _told(progress: Object) -> str:
    parts = [f"{progress.get('percent', 0)} %"]
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.2f}")
    if progress.get("tokensPerSecond"):
        parts.append(f"{progress['tokensPerSecond']:.0f} tokens/s")
    if progress.get("etaSeconds") is not None:
        parts.append(f"{progress['etaSeconds']} s left")
    return ", ".join(parts)


def remembered(curves: list[Curve], path: Path) -> list[Curve]:
    """Losses seen in this run, or else in an earlier one."""
    before = json.loads(path.read_text()) if path.exists() else {}
    known = {curve.name: list(curve.points) or before.get(curve.name, []) for curve in curves}
    path.write_text(json.dumps(known))
    return [Curve(name, [tuple(point) for point in points]) for name, points in known.items()]
