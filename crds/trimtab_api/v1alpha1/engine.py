"""What one vLLM engine of an InferenceService is like."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.v1alpha1.common import Quantity


class Dtype(StrEnum):
    """Number format of weights and activations."""

    AUTO = "Auto"
    FLOAT32 = "Float32"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"


class AdapterSlots(ApiModel):
    """Room for adapters in each engine."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.resident >= self.slots",
            "engine.adapters.resident must be at least engine.adapters.slots; raise resident or lower slots",
            at=".resident",
        ),
    )

    max_rank: Annotated[int, Field(ge=1, le=512, description="Highest rank that is accepted.")] = 16
    slots: Annotated[
        int, Field(ge=1, le=256, description="Adapters in one batch, in GPU memory.")
    ] = 4
    resident: Annotated[
        int, Field(ge=1, le=4096, description="Adapters in the engine's main memory.")
    ] = 64


class Engine(ApiModel):
    """One vLLM engine; every replica is alike."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.tensorParallel <= (self.gpus > 1 ? self.gpus : 1)",
            "engine.tensorParallel must not exceed engine.gpus; raise gpus or lower tensorParallel",
            at=".tensorParallel",
        ),
    )

    gpus: Annotated[
        int, Field(ge=0, le=16, description="GPUs (nvidia.com/gpu); 0 serves on the CPU.")
    ] = 1
    tensor_parallel: Annotated[
        int, Field(ge=1, le=16, description="GPUs that share one copy; at most gpus.")
    ] = 1
    max_model_length: Annotated[
        int | None,
        Field(
            ge=32,
            le=1_048_576,
            description="Longest prompt and answer, in tokens; empty means the model's own.",
        ),
    ] = None
    dtype: Annotated[Dtype, Field(description="Number format.")] = Dtype.AUTO
    cpu: Annotated[Quantity | None, Field(description="CPU request.")] = None
    memory: Annotated[Quantity | None, Field(description="Memory request and limit.")] = None
    adapters: Annotated[AdapterSlots, Field(description="Room for adapters.")] = AdapterSlots()
