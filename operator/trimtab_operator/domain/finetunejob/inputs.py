"""What a job refers to, and what of it must be resolved in the cluster before training."""

import re
from dataclasses import dataclass
from typing import Final

from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import JobReason
from trimtab_api.v1alpha1 import FineTuneJob, ModelVersion
from trimtab_api.v1alpha1.common import DIGEST_PATTERN
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.finetunejob import ResolvedInputs
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.conditions import find, is_true
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.images import Image

BASE_NOT_READY: Final = JobReason.BASE_MODEL_NOT_READY
BASE_UNSUITABLE: Final = JobReason.BASE_MODEL_UNSUITABLE
_DIGEST: Final = re.compile(DIGEST_PATTERN)


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


def frozen(base: Base | None, result: PrepareResult, image: Image) -> ResolvedInputs | None:
    """What the references mean, from now on; None when the result lacks a part.

    `image` is that of the pod that has resolved them: the job goes on with it.
    """
    if result.data is None:
        return None
    if base is None:
        if result.base is None:
            return None
        base = Base(result.base.uri, result.base.digest)
    return ResolvedInputs(
        base_model_uri=base.uri,
        base_model_digest=base.digest,
        dataset_uri=result.data.uri,
        dataset_digest=result.data.digest,
        image=image.reference,
        image_digest=image.digest,
    )
