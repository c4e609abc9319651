"""FineTuneJob: one training run, from data and a base model to a ModelVersion."""

from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_TYPE, TIMESTAMP, ApiModel, Rule
from trimtab_api.rules import OWNER_NAME_LENGTH, exactly_one, immutable, model_address, short_name
from trimtab_api.v1alpha1.common import (
    LONGEST_SPAN,
    ONE_GPU,
    Condition,
    ImageDigest,
    ModelName,
    NamedReference,
    ObjectName,
    PodOverrides,
    Quantity,
    Resource,
    SecretReference,
    Uri,
)
from trimtab_api.v1alpha1.data import InlineDataset
from trimtab_api.v1alpha1.evaluation import (
    LONGEST_EVALUATION,
    MAX_EXAMPLES,
    SUITES,
    Gate,
    Suite,
    suite_rules,
)
from trimtab_api.v1alpha1.jobrules import SPEC_RULES
from trimtab_api.v1alpha1.signing import Signing
from trimtab_api.v1alpha1.training import (
    Architecture,
    EarlyStopping,
    EarlyStoppingMetric,
    FullMethod,
    Hyperparameters,
    LoraMethod,
    Objective,
    Progress,
    QloraMethod,
    Quantization,
    RecordCounts,
    Scheduler,
    ScratchModel,
    TargetModules,
    TrainingMethod,
)

__all__ = [
    "Architecture",
    "BaseModelSource",
    "DatasetReference",
    "EarlyStopping",
    "EarlyStoppingMetric",
    "Failure",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "FullMethod",
    "Hyperparameters",
    "JobEvaluation",
    "LoraMethod",
    "Objective",
    "Output",
    "Progress",
    "QloraMethod",
    "Quantization",
    "RecordCounts",
    "ResolvedInputs",
    "Resources",
    "Scheduler",
    "ScratchModel",
    "Storage",
    "TargetModules",
    "TrainingMethod",
]


class BaseModelSource(ApiModel):
    """The model that training starts from; exactly one of uri, modelVersion and scratch."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "uri",
            "modelVersion",
            "scratch",
            what="baseModel",
            remedy="keep one and remove the others",
        ),
        *model_address("baseModel"),
    )

    uri: Annotated[
        Uri | None,
        Field(
            description="Address of the weights: hf://org/name, oci://, s3:// or pvc://claim/path."
        ),
    ] = None
    revision: Annotated[
        str | None,
        Field(max_length=128, description="For hf:// only: the commit; a branch would move."),
    ] = None
    credentials: Annotated[
        SecretReference | None, Field(description="Secret that the address asks for.")
    ] = None
    model_version: Annotated[
        NamedReference | None, Field(description="A full ModelVersion of this namespace.")
    ] = None
    scratch: Annotated[
        ScratchModel | None, Field(description="A new model; objective Pretraining only.")
    ] = None


class DatasetReference(ApiModel):
    """The data of the run; exactly one of inline and name."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("inline", "name", what="dataset", remedy="keep one and remove the other"),
    )

    inline: Annotated[InlineDataset | None, Field(description="Data described in place.")] = None
    name: Annotated[
        ObjectName | None,
        Field(
            description="A Dataset of this namespace. The job waits until it is Ready and keeps the data that it "
            "has then, whatever becomes of the Dataset."
        ),
    ] = None


class JobEvaluation(ApiModel):
    """What is asked of the ModelVersion that comes out."""

    rules: ClassVar[tuple[Rule, ...]] = suite_rules()

    gates: Annotated[list[Gate], Field(max_length=16, description="Gates; all must pass.")] = Field(
        default_factory=list
    )
    max_examples: Annotated[int | None, MAX_EXAMPLES] = None
    active_deadline_seconds: Annotated[int | None, LONGEST_EVALUATION] = None
    suites: Annotated[list[Suite], SUITES] = Field(default_factory=list)


class Output(ApiModel):
    """What the run makes."""

    model: Annotated[
        ModelName,
        Field(
            description="Name of the model; the version is called <model>-<8 hex of the artifact's digest>."
        ),
    ]
    signing: Annotated[
        Signing | None,
        Field(
            description="How the version is signed; handed on to it. Without it nothing is signed."
        ),
    ] = None


class Resources(ApiModel):
    """What the training pod asks the cluster for."""

    rules: ClassVar[tuple[Rule, ...]] = (ONE_GPU,)

    gpus: Annotated[
        int, Field(ge=0, description="GPUs (nvidia.com/gpu): 1, or 0 to train on the CPU.")
    ] = 1
    cpu: Annotated[Quantity | None, Field(description="CPU request, for example 4 or 500m.")] = None
    memory: Annotated[
        Quantity | None, Field(description="Memory request and limit, for example 32Gi.")
    ] = None


class Storage(ApiModel):
    """The volume of the job: data, checkpoints, output. It goes with the job."""

    size: Annotated[Quantity, Field(description="Size of the claim.")] = "10Gi"
    class_name: Annotated[
        str | None,
        Field(max_length=253, description="StorageClass; empty means the cluster's default."),
    ] = None


class FineTuneJobSpec(ApiModel):
    """What is to be trained; immutable but for suspend, activeDeadlineSeconds and ttlSecondsAfterFinished."""

    base_model: Annotated[BaseModelSource, Field(description="What training starts from.")]
    dataset: Annotated[DatasetReference, Field(description="What it learns from.")]
    objective: Annotated[Objective, Field(description="What is minimised.")] = Objective.SUPERVISED
    method: Annotated[
        TrainingMethod, Field(description="How weights change; exactly one of lora, qlora, full.")
    ]
    hyperparameters: Annotated[
        Hyperparameters, Field(description="Settings of the optimiser and batches.")
    ] = Hyperparameters()
    early_stopping: Annotated[EarlyStopping | None, Field(description="When to end early.")] = None
    evaluation: Annotated[JobEvaluation, Field(description="What is asked of the result.")] = (
        JobEvaluation()
    )
    output: Annotated[Output, Field(description="What the run makes.")]
    resources: Annotated[
        Resources,
        Field(
            description="What the training pod asks for, and the evaluation of the result with it."
        ),
    ] = Resources()
    storage: Annotated[Storage, Field(description="The job's volume.")] = Storage()
    pod: Annotated[
        PodOverrides,
        Field(description="Scheduling and environment of the pods, the evaluation's too."),
    ] = PodOverrides()
    suspend: Annotated[
        bool,
        Field(
            description="Stop the pods and keep the volume; false goes on from the last checkpoint."
        ),
    ] = False
    backoff_limit: Annotated[
        int, Field(ge=0, le=100, description="Failures of the pod that are tried again.")
    ] = 3
    active_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=LONGEST_SPAN,
            description="Longest time that the training may run, in seconds.",
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=LONGEST_SPAN,
            description="When the job and its volume are deleted after the end, in seconds.",
        ),
    ] = None


_MUTABLE = {"suspend", "active_deadline_seconds", "ttl_seconds_after_finished"}
# Rules can name the fields only once there are fields.
FineTuneJobSpec.rules = SPEC_RULES + immutable(
    FineTuneJobSpec.model_fields,
    {name for name, field in FineTuneJobSpec.model_fields.items() if field.default is None},
    _MUTABLE,
    "create a new FineTuneJob (suspend, activeDeadlineSeconds and ttlSecondsAfterFinished may change)",
)


class ResolvedInputs(ApiModel):
    """What the references meant when the job began; never read again."""

    base_model_uri: Annotated[
        str | None, Field(max_length=1024, description="The base in the registry, by digest.")
    ] = None
    base_model_digest: Annotated[
        str | None, Field(max_length=71, description="Digest of the base.")
    ] = None
    dataset_uri: Annotated[
        str | None, Field(max_length=1024, description="The prepared data in the registry.")
    ] = None
    dataset_digest: Annotated[
        str | None, Field(max_length=71, description="Digest of the prepared data.")
    ] = None
    dataset_report: Annotated[
        str | None,
        Field(max_length=1024, description="The report about the data in the registry."),
    ] = None
    image: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Image that the job's pods are given; by digest if a node has pulled it from a registry.",
        ),
    ] = None
    image_digest: ImageDigest | None = None


class Failure(ApiModel):
    """Why it ended without a result."""

    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause.")]
    message: Annotated[str, Field(max_length=2048, description="One sentence for people.")]
    exit_code: Annotated[
        int | None, Field(description="Exit code of the container, if it had one.")
    ] = None


class FineTuneJobStatus(ApiModel):
    """What is known about the run."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="Started, Complete, Failed, Suspended.",
            json_schema_extra=MAP_BY_TYPE,
        ),
    ] = Field(default_factory=list)
    progress: Annotated[Progress | None, Field(description="How far it is.")] = None
    records: Annotated[RecordCounts | None, Field(description="The records of the data.")] = None
    resolved: Annotated[ResolvedInputs | None, Field(description="Inputs, frozen.")] = None
    model_version: Annotated[
        str | None, Field(max_length=253, description="Name of the version that came out.")
    ] = None
    failure: Annotated[Failure | None, Field(description="Why it failed.")] = None
    attempt: Annotated[
        int, Field(ge=0, description="How often the job was tried again on request.")
    ] = 0
    retry: Annotated[
        str | None,
        Field(max_length=253, description="The last request to try again that was served."),
    ] = None
    start_time: Annotated[
        str | None,
        Field(max_length=32, description="When it started.", json_schema_extra=TIMESTAMP),
    ] = None
    completion_time: Annotated[
        str | None, Field(max_length=32, description="When it ended.", json_schema_extra=TIMESTAMP)
    ] = None


class FineTuneJob(Resource[FineTuneJobSpec, FineTuneJobStatus]):
    """One training run, from data and a base model to a ModelVersion."""

    rules: ClassVar[tuple[Rule, ...]] = short_name("FineTuneJob", OWNER_NAME_LENGTH)
    definition: ClassVar[Definition] = Definition(
        kind="FineTuneJob",
        plural="finetunejobs",
        short_name="ftj",
        columns=(
            Column("Model", ".spec.output.model", description="Model that a version is made of."),
            Column(
                "Progress",
                ".status.progress.percent",
                "integer",
                description="Per cent of the steps.",
            ),
            Column(
                "Loss",
                ".status.progress.loss",
                "number",
                description="Training loss, nats per token.",
            ),
            Column("Complete", status_of("Complete"), description="Whether there is a version."),
            Column("Failed", status_of("Failed"), description="Whether it was given up."),
            Column("Version", ".status.modelVersion", description="The version that came out."),
            AGE,
            Column("ETA", ".status.progress.etaSeconds", "integer", 1, "Seconds to the end."),
            Column("Objective", ".spec.objective", priority=1, description="What is minimised."),
            Column("Started", reason_of("Started"), priority=1, description="What it is doing."),
            Column("Message", message_of("Failed"), priority=1, description="Why it failed."),
        ),
        selectable=(".spec.output.model",),
    )

    status: FineTuneJobStatus = FineTuneJobStatus()
