"""What a gateway takes back from its callers, and what it keeps of their traffic where it is asked to."""

from typing import Annotated

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.common import SecretReference


class FeedbackSecret(SecretReference):
    """A Secret whose entries response ids are signed with, beside the callers' keys."""


class ResponseFeedback(ApiModel):
    """POST /v1/feedback: ratings, corrections and labels of responses."""

    secret: Annotated[
        FeedbackSecret | None,
        Field(
            description="Secret whose entries response ids are signed with, beside the callers' keys: the entry whose "
            "name sorts last signs, all verify. Without it the holder of an API key could make ids for that key."
        ),
    ] = None
    within_seconds: Annotated[
        int,
        Field(
            ge=60,
            le=31_536_000,
            description="How long after a response feedback about it is taken.",
        ),
    ] = 604_800
    per_minute: Annotated[
        int,
        Field(
            ge=1,
            le=60_000,
            description="Feedback requests that one gateway takes from one API key in a minute.",
        ),
    ] = 600


class Capture(ApiModel):
    """Prompts and answers that are kept, redacted, on the volume claim <service>-capture."""

    percent: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Per cent of the requests, by chance; at most ten a second in each gateway.",
        ),
    ] = 10
    retention_seconds: Annotated[
        int,
        Field(
            ge=7200,
            le=63_072_000,
            description="After so long what was kept is deleted, by whole hours and rather sooner.",
        ),
    ] = 2_592_000
    max_bytes: Annotated[
        int,
        Field(
            ge=1_048_576,
            le=1_099_511_627_776,
            description="Size of all files together, above which nothing more is kept until old ones go.",
        ),
    ] = 1_073_741_824
