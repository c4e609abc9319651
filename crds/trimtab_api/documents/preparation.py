"""Resolving references: data made ready and pushed by digest, a base model mirrored by digest."""

from pydantic import Field

from trimtab_api.documents.common import Output, Owner, RunFailure
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.data import DataDescription, PreparedRecords
from trimtab_api.v1alpha1.dataset import HeldOutData, LeakageAction
from trimtab_api.v1alpha1.synthetic import Synthetic


class BaseOrigin(ApiModel):
    """A base model outside the registry (or inside it under a tag).

    The Secret of the base is mounted at `names.CREDENTIALS_PATH/base`, that of the n-th source of
    the data at `names.CREDENTIALS_PATH/source-<n>` (n from 0). pvc:// claims are mounted at
    /claims/<claim>, ConfigMaps at /configmaps/<name>.
    """

    uri: str
    revision: str | None = None
    output: Output


class LeakageCheck(ApiModel):
    """Held-out records of other data in the registry that must not be in the training split."""

    against: list[HeldOutData]
    action: LeakageAction = LeakageAction.FAIL


class Synthesis(ApiModel):
    """Pairs to be written by a teacher, at `url`; the Secret of its key is mounted at
    `names.CREDENTIALS_PATH/teacher`. What stands in `recordings` (by digest) is not asked again;
    a later one has the say. Under `kept_tag` of the output's repository a pod that has to stop
    leaves the answers so far to the next one.
    """

    synthetic: Synthetic
    url: str
    kept_tag: str = ""
    recordings: list[str] = Field(default_factory=list)


class DataOrigin(ApiModel):
    """Data to be read, cleaned, divided and pushed.

    `names.VOLUME_PATH` is a volume of the pod's own, for indexes and for what is about to be pushed.
    The ConfigMaps of word lists are mounted as those of sources are. With `is_spread` the pod is the
    driver of a Ray cluster, whose workers have the same mounts but the volume.
    """

    dataset: DataDescription
    is_spread: bool = False
    leakage: LeakageCheck | None = None
    synthesis: Synthesis | None = None
    output: Output


class PrepareRun(ApiModel):
    """The task of a `prepare` pod."""

    owner: Owner
    base: BaseOrigin | None = None
    data: DataOrigin | None = None


class PreparedArtifact(ApiModel):
    """What was pushed."""

    uri: str
    digest: str
    size_bytes: int = 0


class PrepareResult(ApiModel):
    """What a `prepare` pod found out; either a failure or everything that was asked.

    `report` is the address of the report about the data, `recording` that of what a teacher has
    answered, both by digest.
    """

    base: PreparedArtifact | None = None
    data: PreparedArtifact | None = None
    report: str | None = None
    recording: str | None = None
    records: PreparedRecords | None = None
    warnings: list[str] = Field(default_factory=list)
    failure: RunFailure | None = None
