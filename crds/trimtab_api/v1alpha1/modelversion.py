"""ModelVersion: an artifact, where it came from, and the proof of what it does."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_ACTION, MAP_BY_TYPE, TIMESTAMP, ApiModel, Rule
from trimtab_api.rules import LABEL_LENGTH, exactly_one, short_name
from trimtab_api.v1alpha1.common import (
    OCI_DIGEST_URI_PATTERN,
    Condition,
    Digest,
    ImageDigest,
    ModelName,
    NamedReference,
    ObjectName,
    Resource,
    Uri,
)
from trimtab_api.v1alpha1.decision import Action, UserName, Why
from trimtab_api.v1alpha1.evaluated import BestVersion, EvaluationStatus
from trimtab_api.v1alpha1.evaluation import VersionEvaluation
from trimtab_api.v1alpha1.lineage import LineageGraph
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

    name: Annotated[
        ObjectName | None,
        Field(description="The Dataset that it came from; none where a job described its own."),
    ] = None
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
    author: Annotated[UserName | None, Field(description="Who created the job.")] = None


class VersionUser(ApiModel):
    """An object that needs the version."""

    kind: Annotated[
        str, Field(max_length=63, description="InferenceService, FineTuneJob or ModelVersion.")
    ]
    name: Annotated[str, Field(max_length=253, description="Its name.")]
    role: Annotated[
        str,
        Field(
            max_length=128,
            description="base; or active, candidate or named, and for which public name.",
        ),
    ]


class Ruling(ApiModel):
    """A Decision, as the version remembers it: deleting the Decision undoes nothing."""

    action: Annotated[Action, Field(description="What was decided.")]
    decision: Annotated[str, Field(max_length=253, description="Name of the Decision.")]
    uid: Annotated[str, Field(max_length=64, description="Its uid.")]
    by: Annotated[UserName, Field(description="Who decided.")]
    reason: Annotated[Why, Field(description="Why.")]
    time: Annotated[
        str,
        Field(max_length=32, description="When it was created.", json_schema_extra=TIMESTAMP),
    ]


class Contender(ApiModel):
    """A version to be compared with, as it was when it was chosen."""

    name: Annotated[str, Field(max_length=253, description="Name of the ModelVersion.")]
    uri: Annotated[str, Field(max_length=1024, description="Its artifact, by digest.")]
    kind: Annotated[ArtifactKind, Field(description="Adapter or Full.")]
    rank: Annotated[int | None, Field(ge=1, le=512, description="Rank of an adapter.")] = None
    base_uri: Annotated[
        str | None, Field(max_length=1024, description="An adapter's base, by digest.")
    ] = None
    dataset_uri: Annotated[
        str | None, Field(max_length=1024, description="The data that it was evaluated on.")
    ] = None
    problem: Annotated[
        str | None, Field(max_length=512, description="Why it cannot be compared with.")
    ] = None


class Opponents(ApiModel):
    """Whom the version is compared with; chosen once, before its evaluation begins."""

    champion: Annotated[
        str | None, Field(max_length=253, description="The champion; none where there is none.")
    ] = None
    reason: Annotated[
        str,
        Field(max_length=512, description="Why this one is the champion, or why there is none."),
    ]
    best: Annotated[
        list[BestVersion],
        Field(max_length=16, description="The best version so far by each compared figure."),
    ] = Field(default_factory=list)
    parent: Annotated[
        str | None,
        Field(
            max_length=253,
            description="The version that a full one was trained from; the suite Forgetting asks it.",
        ),
    ] = None
    contenders: Annotated[
        list[Contender], Field(max_length=18, description="All of them, with their artifacts.")
    ] = Field(default_factory=list)
    retry: Annotated[
        str | None,
        Field(max_length=253, description="The request to try again that they were chosen for."),
    ] = None


class ModelVersionStatus(ApiModel):
    """What is known about the version."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="ArtifactVerified, Evaluated, Signed, Ready, InUse, Approved, Retired.",
            json_schema_extra=MAP_BY_TYPE,
        ),
    ] = Field(default_factory=list)
    producers: Annotated[
        list[Producer], Field(max_length=64, description="Jobs that made this artifact.")
    ] = Field(default_factory=list)
    used_by: Annotated[
        list[VersionUser],
        Field(
            max_length=64, description="Who needs it; the first 64. InUse says the same in words."
        ),
    ] = Field(default_factory=list)
    decisions: Annotated[
        list[Ruling],
        Field(
            max_length=8,
            description="The last Decision of each action that counts, whether or not it is still there.",
            json_schema_extra=MAP_BY_ACTION,
        ),
    ] = Field(default_factory=list)
    evaluation: Annotated[EvaluationStatus | None, Field(description="The newest evaluation.")] = (
        None
    )
    opponents: Annotated[
        Opponents | None,
        Field(
            description="Whom gates with notWorseThan, and the suite Forgetting, compare it with."
        ),
    ] = None
    signature: Annotated[SignatureStatus | None, Field(description="The newest signature.")] = None
    base_digest: Annotated[
        str | None, Field(max_length=71, description="Digest of an adapter's base.")
    ] = None
    base_uri: Annotated[
        str | None, Field(max_length=1024, description="An adapter's base in the registry.")
    ] = None
    size_bytes: Annotated[int | None, Field(ge=0, description="Size of the artifact.")] = None
    lineage: Annotated[
        LineageGraph | None,
        Field(
            description="The graph around the version: data, jobs, base, services. What it was made from stays when "
            "those objects are gone."
        ),
    ] = None
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
            Column(
                "Approved", status_of("Approved"), description="Whether somebody has approved it."
            ),
            Column("Retired", status_of("Retired"), description="Whether it is out of use."),
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
