"""Decision: what a person, or the operator, decided about a version or a served model, in its maker's name."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_TYPE, ApiModel, Rule
from trimtab_api.v1alpha1.common import Condition, Digest, ModelName, ObjectName, Resource

UserName = Annotated[str, Field(min_length=1, max_length=512)]
Why = Annotated[str, Field(min_length=1, max_length=1024)]


class Action(StrEnum):
    """What is decided."""

    APPROVE = "Approve"
    REVOKE = "Revoke"
    RETIRE = "Retire"
    QUARANTINE = "Quarantine"
    LIFT_QUARANTINE = "LiftQuarantine"
    PROMOTE = "Promote"
    ABORT = "Abort"
    PAUSE = "Pause"
    RESUME = "Resume"
    PIN = "Pin"


ABOUT_VERSIONS: Final = (
    Action.APPROVE,
    Action.REVOKE,
    Action.RETIRE,
    Action.QUARANTINE,
    Action.LIFT_QUARANTINE,
)
WITHOUT_DIGEST: Final = (Action.PAUSE, Action.RESUME)


def _listed(actions: Iterable[Action]) -> str:
    return ", ".join(f"'{action}'" for action in actions)


class DecisionTarget(ApiModel):
    """What is decided about; the digest says which content was looked at."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.model) == (self.kind == 'InferenceService')",
            "target.model is the public name of a model of an InferenceService; name it there, and nowhere else",
            at=".model",
        ),
    )

    kind: Annotated[
        Literal["ModelVersion", "InferenceService"], Field(description="Kind of the object.")
    ]
    name: Annotated[ObjectName, Field(description="Its name, in the Decision's namespace.")]
    model: Annotated[
        ModelName | None,
        Field(description="For an InferenceService: the public name of the model in it."),
    ] = None
    digest: Annotated[
        Digest | None,
        Field(
            description="Digest of the version's artifact, the part of spec.artifact.uri after @. A decision about other "
            "content has no effect."
        ),
    ] = None


class DecisionSpec(ApiModel):
    """One decision; immutable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            "spec of a Decision cannot be changed; create another Decision, the latest one wins",
        ),
        Rule(
            f"(self.action in [{_listed(ABOUT_VERSIONS)}]) == (self.target.kind == 'ModelVersion')",
            f"spec.target.kind must be ModelVersion for {', '.join(ABOUT_VERSIONS)}, and InferenceService for "
            "the others; change one of the two",
            at=".target.kind",
        ),
        Rule(
            f"has(self.target.digest) != (self.action in [{_listed(WITHOUT_DIGEST)}])",
            f"spec.target.digest says which version is meant; add it, but leave it out of {' and '.join(WITHOUT_DIGEST)}",
            at=".target.digest",
        ),
    )

    action: Annotated[
        Action,
        Field(
            description="Approve lets a version be served where the namespace asks for approval, and takes a retired one "
            "back into use; Revoke takes the approval back; Retire keeps it from being newly referenced; Quarantine keeps "
            "its content from being served until LiftQuarantine. Promote and Abort end a rollout, Pause holds it, Pin keeps "
            "a name with the version that answers; Resume ends both."
        ),
    ]
    target: Annotated[
        DecisionTarget,
        Field(description="The version, or the model of a service, that is decided about."),
    ]
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
    """What was decided about a version or a served model: created, never changed."""

    definition: ClassVar[Definition] = Definition(
        kind="Decision",
        plural="decisions",
        short_name="tdc",
        columns=(
            Column("Action", ".spec.action", description="What is decided."),
            Column("Target", ".spec.target.name", description="The version or the service."),
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
