"""Tiny training runs on a folder: a document, some records, and a base that was made on the spot."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimtab_api import names
from trimtab_api.documents import TrainingRun
from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_pipelines.prepared import write_split

SCRATCH = {
    "hiddenSize": 32,
    "layers": 2,
    "heads": 2,
    "vocabularySize": 320,
    "contextLength": 64,
}
WORDS = ("red", "green", "blue", "seven", "eight", "nine", "cat", "dog", "bird", "fish")


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


BASE_DIGEST = digest_of("base")
DATA_DIGEST = digest_of("data")


def texts(count: int) -> list[dict[str, Any]]:
    """Sentences that are easy to learn, no two of them equal."""
    return [
        {"text": f"The {WORDS[i % 10]} {WORDS[i // 10 % 10]} has number {i}."} for i in range(count)
    ]


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i}?", "completion": f"A {WORDS[i % 10]}."} for i in range(count)]


def write_data(
    root: Path, train: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]] = ()
) -> None:
    folder = root / "volume" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("train", train), ("validation", validation)):
        write_split(folder, name, task_of(records), records)


def task_of(records: Sequence[dict[str, Any]]) -> DatasetTask:
    """The task whose records look like these."""
    first = records[0] if records else {}
    if "messages" in first:
        return DatasetTask.CHAT
    return DatasetTask.TEXT if "text" in first else DatasetTask.INSTRUCTION


def training_run(
    root: Path,
    *,
    base: Path | None = None,
    repository: str = "127.0.0.1:1/team/tiny",
    **changes: Any,
) -> TrainingRun:
    """A run whose document lies where a pod would find it."""
    settings = {"epochs": 2, "learningRate": 0.01, "batchSize": 4, "maxLength": 64, "seed": 3}
    document: dict[str, Any] = {
        "owner": {"kind": "FineTuneJob", "namespace": "team", "name": "tiny", "uid": "1"},
        "model": "tiny",
        "objective": "Pretraining" if base is None else "Supervised",
        "method": {"full": {}} if base is None else {"lora": {"rank": 4, "alpha": 8}},
        "data": {"uri": f"oci://127.0.0.1:1/team/data@{DATA_DIGEST}", "digest": DATA_DIGEST},
        "output": {"repository": repository, "resultTag": "run-1", "plainHttp": True},
    }
    document["hyperparameters"] = settings | changes.pop("hyperparameters", {})
    if base is None:
        document["scratch"] = SCRATCH
    else:
        uri = f"oci://127.0.0.1:1/team/base@{BASE_DIGEST}"
        document["base"] = {"uri": uri, "digest": BASE_DIGEST, "path": names.BASE_MODEL_PATH}
        place = root / "models" / "base"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(base)
    document |= changes
    file = root / names.RUN_DOCUMENT.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    return TrainingRun.model_validate(document)


def artifact(root: Path) -> dict[str, bytes]:
    """The files that a run has made."""
    folder = root / "volume" / "output" / "artifact"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
