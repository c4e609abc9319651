"""FineTuneJob: one training run, from data and a base model to a ModelVersion."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.common import (
    Condition,
    Gate,
    InlineDataset,
    ModelName,
    NamedReference,
    PodOverrides,
    Resource,
    SecretReference,
    Uri,
)

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"


class Architecture(StrEnum):
    """Architectures that can be trained from scratch."""

    LLAMA = "Llama"


class ScratchModel(ApiModel):
    """A new model with random weights and a tokenizer (byte-level BPE) trained on the data."""

    architecture: Annotated[Architecture, Field(description="Kind of network.")] = Architecture.LLAMA
    hidden_size: Annotated[int, Field(ge=16, le=8192, description="Width; a multiple of heads.")]
    layers: Annotated[int, Field(ge=1, le=128, description="Number of transformer blocks.")]
    heads: Annotated[int, Field(ge=1, le=128, description="Attention heads per block.")]
    vocabulary_size: Annotated[int, Field(ge=300, le=262144, description="Entries of the tokenizer.")]
    context_length: Annotated[int, Field(ge=32, le=131072, description="Longest input, in tokens.")] = 512


class BaseModelSource(ApiModel):
    """The model that training starts from; exactly one of uri, modelVersion and scratch."""

    uri: Annotated[
        Uri | None, Field(description="Address of the weights: hf://org/name, oci://, s3:// or pvc://claim/path.")
    ] = None
    revision: Annotated[
        str | None, Field(max_length=128, description="For hf:// only: the commit; a branch would move.")
    ] = None
    credentials: Annotated[SecretReference | None, Field(description="Secret that the address asks for.")] = None
    model_version: Annotated[NamedReference | None, Field(description="A full ModelVersion of this namespace.")] = None
    scratch: Annotated[ScratchModel | None, Field(description="A new model; objective Pretraining only.")] = None


class DatasetReference(ApiModel):
    """The data of the run."""

    inline: Annotated[InlineDataset, Field(description="Data described in place.")]


class Objective(StrEnum):
    """What is minimised: the next token of all text, or of the answers alone."""

    SUPERVISED = "Supervised"
    PRETRAINING = "Pretraining"


class TargetModules(StrEnum):
    """Which linear layers get an adapter."""

    ALL_LINEAR = "AllLinear"
    ATTENTION = "Attention"


class LoraMethod(ApiModel):
    """Low-rank adapters on frozen weights (Hu et al., 2021)."""

    rank: Annotated[int, Field(ge=1, le=512, description="Width of the adapter.")] = 16
    alpha: Annotated[int, Field(ge=1, le=4096, description="Scale; the update is alpha / rank.")] = 32
    dropout: Annotated[float, Field(ge=0, lt=1, description="Share of adapter inputs dropped in training.")] = 0.05
    target_modules: Annotated[TargetModules, Field(description="Layers that get an adapter.")] = TargetModules.ALL_LINEAR


class Quantization(StrEnum):
    """Storage of the frozen weights."""

    NF4 = "NF4"


class QloraMethod(LoraMethod):
    """LoRA over quantized weights (Dettmers et al., 2023)."""

    quantization: Annotated[Quantization, Field(description="Storage of the frozen weights.")] = Quantization.NF4


class FullMethod(ApiModel):
    """All weights are trained; the result is a full version."""


class TrainingMethod(ApiModel):
    """How weights change; exactly one."""

    lora: Annotated[LoraMethod | None, Field(description="Low-rank adapters on frozen weights.")] = None
    qlora: Annotated[QloraMethod | None, Field(description="Low-rank adapters over quantized weights.")] = None
    full: Annotated[FullMethod | None, Field(description="All weights.")] = None


class Scheduler(StrEnum):
    """Course of the learning rate after warm-up."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class Hyperparameters(ApiModel):
    """Settings of the optimiser (AdamW) and of the batches."""

    epochs: Annotated[int, Field(ge=1, le=1000, description="Passes over the training data.")] = 3
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000, description="Ends earlier than epochs would.")] = None
    learning_rate: Annotated[float, Field(gt=0, le=1, description="Peak learning rate.")] = 0.0002
    batch_size: Annotated[int, Field(ge=1, le=4096, description="Sequences per device and step.")] = 8
    gradient_accumulation: Annotated[int, Field(ge=1, le=4096, description="Steps whose gradients are added up.")] = 1
    max_length: Annotated[int, Field(ge=16, le=1_048_576, description="Longest sequence, in tokens; more is cut.")] = 2048
    packing: Annotated[bool, Field(description="Fill each sequence with several records.")] = False
    scheduler: Annotated[Scheduler, Field(description="Course of the learning rate.")] = Scheduler.COSINE
    warmup_ratio: Annotated[float, Field(ge=0, lt=1, description="Share of steps over which the rate rises.")] = 0.03
    weight_decay: Annotated[float, Field(ge=0, le=1, description="AdamW's weight decay.")] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0, le=1000, description="Gradients above are scaled down.")] = 1.0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of initialisation, order and dropout.")] = 0


class EarlyStoppingMetric(StrEnum):
    """What early stopping looks at."""

    EVAL_LOSS = "EvalLoss"


class EarlyStopping(ApiModel):
    """End when the validation split gets no better; the best checkpoint is kept."""

    metric: Annotated[EarlyStoppingMetric, Field(description="What is watched.")] = EarlyStoppingMetric.EVAL_LOSS
    patience: Annotated[int, Field(ge=1, le=100, description="Evaluations without progress until the end.")] = 3


class JobEvaluation(ApiModel):
    """What is asked of the ModelVersion that comes out."""

    gates: Annotated[list[Gate], Field(max_length=16, description="Thresholds; all must pass.")] = Field(default_factory=list)


class Output(ApiModel):
    """What the run makes."""

    model: Annotated[
        ModelName, Field(description="Name of the model; the version is called <model>-<8 hex of the artifact's digest>.")
    ]


class Resources(ApiModel):
    """What the training pod asks the cluster for."""

    gpus: Annotated[int, Field(ge=0, le=16, description="GPUs (nvidia.com/gpu); 0 trains on the CPU.")] = 1
    cpu: Annotated[str | None, Field(max_length=16, pattern=QUANTITY, description="CPU request, for example 4 or 500m.")] = None
    memory: Annotated[
        str | None, Field(max_length=16, pattern=QUANTITY, description="Memory request and limit, for example 32Gi.")
    ] = None


class Storage(ApiModel):
    """The volume of the job: data, checkpoints, output. It goes with the job."""

    size: Annotated[str, Field(max_length=16, pattern=QUANTITY, description="Size of the claim.")] = "10Gi"
    class_name: Annotated[str | None, Field(max_length=253, description="StorageClass; empty means the cluster's default.")] = None


class FineTuneJobSpec(ApiModel):
    """What is to be trained; immutable but for suspend, activeDeadlineSeconds and ttlSecondsAfterFinished."""

    base_model: Annotated[BaseModelSource, Field(description="What training starts from.")]
    dataset: Annotated[DatasetReference, Field(description="What it learns from.")]
    objective: Annotated[Objective, Field(description="What is minimised.")] = Objective.SUPERVISED
    method: Annotated[TrainingMethod, Field(description="How weights change; exactly one of lora, qlora, full.")]
    hyperparameters: Annotated[Hyperparameters, Field(description="Settings of the optimiser and batches.")] = Hyperparameters()
    early_stopping: Annotated[EarlyStopping | None, Field(description="When to end early.")] = None
    evaluation: Annotated[JobEvaluation, Field(description="What is asked of the result.")] = JobEvaluation()
    output: Annotated[Output, Field(description="What the run makes.")]
    resources: Annotated[Resources, Field(description="What the pod asks for.")] = Resources()
    storage: Annotated[Storage, Field(description="The job's volume.")] = Storage()
    pod: Annotated[PodOverrides, Field(description="Scheduling and environment of the pods.")] = PodOverrides()
    suspend: Annotated[bool, Field(description="Stop the pods and keep the volume; false goes on from the last checkpoint.")] = False
    backoff_limit: Annotated[int, Field(ge=0, le=100, description="Failures of the pod that are tried again.")] = 3
    active_deadline_seconds: Annotated[
        int | None, Field(ge=1, description="Longest time that the training may run, in seconds.")
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None, Field(ge=0, description="When the job and its volume are deleted after the end, in seconds.")
    ] = None


class Progress(ApiModel):
    """Last progress that the training pod told."""

    percent: Annotated[int, Field(ge=0, le=100, description="Share of steps done.")] = 0
    step: Annotated[int, Field(ge=0, description="Optimiser steps done.")] = 0
    steps: Annotated[int, Field(ge=0, description="Optimiser steps in all.")] = 0
    eta_seconds: Annotated[int | None, Field(description="Estimated time to the end.")] = None
    loss: Annotated[float | None, Field(description="Training loss, nats per token.")] = None
    eval_loss: Annotated[float | None, Field(description="Last loss on the validation split.")] = None
    tokens_per_second: Annotated[float | None, Field(description="Speed.")] = None


class ResolvedInputs(ApiModel):
    """What the references meant when the job began; never read again."""

    base_model_uri: Annotated[str | None, Field(max_length=1024, description="The base in the registry, by digest.")] = None
    base_model_digest: Annotated[str | None, Field(max_length=71, description="Digest of the base.")] = None
    dataset_uri: Annotated[str | None, Field(max_length=1024, description="The prepared data in the registry.")] = None
    dataset_digest: Annotated[str | None, Field(max_length=71, description="Digest of the prepared data.")] = None
    image: Annotated[str | None, Field(max_length=1024, description="Image of the training pod.")] = None


class RecordCounts(ApiModel):
    """What became of the records that were read."""

    read: Annotated[int, Field(ge=0, description="Records read.")] = 0
    kept: Annotated[int, Field(ge=0, description="Records kept.")] = 0
    train: Annotated[int, Field(ge=0, description="Records in the training split.")] = 0
    validation: Annotated[int, Field(ge=0, description="Records in the validation split.")] = 0
    test: Annotated[int, Field(ge=0, description="Records in the test split.")] = 0


class Failure(ApiModel):
    """Why it ended without a result."""

    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause.")]
    message: Annotated[str, Field(max_length=2048, description="One sentence for people.")]
    exit_code: Annotated[int | None, Field(description="Exit code of the container, if it had one.")] = None


class FineTuneJobStatus(ApiModel):
    """What is known about the run."""

    observed_generation: Annotated[int, Field(ge=0, description="The generation that status is about.")] = 0
    conditions: Annotated[list[Condition], Field(max_length=16, description="Started, Complete, Failed, Suspended.")] = Field(
        default_factory=list
    )
    progress: Annotated[Progress | None, Field(description="How far it is.")] = None
    records: Annotated[RecordCounts | None, Field(description="The records of the data.")] = None
    resolved: Annotated[ResolvedInputs | None, Field(description="Inputs, frozen.")] = None
    model_version: Annotated[str | None, Field(max_length=253, description="Name of the version that came out.")] = None
    failure: Annotated[Failure | None, Field(description="Why it failed.")] = None
    attempt: Annotated[int, Field(ge=0, description="How often the job was tried again on request.")] = 0
    retry: Annotated[str | None, Field(max_length=253, description="The last request to try again that was served.")] = None
    start_time: Annotated[str | None, Field(max_length=32, description="When it started.")] = None
    completion_time: Annotated[str | None, Field(max_length=32, description="When it ended.")] = None


class FineTuneJob(Resource[FineTuneJobSpec, FineTuneJobStatus]):
    """One training run, from data and a base model to a ModelVersion."""

    status: FineTuneJobStatus = FineTuneJobStatus()
