"""Evaluation: proof of what an artifact is and does."""

from pydantic import Field

from trimtab_api.documents.common import Mounted, Output, Owner, RunFailure, Stored
from trimtab_api.fingerprint import Fingerprint
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind, MetricValue


class EvaluationRun(ApiModel):
    """The task of an evaluation pod.

    For an adapter `base` is mounted and the pod fetches `artifact` itself; for a full version
    `mounted` is the artifact and there is no base. Without `data` only the fingerprint is taken.
    """

    owner: Owner
    kind: ArtifactKind
    artifact: Stored
    rank: int | None = None
    base: Mounted | None = None
    mounted: Mounted | None = None
    data: Stored | None = None
    max_examples: int = 200
    max_new_tokens: int = 64
    gpus: int = 0
    output: Output


class ReportedExample(ApiModel):
    """One held-out question with both answers, for people."""

    prompt: str
    reference: str
    answer: str
    base_answer: str | None = None


class EvaluationReport(ApiModel):
    """The whole report; an OCI artifact whose subject is the version's artifact."""

    artifact_digest: str
    kind: ArtifactKind
    rank: int | None = None
    base_digest: str | None = None
    dataset_digest: str | None = None
    examples: int = 0
    metrics: list[MetricValue] = Field(default_factory=list)
    samples: list[ReportedExample] = Field(default_factory=list)
    fingerprint: Fingerprint


class EvaluationResult(ApiModel):
    """What an evaluation pod found; either a report or a failure."""

    report_uri: str | None = None
    dataset_digest: str | None = None
    examples: int = 0
    metrics: list[MetricValue] = Field(default_factory=list)
    rank: int | None = None
    size_bytes: int = 0
    failure: RunFailure | None = None
