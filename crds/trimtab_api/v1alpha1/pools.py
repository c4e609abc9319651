"""What status tells of the engines of each base, and of a base that there was no room for."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab_api.model import TIMESTAMP, ApiModel
from trimtab_api.v1alpha1.common import Digest, Uri


class EnginePool(ApiModel):
    """Engines that hold one base."""

    name: Annotated[
        str, Field(max_length=63, description="The Deployment is <service>-<name>; also a label.")
    ]
    version: Annotated[str, Field(max_length=253, description="What the base is called.")]
    digest: Annotated[Digest, Field(description="Digest of the base.")]
    uri: Annotated[Uri, Field(description="The base in the registry, by digest.")]


class RoomVerdict(StrEnum):
    """What follows where there is no room for a second pool."""

    REFUSE = "Refuse"
    REPLACE = "Replace"


class BaseChange(ApiModel):
    """What was decided about a base that there was no room for beside the present one."""

    version: Annotated[str, Field(max_length=253, description="The new base.")]
    digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    verdict: Annotated[
        RoomVerdict,
        Field(
            description="Refuse: its engines were taken away. Replace: the present engines have made room."
        ),
    ]
    asked: Annotated[
        str,
        Field(max_length=16, description="Stands for what was asked for; something else is tried."),
    ]
    since: Annotated[
        str,
        Field(max_length=32, json_schema_extra=TIMESTAMP, description="When it was decided."),
    ]
    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause.")]
    message: Annotated[str, Field(max_length=512, description="The same in one sentence.")]
