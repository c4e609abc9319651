"""What a training leaves on the volume: the artifact's files and what is to be told about them.

It is there as a whole or not at all. A pod that finds it has only to publish.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trimtab_api.documents import ProgressReport, TrainingRun
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_pipelines.files import put_in_place

_SUMMARY = "summary.json"
_ARTIFACT = "artifact"


class Summary(ApiModel):
    """What a finished training has to tell."""

    identity: str
    kind: ArtifactKind
    rank: int | None = None
    progress: ProgressReport
    train_loss: float | None = None
    eval_loss: float | None = None
    tokens: int = 0
    seconds: float = 0
    threads: int = 0
    parameters: int = 0
    trained_parameters: int = 0
    records: int = 0
    cut: int = 0
    dropped: int = 0
    early_stopped_at: int | None = None


def identity(run: TrainingRun) -> str:
    """A digest of all that decides what the run makes; who asks for it and where it goes does not."""
    deciding = run.model_dump(mode="json", exclude={"owner", "model", "output", "data", "base"})
    deciding["data"] = run.data.digest
    deciding["base"] = run.base.digest if run.base else None
    text = json.dumps(deciding, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def artifact_directory(output: Path) -> Path:
    return output / _ARTIFACT


def finished(output: Path, run: TrainingRun) -> Summary | None:
    """What an earlier pod of this run has finished, if it has."""
    try:
        summary = Summary.model_validate_json((output / _SUMMARY).read_bytes())
    except (OSError, ValidationError):
        return None
    return summary if summary.identity == identity(run) else None


def fresh_directory(output: Path) -> Path:
    """Where the artifact is put together; `complete` gives it its name."""
    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / _ARTIFACT).mkdir(parents=True)
    return part


def complete(part: Path, output: Path, summary: Summary) -> None:
    (part / _SUMMARY).write_text(summary.model_dump_json(by_alias=True, exclude_none=True))
    put_in_place(part, output)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """JSON whose bytes depend on the content alone."""
    file.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
