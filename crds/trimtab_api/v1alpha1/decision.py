"""Decision: what a person decided about a version, in that person's name."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_TYPE, ApiModel, Rule
from trimtab_api.v1alpha1.common import Condition, Digest, ObjectName, Resource

UserName = Annotated[str, Field(min_length=1, max_length=512)]
Why = Annotated[str, Field(min_length=1, max_length=1024)]


class Action(StrEnum):
    """What is decided."""

    APPROVE = "Approve"
    REVOKE = "Revoke"
    RETIRE = "Retire"


class DecisionTarget(ApiModel):
    """What is decided about; the digest says which content was looked at."""

    kind: Annotated[Literal["ModelVersion"], Field(description="Kind of the object.")]
    name: Annotated[ObjectName, Field(description="Its name, in the Decision's namespace.")]
    digest: Annotated[
        Digest,
        Field(
            description="Digest of its artifact, the part of spec.artifact.uri after @. A decision about other content "
            "has no effect."
        ),
    ]


class DecisionSpec(ApiModel):
    """One decision; immutable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            "spec of a Decision cannot be changed; create another Decision, the latest one wins",
        ),
    )

    action: Annotated[
        Action,
        Field(
            description="Approve lets a version be served where the namespace asks for approval, and takes a retired one "
            "back into use; Revoke takes the approval back; Retire keeps it from being newly referenced."
        ),
    ]
    target: Annotated[DecisionTarget, Field(description="The version that is decided about.")]
    by: Annotated[
        UserName,
        Field(
            description="Who decides: the user name of whoever creates the Decision, as kubectl auth whoami tells it."
        ),
    ]
    reason: Annotated[Why, Field(description="Why, for those who ask later.")]


class DecisionStatus(ApiModel):
    """What came of the decision."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(max_length=8, description="Effective.", json_schema_extra=MAP_BY_TYPE),
    ] = Field(default_factory=list)


class Decision(Resource[DecisionSpec, DecisionStatus]):
    """What a person decided about a version: created, never changed."""

    definition: ClassVar[Definition] = Definition(
        kind="Decision",
        plural="decisions",
        short_name="tdc",
        columns=(
            Column("Action", ".spec.action", description="What is decided."),
            Column("Target", ".spec.target.name", description="The version."),
            Column("By", ".spec.by", description="Who decided."),
            Column(
                "Effective", status_of("Effective"), description="Whether something rests on it."
            ),
            AGE,
            Column("Why", ".spec.reason", priority=1, description="Why it was decided."),
            Column(
                "Reason",
                reason_of("Effective"),
                priority=1,
                description="Why it is effective or not.",
            ),
            Column(
                "Message",
                message_of("Effective"),
                priority=1,
                description="The same in one sentence.",
            ),
        ),
        selectable=(".spec.action", ".spec.target.name"),
    )

    status: DecisionStatus = DecisionStatus()
