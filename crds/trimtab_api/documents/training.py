"""Training: one run in, one artifact out."""

from trimtab_api.documents.common import Mounted, Output, Owner, RunFailure, Stored
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.finetunejob import (
    EarlyStopping,
    Hyperparameters,
    Objective,
    Progress,
    ScratchModel,
    TrainingMethod,
)
from trimtab_api.v1alpha1.modelversion import ArtifactKind

ProgressReport = Progress


class TrainingRun(ApiModel):
    """The task of a training pod: init container `fetch`, then container `train`.

    `fetch` brings the data to <volume>/data; `train` keeps checkpoints in <volume>/checkpoints,
    answers GET /progress and /metrics on `names.PORT_TRAINER`, pushes the artifact and ends.
    Exactly one of `base` and `scratch` is set.
    """

    owner: Owner
    model: str
    objective: Objective
    method: TrainingMethod
    hyperparameters: Hyperparameters
    early_stopping: EarlyStopping | None = None
    base: Mounted | None = None
    scratch: ScratchModel | None = None
    data: Stored
    gpus: int = 0
    output: Output


class TrainedArtifact(ApiModel):
    """What was pushed: the manifest's digest is the identity."""

    uri: str
    digest: str
    kind: ArtifactKind
    rank: int | None = None
    size_bytes: int = 0


class TrainingResult(ApiModel):
    """What a training pod made; either an artifact or a failure.

    `cut` and `dropped` count training records, as in `RecordCounts`.
    """

    artifact: TrainedArtifact | None = None
    progress: Progress | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    tokens: int = 0
    seconds: float = 0
    cut: int | None = None
    dropped: int | None = None
    failure: RunFailure | None = None
