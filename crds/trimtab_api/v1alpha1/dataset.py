"""Dataset: sources, what is done to them, and the prepared data by digest."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_TYPE, ApiModel, Rule
from trimtab_api.rules import OWNER_NAME_LENGTH, exactly_one, short_name
from trimtab_api.v1alpha1.common import (
    LONGEST_SPAN,
    OCI_DIGEST_URI_PATTERN,
    Condition,
    ImageDigest,
    NamedReference,
    PodOverrides,
    Quantity,
    Resource,
)
from trimtab_api.v1alpha1.data import DataDescription, DatasetTask, PreparedRecords, data_rules
from trimtab_api.v1alpha1.synthetic import Synthetic


class HeldOutReference(ApiModel):
    """Prepared data whose held-out records must not be learned from; exactly one of dataset and uri."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("dataset", "uri", what="against", remedy="keep one and remove the other"),
    )

    dataset: Annotated[
        NamedReference | None,
        Field(description="A Dataset of this namespace; it is waited for until it is Ready."),
    ] = None
    uri: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="Prepared data in the registry: oci://registry/name@sha256:<64 hex>.",
        ),
    ] = None


class LeakageAction(StrEnum):
    """What becomes of training records that are held out elsewhere."""

    FAIL = "Fail"
    DROP = "Drop"


class Leakage(ApiModel):
    """Held-out records of other data, which must not be in the training split: equal or nearly so."""

    against: Annotated[
        list[HeldOutReference],
        Field(
            min_length=1, max_length=16, description="Data whose test and validation splits count."
        ),
    ]
    action: Annotated[
        LeakageAction,
        Field(
            description="Fail ends the preparation and names examples; Drop leaves the training records out and "
            "counts them."
        ),
    ] = LeakageAction.FAIL


class PreparationResources(ApiModel):
    """What the preparing pod asks the cluster for."""

    cpu: Annotated[Quantity | None, Field(description="CPU request, for example 4 or 500m.")] = None
    memory: Annotated[
        Quantity | None, Field(description="Memory request and limit, for example 2Gi.")
    ] = None


class PreparationEngine(StrEnum):
    """Who does the work."""

    LOCAL = "Local"
    RAY = "Ray"


class WorkerResources(ApiModel):
    """What each worker asks the cluster for."""

    cpu: Annotated[
        Quantity,
        Field(description="CPU request; so many batches, rounded up, are worked on at once."),
    ] = "1"
    memory: Annotated[Quantity, Field(description="Memory request and limit.")] = "2Gi"


class PreparationWorkers(ApiModel):
    """Pods that share the work on records."""

    count: Annotated[int, Field(ge=1, le=1000, description="How many.")] = 2
    resources: Annotated[WorkerResources, Field(description="What each asks for.")] = (
        WorkerResources()
    )


class ScratchStorage(ApiModel):
    """The volume of the preparing pod: indexes and results before they are pushed. It goes with the pod."""

    size: Annotated[
        Quantity,
        Field(description="Size of the claim; twice the size of the sources is enough."),
    ] = "10Gi"
    class_name: Annotated[
        str | None,
        Field(max_length=253, description="StorageClass; empty means the cluster's default."),
    ] = None


class DatasetSpec(DataDescription):
    """What is to be prepared. It may change: then it is prepared anew, and the earlier result stays until that is done."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *data_rules("(self.task == 'Text' || has(self.synthetic))"),
        Rule(
            "!has(self.synthetic) || self.task == 'Instruction'",
            "synthetic writes question-answer pairs; set task: Instruction, or remove synthetic",
            at=".synthetic",
        ),
        Rule(
            "!has(self.synthetic) || !has(self.templates) || !(has(self.templates.prompt) || "
            "has(self.templates.completion))",
            "with synthetic the teacher writes prompt and completion; use templates.text for what it reads",
            at=".templates",
        ),
        Rule(
            "!has(self.synthetic) || !has(self.columns.label)",
            "pairs that a teacher writes have no label; remove columns.label, or synthetic",
            at=".columns.label",
        ),
        Rule(
            "!has(self.workers) || self.engine == 'Ray'",
            "workers belong to engine: Ray; set it, or remove workers",
            at=".workers",
        ),
        Rule(
            "self.engine != 'Ray' || !has(self.synthetic)",
            "a teacher is waited for, whoever asks it; use engine: Local with synthetic",
            at=".engine",
        ),
    )

    engine: Annotated[
        PreparationEngine,
        Field(
            description="Local: one pod. Ray: one pod reads, compares and writes, and workers of a RayJob clean the "
            "records and make their signatures; it takes KubeRay and ray.enabled in the chart. Both come to the same data."
        ),
    ] = PreparationEngine.LOCAL
    workers: Annotated[
        PreparationWorkers | None, Field(description="For engine: Ray. Two workers unless stated.")
    ] = None
    synthetic: Annotated[
        Synthetic | None,
        Field(
            description="A model writes the records: sources are read as texts (documents, or records with "
            "columns.text), and question-answer pairs about them take their place."
        ),
    ] = None
    leakage: Annotated[
        Leakage | None, Field(description="Held-out data of others that must not be learned.")
    ] = None
    resources: Annotated[
        PreparationResources, Field(description="What the preparing pod asks for.")
    ] = PreparationResources()
    storage: Annotated[ScratchStorage, Field(description="The preparing pod's volume.")] = (
        ScratchStorage()
    )
    pod: Annotated[
        PodOverrides, Field(description="Scheduling and environment of the preparing pod.")
    ] = PodOverrides()
    active_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=LONGEST_SPAN,
            description="Longest time that the preparation may run, in seconds.",
        ),
    ] = None


class HeldOutData(ApiModel):
    """Data that the training split is compared with, by digest."""

    dataset: Annotated[
        str | None, Field(max_length=253, description="The Dataset that it was named by.")
    ] = None
    uri: Annotated[str, Field(max_length=1024, description="The data in the registry.")]


class DatasetStatus(ApiModel):
    """What is known about the data. Digest, artifact, report, task and records belong together: one preparation's."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(max_length=16, description="Ready.", json_schema_extra=MAP_BY_TYPE),
    ] = Field(default_factory=list)
    digest: Annotated[
        str | None, Field(max_length=71, description="Digest of the prepared data.")
    ] = None
    artifact: Annotated[
        str | None, Field(max_length=1024, description="The prepared data in the registry.")
    ] = None
    report: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="The report in the registry, an artifact with report.html and report.json.",
        ),
    ] = None
    recording: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="What the teacher of spec.synthetic has answered, in the registry; the next preparation asks "
            "only what is not in it.",
        ),
    ] = None
    task: Annotated[DatasetTask | None, Field(description="What one record of it is.")] = None
    records: Annotated[
        PreparedRecords | None, Field(description="What became of the records that were read.")
    ] = None
    held_out: Annotated[
        list[HeldOutData],
        Field(
            max_length=16,
            description="What leakage.against means to the present preparation, frozen before it began.",
        ),
    ] = Field(default_factory=list)
    prepared_generation: Annotated[
        int, Field(ge=0, description="The metadata.generation whose preparation made the artifact.")
    ] = 0
    image: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Image of the pod that prepared it; by digest if a node has pulled it from a registry.",
        ),
    ] = None
    image_digest: ImageDigest | None = None
    attempt: Annotated[int, Field(ge=0, description="How often it was tried again on request.")] = 0
    retry: Annotated[
        str | None,
        Field(max_length=253, description="The last request to try again that was served."),
    ] = None


class Dataset(Resource[DatasetSpec, DatasetStatus]):
    """Data to learn from: where it comes from, how it is cleaned and divided, and what came out, by digest."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *short_name("Dataset", OWNER_NAME_LENGTH),
        Rule(
            "!has(self.spec.leakage) || self.spec.leakage.against.all(a, "
            "!has(a.dataset) || a.dataset.name != self.metadata.name)",
            "leakage.against names the Dataset itself, whose own held-out records are kept apart anyway; remove it",
            at=".spec.leakage.against",
        ),
    )
    definition: ClassVar[Definition] = Definition(
        kind="Dataset",
        plural="datasets",
        short_name="tds",
        columns=(
            Column("Task", ".spec.task", description="What one record is."),
            Column(
                "Records", ".status.records.kept", "integer", description="Records that were kept."
            ),
            Column("Digest", ".status.digest", description="Digest of the prepared data."),
            Column("Ready", status_of("Ready"), description="Whether it can be used."),
            AGE,
            Column("Reason", reason_of("Ready"), priority=1, description="Why it is Ready or not."),
            Column(
                "Message", message_of("Ready"), priority=1, description="The same in one sentence."
            ),
        ),
        selectable=(".spec.task",),
    )

    status: DatasetStatus = DatasetStatus()
