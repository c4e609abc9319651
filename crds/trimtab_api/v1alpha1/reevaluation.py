"""The version that answers, evaluated again by a schedule, and held against its own registration."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import TIMESTAMP, ApiModel, Rule
from trimtab_api.v1alpha1.common import NamedReference
from trimtab_api.v1alpha1.evaluation import DEFAULT_MARGIN, Metric

Moment = Annotated[str, Field(max_length=32, json_schema_extra=TIMESTAMP)]


class Reevaluate(ApiModel):
    """A schedule and its budget: one Job at a time in a service, of so many seconds in so many."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.deadlineSeconds) || !has(self.everySeconds) || self.deadlineSeconds <= self.everySeconds",
            "reevaluate.deadlineSeconds must not be longer than reevaluate.everySeconds; shorten it",
            at=".deadlineSeconds",
        ),
    )

    every_seconds: Annotated[
        int,
        Field(
            ge=3600,
            le=31_536_000,
            description="Time from one evaluation to the next, and from a new version to its first.",
        ),
    ] = 604_800
    deadline_seconds: Annotated[
        int,
        Field(
            ge=60,
            le=86_400,
            description="Longest time of one, all attempts together; with the resources of the version's evaluation this "
            "is what it may cost.",
        ),
    ] = 3600
    dataset: Annotated[
        NamedReference | None,
        Field(
            description="A Dataset of this namespace whose held-out part, as it is prepared then, takes the place of the "
            "version's own."
        ),
    ] = None
    margin: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="What a figure may lose and still be as it was, in its unit; for Perplexity a share.",
        ),
    ] = DEFAULT_MARGIN
    false_alarm_rate: Annotated[
        float,
        Field(
            ge=0.001,
            le=0.2,
            description="The chance that a version that has not become worse is ever called so: shared among its figures and "
            "all its evaluations to come.",
        ),
    ] = 0.05


class ReevaluationState(StrEnum):
    """How far it is."""

    WAITING = "Waiting"
    DECIDED = "Decided"
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


class FigureThenAndNow(ApiModel):
    """One figure at registration and now."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    before: Annotated[float, Field(description="When the version was registered.")]
    now: Annotated[float, Field(description="Now.")]
    loss: Annotated[
        float,
        Field(
            description="How much worse it is now; below zero it is better. For Perplexity a share."
        ),
    ]
    chance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How probable such a loss were, had it lost the margin and no more.",
        ),
    ]
    alarm_at: Annotated[
        float, Field(ge=0, le=1, description="At such a chance, or below, it counts as worse.")
    ]


class ReevaluationStatus(ApiModel):
    """The last evaluation of the version that answers, or the one under way."""

    version: Annotated[str, Field(max_length=253, description="The version.")]
    digest: Annotated[str, Field(max_length=71, description="Digest of its artifact.")]
    number: Annotated[int, Field(ge=0, description="The how-manieth of this version.")] = 0
    state: Annotated[
        ReevaluationState,
        Field(
            description="Waiting: for its time; Decided: the Job is to be made; Running: it was; Done, Failed."
        ),
    ] = ReevaluationState.WAITING
    time: Annotated[
        Moment, Field(description="When this state began; the next one is due everySeconds later.")
    ]
    job: Annotated[str | None, Field(max_length=63, description="Its Job.")] = None
    data: Annotated[
        str | None, Field(max_length=1024, description="The held-out data that was asked.")
    ] = None
    report: Annotated[
        str | None, Field(max_length=1024, description="The whole report in the registry.")
    ] = None
    figures: Annotated[
        list[FigureThenAndNow],
        Field(
            max_length=32,
            description="The figures of the last one that was done.",
        ),
    ] = Field(default_factory=list)
    is_worse: Annotated[
        bool, Field(description="Whether one of them is worse: then the model has drifted.")
    ] = False
    worse_since: Annotated[Moment | None, Field(description="When that was found out first.")] = (
        None
    )
    message: Annotated[str, Field(max_length=512, description="The same in one sentence.")] = ""
