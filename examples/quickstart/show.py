"""What came out, for people."""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.quickstart.kube import Object, post
from examples.quickstart.target import Target

from trimtab_oci import Reference, RegistryClient

QUESTIONS = 3
ENGINE_SECONDS = 180
LOWER_IS_BETTER = {"Loss", "Perplexity"}


def everything(
    target: Target, datasets: Sequence[Object], tuned: Object, service: Object, picture: Path
) -> None:
    """Objects, figures, answers, pictures, and the line to go on with."""
    kube = target.kube
    _title("What is in the cluster")
    for kind in ("datasets", "finetunejobs", "modelversions", "inferenceservices"):
        _print(kube.kubectl("get", kind))
    _title("What became of the records")
    _print(dropped(datasets))
    _title(f"{tuned['metadata']['name']} against its base, on held-out questions")
    _print(figures(tuned["status"]["evaluation"]))
    names = [model["name"] for model in service["status"]["models"]]
    with kube.forwarded(service["metadata"]["name"], 80) as url:
        _title("The same questions to both")
        for question, reference in held_out(target, tuned):
            _print(f"Q  {question}\n   documentation: {reference}")
            for name in names:
                _print(f"   {name:>13}: {answer(url, name, question)}")
    _title("Go on with")
    for dataset in datasets:
        page = report(target, dataset, picture.parent / "reports")
        _print(f"The report about {dataset['metadata']['name']}: {page}")
    _print(f"The loss curve: {picture}")
    _print(
        f"KUBECONFIG={kube.kubeconfig} {kube.tool('kubectl')} -n {kube.namespace} port-forward "
        f"service/{service['metadata']['name']} 8000:80 &\n"
        "curl -s http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{names[-1]}", "temperature": 0, "max_tokens": 48, '
        '"messages": [{"role": "user", "content": "What does os.path.isdir(s) do?"}]}\''
    )


def dropped(datasets: Sequence[Object]) -> str:
    """Records read, dropped by each step, and kept; one row per Dataset."""
    counts = [dataset["status"]["records"] for dataset in datasets]
    names = list(dict.fromkeys(d["step"] for each in counts for d in each.get("dropped", [])))
    # What no Dataset has dropped anything by is no news.
    lost = [{d["step"]: d["count"] for d in each.get("dropped", [])} for each in counts]
    shown = [name for name in names if any(row.get(name) for row in lost)]
    rows = [("", "read", *(f"-{name}" for name in shown), "kept", "train", "validation", "test")]
    for dataset, each, row in zip(datasets, counts, lost, strict=True):
        steps = (str(row.get(name, 0)) for name in shown)
        splits = (str(each[split]) for split in ("kept", "train", "validation", "test"))
        rows.append((dataset["metadata"]["name"], str(each["read"]), *steps, *splits))
    return _table(rows)


def report(target: Target, dataset: Object, folder: Path) -> str:
    """Where the page about the data is, on this machine."""
    uri = dataset["status"].get("report")
    if not uri:
        return "none was made"
    place = folder / dataset["metadata"]["name"]
    asyncio.run(_pull(target, uri, place))
    return str(place / "report.html")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def figures(evaluation: Object) -> str:
    """The evaluation as a table: base, tuned with its 95 % interval, and which is better."""
    rows = [("", "base", "tuned", "95 % interval", "")]
    for metric in evaluation["metrics"]:
        base, value = metric.get("base"), metric["value"]
        interval = (
            f"{metric['low']:.3f} to {metric['high']:.3f}" if metric.get("low") is not None else ""
        )
        better = (
            base is not None
            and (value < base) == (metric["metric"] in LOWER_IS_BETTER)
            and value != base
        )
        rows.append(
            (
                metric["metric"],
                f"{base:.3f}" if base is not None else "",
                f"{value:.3f}",
                interval,
                "better" if better else "",
            )
        )
    return _table(rows) + f"\n({evaluation['examples']} held-out questions)"


def held_out(target: Target, tuned: Object) -> list[tuple[str, str]]:
    """Questions of the version's own test split: neither model has ever seen their answers."""
    report = json.loads(asyncio.run(_document(target, tuned["status"]["evaluation"]["report"])))
    samples = report["samples"]
    chosen = samples[:: max(1, len(samples) // QUESTIONS)][:QUESTIONS]
    return [(sample["prompt"], sample["reference"]) for sample in chosen]


async def _document(target: Target, uri: str) -> bytes:
    here = uri.replace(target.registry, target.registry_from_here, 1)
    async with RegistryClient(plain_http=target.plain_http) as registry:
        return await registry.document(Reference.parse(here))


async def _pull(target: Target, uri: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    here = uri.replace(target.registry, target.registry_from_here, 1)
    async with RegistryClient(plain_http=target.plain_http) as registry:
        await registry.pull(Reference.parse(here), folder)


def answer(url: str, model: str, question: str) -> str:
    """What the model says, greedily."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 40,
    }
    # A cluster that was started again says for a while that engines are ready which only start.
    found = post(f"{url}/v1/chat/completions", body, patience=ENGINE_SECONDS)
    said: str = found["choices"][0]["message"]["content"]
    return " ".join(said.split())[:160]


def _title(text: str) -> None:
    _print(f"\n{text}\n{'─' * len(text)}")


def _print(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")
