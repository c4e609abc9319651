"""What a gateway takes back from its callers, and what it keeps of their traffic where it is asked to."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab_api.model import TIMESTAMP, ApiModel
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


class OnAbuse(StrEnum):
    """What follows when a key is unusual."""

    ALERT = "Alert"
    THROTTLE = "Throttle"


class Abuse(ApiModel):
    """Keys that ask for far more than they used to, or for what is declined. Each gateway counts for itself."""

    requests_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            le=600_000,
            description="Requests that one gateway takes from one key in a minute; what is more is answered with 429. Empty "
            "means no limit.",
        ),
    ] = None
    times_busiest_minute: Annotated[
        int,
        Field(
            ge=2,
            le=1000,
            description="A key is unusual that asks for more in a minute than so many times its busiest minute of the days "
            "before, of seven at most. Not before it is known for an hour, and not below 60 requests.",
        ),
    ] = 5
    refused_percent: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="And a key is unusual of whose answers, of about the last ten minutes and of 20 at least, so many per "
            "cent decline or were cut by a content filter.",
        ),
    ] = 50
    on_abuse: Annotated[
        OnAbuse,
        Field(
            description="Alert tells of it: condition AbuseDetected, Events, metric, alert rule. Throttle also slows the key "
            "until ten minutes after it was unusual last."
        ),
    ] = OnAbuse.ALERT
    throttled_per_minute: Annotated[
        int,
        Field(
            ge=1,
            le=60_000,
            description="For Throttle: requests that one gateway takes from an unusual key in a minute.",
        ),
    ] = 6


class UnusualReason(StrEnum):
    """In what way a key is unusual."""

    REQUESTS = "Requests"
    REFUSALS = "Refusals"


MOST_UNUSUAL_KEYS = 32


class UnusualKey(ApiModel):
    """A key that is unusual now."""

    key: Annotated[
        str,
        Field(
            max_length=63,
            description="Its id: the first 12 digits of HMAC-SHA256 of the key, under 'trimtab: id of a key'.",
        ),
    ]
    reason: Annotated[
        UnusualReason,
        Field(
            description="Requests: far more than it used to ask for; Refusals: its answers decline."
        ),
    ]
    since: Annotated[
        str, Field(max_length=32, json_schema_extra=TIMESTAMP, description="When it was seen so.")
    ]


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
