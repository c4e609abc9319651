"""Evaluation: proof of what an artifact is and does."""

from pydantic import Field

from trimtab_api.documents.common import Mounted, Output, Owner, RunFailure, Stored
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.fingerprint import Fingerprint
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.evaluated import Comparison, MetricValue
from trimtab_api.v1alpha1.evaluation import Metric, SuiteName
from trimtab_api.v1alpha1.harness import Harness, HarnessFigure
from trimtab_api.v1alpha1.judge import Judge, JudgeCounts
from trimtab_api.v1alpha1.modelversion import ArtifactKind


class ContenderRun(ApiModel):
    """Another version that answers the same examples; as for the version itself, `base` is mounted
    for an adapter and `mounted` is the artifact of a full version.
    """

    name: str
    kind: ArtifactKind
    artifact: Stored
    rank: int | None = None
    base: Mounted | None = None
    mounted: Mounted | None = None


class ComparisonWanted(ApiModel):
    """One figure, to be compared with these contenders."""

    metric: Metric
    confidence: float
    versions: list[str]


class JudgeRun(ApiModel):
    """A judge at `url`; the Secret of its key is mounted at `names.CREDENTIALS_PATH/judge`."""

    judge: Judge
    url: str


class SuiteRun(ApiModel):
    """A suite to be asked: the cases that ship with the image, those of an artifact, or a judge."""

    name: SuiteName
    data: Stored | None = None
    judge: JudgeRun | None = None
    harness: Harness | None = None


class EvaluationRun(ApiModel):
    """The task of an evaluation pod.

    For an adapter `base` is mounted and the pod fetches `artifact` itself; for a full version
    `mounted` is the artifact and there is no base. Without `data` only the fingerprint is taken.
    `parent` is the contender that a full version was trained from.
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
    contenders: list[ContenderRun] = Field(default_factory=list)
    comparisons: list[ComparisonWanted] = Field(default_factory=list)
    suites: list[SuiteRun] = Field(default_factory=list)
    parent: str | None = None
    output: Output


class ReportedExample(ApiModel):
    """One held-out question with both answers, for people."""

    prompt: str
    reference: str
    answer: str
    base_answer: str | None = None


class Resampling(ApiModel):
    """How intervals were found: percentiles of a paired bootstrap over the examples."""

    resamples: int
    seed: int


class EvaluationReport(ApiModel):
    """The whole report; an OCI artifact whose subject is the version's artifact."""

    artifact_digest: str
    kind: ArtifactKind
    rank: int | None = None
    base_digest: str | None = None
    dataset_digest: str | None = None
    examples: int = 0
    metrics: list[MetricValue] = Field(default_factory=list)
    comparisons: list[Comparison] = Field(default_factory=list)
    resampling: Resampling | None = None
    judge: JudgeCounts | None = None
    harness: list[HarnessFigure] = Field(default_factory=list)
    samples: list[ReportedExample] = Field(default_factory=list)
    profile: ReferenceProfile | None = None
    fingerprint: Fingerprint


class EvaluationResult(ApiModel):
    """What an evaluation pod found; either a report or a failure.

    `shortened` says that lists were cut to fit into a termination message; the registry has all.
    """

    report_uri: str | None = None
    dataset_digest: str | None = None
    examples: int = 0
    metrics: list[MetricValue] = Field(default_factory=list)
    comparisons: list[Comparison] = Field(default_factory=list)
    judge: JudgeCounts | None = None
    harness: list[HarnessFigure] = Field(default_factory=list)
    rank: int | None = None
    size_bytes: int = 0
    failure: RunFailure | None = None
    shortened: bool = False
