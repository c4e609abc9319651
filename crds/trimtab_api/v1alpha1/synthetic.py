"""Question-answer pairs that a teacher model writes from documents."""

from typing import Annotated

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.common import OCI_DIGEST_URI_PATTERN
from trimtab_api.v1alpha1.endpoint import ChatEndpoint


class Synthetic(ApiModel):
    """A teacher reads the texts of the sources and writes question-answer pairs, which become the records."""

    teacher: Annotated[ChatEndpoint, Field(description="The model that writes the pairs.")]
    pairs_per_text: Annotated[
        int, Field(ge=1, le=10, description="How many pairs are asked for from each text.")
    ] = 3
    instructions: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4000,
            description="What the teacher is told besides: who asks, in which tone, how long an answer is.",
        ),
    ] = None
    temperature: Annotated[
        float, Field(ge=0, le=2, description="How freely the teacher writes; 0 is greedy.")
    ] = 0.7
    max_tokens: Annotated[
        int, Field(ge=64, le=16384, description="Longest answer of the teacher, in its tokens.")
    ] = 1024
    grounded_at_least: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the words of an answer that must stand in the text or in the question; pairs below "
            "are dropped, and so are those with a number that stands in neither.",
        ),
    ] = 0.7
    recording: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="What a teacher has answered before, from status.recording of a Dataset: "
            "oci://registry/name@sha256:<64 hex>. Only what is not in it is asked.",
        ),
    ] = None
