"""What a job refers to, and what of it must be resolved in the cluster before training."""

import re
from dataclasses import dataclass
from typing import Final

from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import JobReason
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, ModelVersion
from trimtab_api.v1alpha1.common import DIGEST_PATTERN
from trimtab_api.v1alpha1.data import DatasetTask, PreparedRecords
from trimtab_api.v1alpha1.dataset import DatasetStatus
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.finetunejob import Objective, ResolvedInputs
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.conditions import find, is_true
from trimtab_operator.domain.dataset.inputs import not_ready
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.images import Image

BASE_NOT_READY: Final = JobReason.BASE_MODEL_NOT_READY
BASE_UNSUITABLE: Final = JobReason.BASE_MODEL_UNSUITABLE
DATASET_NOT_READY: Final = JobReason.DATASET_NOT_READY
DATASET_UNSUITABLE: Final = JobReason.DATASET_UNSUITABLE
_DIGEST: Final = re.compile(DIGEST_PATTERN)


@dataclass(frozen=True)
class Data:
    """Prepared data in the registry."""

    uri: str
    digest: str
    report: str | None = None
    records: PreparedRecords | None = None


@dataclass(frozen=True)
class Base:
    """A base model in the registry; both are empty for a model from scratch."""

    uri: str | None = None
    digest: str | None = None


def known_base(job: FineTuneJob, version: ModelVersion | None) -> Base | Finding | None:
    """The base as far as the spec and the cluster tell; None when a pod must find it out.

    A finding that is unknown passes by itself (the version is not Ready yet); any other is final.
    """
    source = job.spec.base_model
    if source.scratch is not None:
        return Base()
    if source.model_version is not None:
        return _of_version(job, source.model_version.name, version)
    uri = source.uri or ""
    digest = uri.rpartition("@")[2]
    if uri.startswith("oci://") and _DIGEST.match(digest):
        return Base(uri, digest)
    return None


def _of_version(job: FineTuneJob, name: str, version: ModelVersion | None) -> Base | Finding:
    if version is None:
        return Finding.unknown(
            BASE_NOT_READY, f"the base model's ModelVersion {name} does not exist in this namespace"
        )
    if version.spec.artifact.kind is not ArtifactKind.FULL:
        return Finding(
            BASE_UNSUITABLE,
            f"ModelVersion {name} is an adapter; baseModel.modelVersion must name a full version",
        )
    if _is_retired_before(job, version):
        return Finding(
            JobReason.BASE_MODEL_RETIRED,
            f"the base model's ModelVersion {name} was retired before this job was created; "
            "create a job with another base, or ask for a Decision with action Approve",
        )
    if not is_true(version.status.conditions, "Ready"):
        ready = find(version.status.conditions, "Ready")
        told = f": {ready.message}" if ready is not None and ready.message else ""
        return Finding.unknown(
            BASE_NOT_READY, f"the base model's ModelVersion {name} is not Ready{told}"
        )
    return Base(version.spec.artifact.uri, version.spec.artifact.digest)


def _is_retired_before(job: FineTuneJob, version: ModelVersion) -> bool:
    """A job that was there before the retirement is existing use, which goes on."""
    retired = find(version.status.conditions, "Retired")
    if retired is None or not is_true([retired], "Retired"):
        return False
    decided = max(
        (d.time for d in version.status.decisions if d.action is Action.RETIRE), default=""
    )
    return (job.metadata.creation_timestamp or "") > decided


def known_data(job: FineTuneJob, dataset: Dataset | None) -> Data | Finding | None:
    """The data as far as the cluster tells; None when a pod must prepare it.

    A finding that is unknown passes by itself (the Dataset is not Ready yet); any other is final.
    """
    name = job.spec.dataset.name
    if name is None:
        return None
    problem = not_ready(name, dataset)
    if problem is not None or dataset is None:
        return Finding.unknown(DATASET_NOT_READY, problem or name)
    fault = next((f for rule in _DATA_RULES if (f := rule(job, dataset.status))), None)
    if fault is not None:
        return Finding(DATASET_UNSUITABLE, f"Dataset {name} {fault}")
    status = dataset.status
    return Data(status.artifact or "", status.digest or "", status.report, status.records)


def _task_unsuitable(job: FineTuneJob, data: DatasetStatus) -> str | None:
    wanted = _TASKS[job.spec.objective]
    if data.task in wanted:
        return None
    listed = " or ".join(wanted)
    return (
        f"is of task {data.task}, and objective {job.spec.objective} needs {listed}; name a Dataset of such a task, "
        "or change the objective"
    )


def _nothing_to_validate(job: FineTuneJob, data: DatasetStatus) -> str | None:
    if job.spec.early_stopping is None or (data.records and data.records.validation):
        return None
    return (
        "has no record to validate with, and earlyStopping watches them; raise its split.validation, "
        "or remove earlyStopping"
    )


def _nothing_to_test(job: FineTuneJob, data: DatasetStatus) -> str | None:
    if not job.spec.evaluation.gates or (data.records and data.records.test):
        return None
    return "has no record to test with, and evaluation.gates judge them; raise its split.test, or remove the gates"


def _no_answers(job: FineTuneJob, data: DatasetStatus) -> str | None:
    gates = [g.metric for g in job.spec.evaluation.gates if g.metric not in _OF_TEXT]
    if data.task is not DatasetTask.TEXT or not gates:
        return None
    return (
        f"is of task Text, which has no answers to compare, and evaluation.gates are on {', '.join(gates)}; "
        "use Loss or Perplexity"
    )


_TASKS: Final = {
    Objective.SUPERVISED: (DatasetTask.INSTRUCTION, DatasetTask.CHAT),
    Objective.PRETRAINING: (DatasetTask.TEXT,),
}
_OF_TEXT: Final = frozenset({Metric.LOSS, Metric.PERPLEXITY})
# What admission asks of data that is described in the job, asked of what a Dataset really holds.
_DATA_RULES: Final = (_task_unsuitable, _nothing_to_validate, _nothing_to_test, _no_answers)


def found_data(result: PrepareResult) -> Data | None:
    """The data that a pod has prepared."""
    if result.data is None:
        return None
    return Data(result.data.uri, result.data.digest, result.report, result.records)


def found_base(result: PrepareResult) -> Base | None:
    """The base that a pod has mirrored."""
    return Base(result.base.uri, result.base.digest) if result.base is not None else None


def frozen(base: Base, data: Data, image: Image) -> ResolvedInputs:
    """What the references mean, from now on.

    `image` is that of the pod that has resolved them, if one had to: the job goes on with it.
    """
    return ResolvedInputs(
        base_model_uri=base.uri,
        base_model_digest=base.digest,
        dataset_uri=data.uri,
        dataset_digest=data.digest,
        dataset_report=data.report,
        image=image.reference,
        image_digest=image.digest,
    )
