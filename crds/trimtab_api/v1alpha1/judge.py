"""A judge model that says which of two answers is better."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.endpoint import ChatEndpoint


class JudgedAgainst(StrEnum):
    """Whose answers the version's are held against."""

    REFERENCE = "Reference"
    BASE = "Base"


class Judge(ApiModel):
    """A model that is shown each question with two answers, in either order, and names the better one."""

    endpoint: Annotated[ChatEndpoint, Field(description="The model that judges.")]
    against: Annotated[
        JudgedAgainst,
        Field(
            description="Reference: the answers of the held-out records. Base: those of an adapter's base model."
        ),
    ] = JudgedAgainst.REFERENCE
    criteria: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=2000,
            description="What makes an answer better, in your words; correct and helpful unless stated.",
        ),
    ] = None
    max_examples: Annotated[
        int,
        Field(
            ge=1,
            le=2000,
            description="How many of the held-out examples are judged at most; each is asked twice.",
        ),
    ] = 100


class JudgeCounts(ApiModel):
    """What a judge was asked and how well it could be understood."""

    examples: Annotated[int, Field(ge=0, description="Examples whose two verdicts count.")] = 0
    off_format: Annotated[
        int,
        Field(ge=0, description="Examples left out because a verdict could not be read."),
    ] = 0
    inconsistent: Annotated[
        int,
        Field(
            ge=0,
            description="Examples on which the verdict changed with the order of the answers; both halves count.",
        ),
    ] = 0
