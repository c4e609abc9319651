"""How a model is trained: the parts of a FineTuneJob that its pods read and write too."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.rules import exactly_one


class Architecture(StrEnum):
    """Architectures that can be trained from scratch."""

    LLAMA = "Llama"


class ScratchModel(ApiModel):
    """A new model with random weights and a tokenizer (byte-level BPE) trained on the data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.hiddenSize % self.heads == 0",
            "scratch.hiddenSize must be a multiple of scratch.heads; change one of them",
            at=".hiddenSize",
        ),
        Rule(
            "self.hiddenSize % self.heads != 0 || (self.hiddenSize / self.heads) % 2 == 0",
            "scratch.hiddenSize divided by scratch.heads must be even, because positions are rotations of pairs; "
            "change one of them",
            at=".hiddenSize",
        ),
        Rule(
            "self.hiddenSize % self.heads != 0 || self.hiddenSize / self.heads >= 32",
            "scratch.hiddenSize divided by scratch.heads must be at least 32, because engines serve no narrower heads; "
            "use fewer heads",
            at=".heads",
        ),
    )

    architecture: Annotated[Architecture, Field(description="Kind of network.")] = (
        Architecture.LLAMA
    )
    hidden_size: Annotated[int, Field(ge=16, le=8192, description="Width; a multiple of heads.")]
    layers: Annotated[int, Field(ge=1, le=128, description="Number of transformer blocks.")]
    heads: Annotated[int, Field(ge=1, le=128, description="Attention heads per block.")]
    vocabulary_size: Annotated[
        int, Field(ge=300, le=262144, description="Entries of the tokenizer.")
    ]
    context_length: Annotated[
        int, Field(ge=32, le=131072, description="Longest input, in tokens.")
    ] = 512


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
    alpha: Annotated[
        int, Field(ge=1, le=4096, description="Scale; the update is alpha / rank.")
    ] = 32
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Share of adapter inputs dropped in training.")
    ] = 0.05
    target_modules: Annotated[TargetModules, Field(description="Layers that get an adapter.")] = (
        TargetModules.ALL_LINEAR
    )


class Quantization(StrEnum):
    """Storage of the frozen weights."""

    NF4 = "NF4"


class QloraMethod(LoraMethod):
    """LoRA over quantized weights (Dettmers et al., 2023)."""

    quantization: Annotated[Quantization, Field(description="Storage of the frozen weights.")] = (
        Quantization.NF4
    )


class FullMethod(ApiModel):
    """All weights are trained; the result is a full version."""


class TrainingMethod(ApiModel):
    """How weights change; exactly one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "lora",
            "qlora",
            "full",
            what="method",
            remedy="keep one and remove the others, for example method: {lora: {}}",
        ),
    )

    lora: Annotated[
        LoraMethod | None, Field(description="Low-rank adapters on frozen weights.")
    ] = None
    qlora: Annotated[
        QloraMethod | None, Field(description="Low-rank adapters over quantized weights.")
    ] = None
    full: Annotated[FullMethod | None, Field(description="All weights.")] = None


class Scheduler(StrEnum):
    """Course of the learning rate after warm-up."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class Hyperparameters(ApiModel):
    """Settings of the optimiser (AdamW) and of the batches."""

    epochs: Annotated[int, Field(ge=1, le=1000, description="Passes over the training data.")] = 3
    max_steps: Annotated[
        int | None, Field(ge=1, le=10_000_000, description="Ends earlier than epochs would.")
    ] = None
    learning_rate: Annotated[float, Field(gt=0, le=1, description="Peak learning rate.")] = 0.0002
    batch_size: Annotated[
        int, Field(ge=1, le=4096, description="Sequences per device and step.")
    ] = 8
    gradient_accumulation: Annotated[
        int, Field(ge=1, le=4096, description="Steps whose gradients are added up.")
    ] = 1
    max_length: Annotated[
        int, Field(ge=16, le=1_048_576, description="Longest sequence, in tokens; more is cut.")
    ] = 2048
    packing: Annotated[bool, Field(description="Fill each sequence with several records.")] = False
    scheduler: Annotated[Scheduler, Field(description="Course of the learning rate.")] = (
        Scheduler.COSINE
    )
    warmup_ratio: Annotated[
        float, Field(ge=0, lt=1, description="Share of steps over which the rate rises.")
    ] = 0.03
    weight_decay: Annotated[float, Field(ge=0, le=1, description="AdamW's weight decay.")] = 0.0
    max_gradient_norm: Annotated[
        float, Field(gt=0, le=1000, description="Gradients above are scaled down.")
    ] = 1.0
    seed: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="Seed of initialisation, order and dropout.")
    ] = 0


class EarlyStoppingMetric(StrEnum):
    """What early stopping looks at."""

    EVAL_LOSS = "EvalLoss"


class EarlyStopping(ApiModel):
    """End when the validation split gets no better; the best checkpoint is kept."""

    metric: Annotated[EarlyStoppingMetric, Field(description="What is watched.")] = (
        EarlyStoppingMetric.EVAL_LOSS
    )
    patience: Annotated[
        int, Field(ge=1, le=100, description="Evaluations without progress until the end.")
    ] = 3


class Progress(ApiModel):
    """Last progress that the training pod told."""

    percent: Annotated[int, Field(ge=0, le=100, description="Share of steps done.")] = 0
    step: Annotated[int, Field(ge=0, description="Optimiser steps done.")] = 0
    steps: Annotated[int, Field(ge=0, description="Optimiser steps in all.")] = 0
    eta_seconds: Annotated[int | None, Field(description="Estimated time to the end.")] = None
    loss: Annotated[float | None, Field(description="Training loss, nats per token.")] = None
    eval_loss: Annotated[float | None, Field(description="Last loss on the validation split.")] = (
        None
    )
    tokens_per_second: Annotated[float | None, Field(description="Speed.")] = None


class RecordCounts(ApiModel):
    """What became of the records that were read."""

    read: Annotated[int, Field(ge=0, description="Records read.")] = 0
    kept: Annotated[int, Field(ge=0, description="Records kept.")] = 0
    train: Annotated[int, Field(ge=0, description="Records in the training split.")] = 0
    validation: Annotated[int, Field(ge=0, description="Records in the validation split.")] = 0
    test: Annotated[int, Field(ge=0, description="Records in the test split.")] = 0
    cut: Annotated[
        int | None,
        Field(
            ge=0,
            description="Training records longer than maxLength or than the model reads: cut (objective Supervised) "
            "or continued in a further sequence (Pretraining). Known at the end.",
        ),
    ] = None
    dropped: Annotated[
        int | None,
        Field(
            ge=0,
            description="Training records that were left out, because no answer was left of them. Known at the end.",
        ),
    ] = None
