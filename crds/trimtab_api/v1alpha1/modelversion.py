"""ModelVersion: an artifact, where it came from, and the proof of what it does."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_TYPE, ApiModel, Rule
from trimtab_api.rules import LABEL_LENGTH, exactly_one, short_name
from trimtab_api.v1alpha1.common import (
    OCI_DIGEST_URI_PATTERN,
    ONE_GPU,
    Condition,
    Digest,
    Gate,
    ImageDigest,
    Metric,
    ModelName,
    NamedReference,
    PodOverrides,
    Quantity,
    Resource,
    Uri,
)
from trimtab_api.v1alpha1.signing import SignatureStatus, Signing


class ArtifactKind(StrEnum):
    """A whole model, or an adapter that needs its base."""

    ADAPTER = "Adapter"
    FULL = "Full"


class Artifact(ApiModel):
    """The weights, by digest."""

    uri: Annotated[
        str,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="oci://registry/name@sha256:<64 hex>.",
        ),
    ]
    kind: Annotated[ArtifactKind, Field(description="Adapter or Full.")]
    rank: Annotated[
        int | None, Field(ge=1, le=512, description="Rank of an adapter; a full model has none.")
    ] = None

    @property
    def digest(self) -> str:
        """The manifest's digest, with its algorithm."""
        return self.uri.rpartition("@")[2]


class AdapterBase(ApiModel):
    """The model that an adapter belongs to; exactly one of uri and modelVersion. Compared by digest."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "uri", "modelVersion", what="baseModel", remedy="keep one and remove the other"
        ),
    )

    uri: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="The base: oci://registry/name@sha256:<64 hex>.",
        ),
    ] = None
    origin: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Where it was mirrored from, for people: hf://org/name@commit.",
        ),
    ] = None
    model_version: Annotated[
        NamedReference | None, Field(description="A full ModelVersion of this namespace.")
    ] = None


class LineageDataset(ApiModel):
    """The data that a version was trained on."""

    uri: Annotated[Uri | None, Field(description="The prepared data in the registry.")] = None
    digest: Annotated[Digest, Field(description="Its digest.")]


SettingName = Annotated[str, Field(min_length=1, max_length=64)]
SettingValue = Annotated[str, Field(max_length=256, description="Value of the setting.")]


class Lineage(ApiModel):
    """How a version was made; empty for an imported one."""

    dataset: Annotated[LineageDataset | None, Field(description="Data.")] = None
    image: Annotated[
        str | None, Field(max_length=1024, description="Image of the training pod.")
    ] = None
    image_digest: ImageDigest | None = None
    seed: Annotated[int | None, Field(description="Seed.")] = None
    objective: Annotated[str | None, Field(max_length=32, description="Objective.")] = None
    method: Annotated[
        str | None, Field(max_length=32, description="Method: lora, qlora, full.")
    ] = None
    hyperparameters: Annotated[
        dict[SettingName, SettingValue], Field(max_length=64, description="Settings, as text.")
    ] = Field(default_factory=dict)
    parent: Annotated[
        str | None, Field(max_length=253, description="The version that training went on from.")
    ] = None


class EvaluationDataset(ApiModel):
    """Prepared data whose test split is used."""

    uri: Annotated[
        str,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="oci://registry/name@sha256:<64 hex>.",
        ),
    ]


class EvaluationResources(ApiModel):
    """What the evaluation pod asks the cluster for."""

    rules: ClassVar[tuple[Rule, ...]] = (ONE_GPU,)

    gpus: Annotated[
        int, Field(ge=0, description="GPUs (nvidia.com/gpu): 1, or 0 to evaluate on the CPU.")
    ] = 0
    cpu: Annotated[Quantity, Field(description="CPU request, for example 4 or 500m.")] = "250m"
    memory: Annotated[
        Quantity,
        Field(
            description="Memory request, for example 32Gi. It is no limit: an evaluation may hold more of the model "
            "than its training did."
        ),
    ] = "1Gi"


class VersionEvaluation(ApiModel):
    """What the version must show. A report that is there is verified, not made again."""

    dataset: Annotated[
        EvaluationDataset | None,
        Field(description="Held-out data; without it only the fingerprint is taken."),
    ] = None
    gates: Annotated[list[Gate], Field(max_length=16, description="Thresholds; all must pass.")] = (
        Field(default_factory=list)
    )
    report: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="A report about this very artifact.",
        ),
    ] = None
    resources: Annotated[
        EvaluationResources,
        Field(description="What the evaluation pod asks for; a job hands on its own."),
    ] = EvaluationResources()
    pod: Annotated[
        PodOverrides,
        Field(
            description="Scheduling and environment of the evaluation pod; a job hands on its own."
        ),
    ] = PodOverrides()


class ModelVersionSpec(ApiModel):
    """An artifact and its origin; immutable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf", "spec of a ModelVersion cannot be changed; create a new ModelVersion"
        ),
        Rule(
            "self.artifact.kind != 'Adapter' || has(self.baseModel)",
            "baseModel is needed for artifact.kind Adapter; state the model that the adapter was trained on",
            at=".baseModel",
        ),
        Rule(
            "self.artifact.kind != 'Adapter' || has(self.artifact.rank)",
            "artifact.rank is needed for artifact.kind Adapter; it is r in adapter_config.json",
            at=".artifact.rank",
        ),
        Rule(
            "self.artifact.kind != 'Full' || !has(self.baseModel)",
            "baseModel belongs to adapters; remove it, or set artifact.kind: Adapter",
            at=".baseModel",
        ),
        Rule(
            "self.artifact.kind != 'Full' || !has(self.artifact.rank)",
            "artifact.rank belongs to adapters; remove it, or set artifact.kind: Adapter",
            at=".artifact.rank",
        ),
    )

    model: Annotated[ModelName, Field(description="The model that this is a version of.")]
    artifact: Annotated[Artifact, Field(description="The weights.")]
    base_model: Annotated[
        AdapterBase | None, Field(description="An adapter's base; a full model has none.")
    ] = None
    lineage: Annotated[Lineage, Field(description="How it was made.")] = Lineage()
    evaluation: Annotated[VersionEvaluation, Field(description="What it must show.")] = (
        VersionEvaluation()
    )
    signing: Annotated[
        Signing | None,
        Field(
            description="How artifact and report are signed once every gate has passed; the version is Ready only "
            "when it is signed. Without it nothing is signed."
        ),
    ] = None


class Producer(ApiModel):
    """A job that made exactly this artifact."""

    fine_tune_job: Annotated[str, Field(max_length=253, description="Name of the job.")]
    uid: Annotated[str, Field(max_length=64, description="Its uid.")]


class MetricValue(ApiModel):
    """One figure with its 95 % bootstrap interval, and that of the base on the same data."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    value: Annotated[float, Field(description="The version's.")]
    low: Annotated[float | None, Field(description="Lower end of the interval.")] = None
    high: Annotated[float | None, Field(description="Upper end of the interval.")] = None
    base: Annotated[float | None, Field(description="The base model's on the same data.")] = None


class GateResult(ApiModel):
    """What became of one gate."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    passed: Annotated[bool, Field(description="Whether it passed.")]
    message: Annotated[str, Field(max_length=512, description="The numbers, in one sentence.")]


class EvaluationStatus(ApiModel):
    """One evaluation of the version."""

    dataset_digest: Annotated[str | None, Field(max_length=71, description="The data.")] = None
    report: Annotated[
        str | None, Field(max_length=1024, description="The whole report in the registry.")
    ] = None
    examples: Annotated[int, Field(ge=0, description="Held-out records.")] = 0
    metrics: Annotated[list[MetricValue], Field(max_length=32, description="Figures.")] = Field(
        default_factory=list
    )
    gates: Annotated[list[GateResult], Field(max_length=16, description="Gates.")] = Field(
        default_factory=list
    )


class ModelVersionStatus(ApiModel):
    """What is known about the version."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="ArtifactVerified, Evaluated, Signed, Ready, InUse.",
            json_schema_extra=MAP_BY_TYPE,
        ),
    ] = Field(default_factory=list)
    producers: Annotated[
        list[Producer], Field(max_length=64, description="Jobs that made this artifact.")
    ] = Field(default_factory=list)
    evaluation: Annotated[EvaluationStatus | None, Field(description="The newest evaluation.")] = (
        None
    )
    signature: Annotated[SignatureStatus | None, Field(description="The newest signature.")] = None
    base_digest: Annotated[
        str | None, Field(max_length=71, description="Digest of an adapter's base.")
    ] = None
    base_uri: Annotated[
        str | None, Field(max_length=1024, description="An adapter's base in the registry.")
    ] = None
    size_bytes: Annotated[int | None, Field(ge=0, description="Size of the artifact.")] = None
    image: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Image that the evaluation pod is given; by digest if a node has pulled it from a registry.",
        ),
    ] = None
    image_digest: ImageDigest | None = None


class ModelVersion(Resource[ModelVersionSpec, ModelVersionStatus]):
    """An artifact, where it came from, and the proof of what it does."""

    rules: ClassVar[tuple[Rule, ...]] = short_name("ModelVersion", LABEL_LENGTH)
    definition: ClassVar[Definition] = Definition(
        kind="ModelVersion",
        plural="modelversions",
        short_name="mv",
        columns=(
            Column("Model", ".spec.model", description="The model that this is a version of."),
            Column("Kind", ".spec.artifact.kind", description="Adapter or Full."),
            Column(
                "Verified",
                status_of("ArtifactVerified"),
                description="Content is what its digest says.",
            ),
            Column("Evaluated", status_of("Evaluated"), description="Whether it was measured."),
            Column("Ready", status_of("Ready"), description="Whether it may be served."),
            Column("In-Use", status_of("InUse"), description="Whether something needs it."),
            AGE,
            Column("Signed", status_of("Signed"), priority=1, description="Whether it is signed."),
            Column("Reason", reason_of("Ready"), priority=1, description="Why it is Ready or not."),
            Column(
                "Message", message_of("Ready"), priority=1, description="The same in one sentence."
            ),
        ),
        selectable=(".spec.model", ".spec.artifact.kind"),
    )

    status: ModelVersionStatus = ModelVersionStatus()
