"""The OpenAI-compatible front of an InferenceService, as its users ask for it."""

from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.v1alpha1.common import SecretReference
from trimtab_api.v1alpha1.traffic import Abuse, Capture, ResponseFeedback


class ApiKeys(SecretReference):
    """A Secret whose every entry is a key: its name says whose, its value is the key."""


class Gateway(ApiModel):
    """The OpenAI-compatible front."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.feedback) || has(self.apiKeys) || has(self.feedback.secret)",
            "gateway.feedback needs something that proves whose a response is; set gateway.apiKeys or "
            "gateway.feedback.secret",
            at=".feedback",
        ),
        Rule(
            "!has(self.capture) || has(self.feedback)",
            "gateway.capture needs gateway.feedback, because what is kept is read together with what callers said of "
            "it; set gateway.feedback or remove gateway.capture",
            at=".capture",
        ),
        Rule(
            "!has(self.abuse) || has(self.apiKeys)",
            "gateway.abuse tells callers apart by their keys; set gateway.apiKeys or remove gateway.abuse",
            at=".abuse",
        ),
    )

    replicas: Annotated[int, Field(ge=1, le=100, description="Gateway pods.")] = 2
    api_keys: Annotated[
        ApiKeys | None,
        Field(description="Keys that callers must show; without it anybody may call."),
    ] = None
    feedback: Annotated[
        ResponseFeedback | None,
        Field(description="Feedback about responses; without it none is taken."),
    ] = None
    capture: Annotated[
        Capture | None,
        Field(
            description="Prompts and answers that are kept, as the source capture://<service> of a Dataset; without "
            "it none are. The claim <service>-capture must be there, writable for all gateways."
        ),
    ] = None
    abuse: Annotated[
        Abuse | None,
        Field(
            description="What one key may ask for, and when it is unusual; without it keys are neither limited nor looked at."
        ),
    ] = None
