"""A chat model behind an OpenAI API that a pod asks: a teacher that writes data, a judge of answers."""

from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.rules import exactly_one
from trimtab_api.v1alpha1.common import NamedReference, SecretReference


class ChatEndpoint(ApiModel):
    """A chat model behind an OpenAI API; exactly one of inferenceService and url."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "inferenceService", "url", what="an endpoint", remedy="keep one and remove the other"
        ),
        Rule(
            r"!has(self.url) || self.url.matches('^https?://[^\\s/?#@]+(/[^\\s?#]*)?$')",
            "url must be http:// or https://, a host and a path, without user, question mark and #: "
            "https://api.example.com/v1; a key belongs into credentials",
            at=".url",
        ),
    )

    inference_service: Annotated[
        NamedReference | None,
        Field(
            description="An InferenceService of this namespace; credentials name a Secret with one of its gateway's "
            "keys where it asks for any."
        ),
    ] = None
    url: Annotated[
        str | None,
        Field(
            min_length=8,
            max_length=1024,
            description="Address to which /chat/completions is added: https://api.example.com/v1.",
        ),
    ] = None
    model: Annotated[
        str,
        Field(min_length=1, max_length=253, description="Name of the model, as the API knows it."),
    ]
    credentials: Annotated[
        SecretReference | None,
        Field(
            description="Secret with the key of the API, OPENAI_API_KEY, and ca.crt where the server's certificate is "
            "signed by a CA of your own; each optional."
        ),
    ] = None
    timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="How long one answer may take, in seconds; then the question is asked again.",
        ),
    ] = 120
    concurrency: Annotated[
        int, Field(ge=1, le=64, description="Questions that are asked at once.")
    ] = 4
