"""Whether the traffic of a served model has moved, and what follows from it."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import TIMESTAMP, ApiModel, Rule
from trimtab_api.v1alpha1.common import NamedReference
from trimtab_api.v1alpha1.reevaluation import Reevaluate, ReevaluationStatus

Moment = Annotated[str, Field(max_length=32, json_schema_extra=TIMESTAMP)]
ObjectTold = Annotated[str, Field(max_length=253)]
MOST_RETRAININGS = 32


class DriftSignal(StrEnum):
    """What is counted, by category: of requests that open a conversation, and of ratings."""

    PROMPT_LENGTH = "PromptLength"
    COMPLETION_LENGTH = "CompletionLength"
    FINISH_REASONS = "FinishReasons"
    REFUSALS = "Refusals"
    LANGUAGES = "Languages"
    TOPICS = "Topics"
    NEGATIVE_FEEDBACK = "NegativeFeedback"


class OnDrift(StrEnum):
    """What follows when the traffic has moved."""

    ALERT = "Alert"
    PROPOSE = "Propose"
    RETRAIN = "Retrain"
    ROLLBACK = "Rollback"


class Drift(ApiModel):
    """The traffic of the active version is watched, each version's against its own first requests."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.signals) || self.signals.all(s, self.signals.exists_one(t, t == s))",
            "drift.signals has a signal twice; name each once",
            at=".signals",
        ),
    )

    signals: Annotated[
        list[DriftSignal],
        Field(
            min_length=1,
            max_length=7,
            description="What is watched; the rate of false alarms is shared among them. NegativeFeedback needs "
            "gateway.feedback.",
        ),
    ] = Field(
        default_factory=lambda: [
            DriftSignal.PROMPT_LENGTH,
            DriftSignal.LANGUAGES,
            DriftSignal.TOPICS,
        ]
    )
    on_drift: Annotated[
        OnDrift,
        Field(
            description="Alert tells of it; Propose also makes a suspended FineTuneJob; Retrain makes one that runs, "
            "within retrain.budget; Rollback gives the requests back to the version before, where one is still loaded, "
            "and quarantines this one."
        ),
    ] = OnDrift.ALERT
    requests_per_false_alarm: Annotated[
        int,
        Field(
            ge=10_000,
            le=1_000_000_000,
            description="Mean number of opening requests until a false alarm, where shares move by less than a point or "
            "three tenths of themselves.",
        ),
    ] = 1_000_000
    reevaluate: Annotated[
        Reevaluate | None,
        Field(
            description="The version is evaluated again by a schedule, and has drifted where it has become worse; without it "
            "only its traffic is watched."
        ),
    ] = None
    reference_requests: Annotated[
        int,
        Field(
            ge=200,
            le=1_000_000,
            description="Opening requests of a new version that are learned from before any is judged, and that later ones "
            "are held against. Another number begins anew.",
        ),
    ] = 2000
    dry_run: Annotated[
        bool, Field(description="Drift is told and nothing follows: status says what would.")
    ] = False


class RetrainBudget(ApiModel):
    """What retrainings may cost without anybody being asked."""

    jobs: Annotated[
        int, Field(ge=1, le=MOST_RETRAININGS, description="Jobs within the period.")
    ] = 2
    gpu_hours: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_000_000,
            description="GPU-hours of training within the period. A job is booked at its deadline until it has ended, and "
            "is given one where the template has none; empty means no limit.",
        ),
    ] = None
    period_seconds: Annotated[int, Field(ge=3600, le=31_536_000, description="The period.")] = (
        2_592_000
    )


class Retrain(ApiModel):
    """How a successor is trained when the traffic has moved."""

    template: Annotated[
        NamedReference,
        Field(
            description="A FineTuneJob of this namespace, suspended or long finished, whose spec is copied. A Dataset that it "
            "names is prepared anew, with the captured requests of this service where gateway.capture is set."
        ),
    ]
    cooldown_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="After a job was made, no other is made for so long.",
        ),
    ] = 86400
    budget: Annotated[
        RetrainBudget, Field(description="For onDrift: Retrain. What people let run is theirs.")
    ] = RetrainBudget()


class MovedShare(ApiModel):
    """One category, and its share of the opening requests."""

    category: Annotated[str, Field(max_length=64, description="Bucket, language or topic.")]
    before: Annotated[float, Field(description="Share when the version was new.")]
    now: Annotated[float, Field(description="Share of late.")]


class RetrainingState(StrEnum):
    """How far it is."""

    DECIDED = "Decided"
    MADE = "Made"
    DROPPED = "Dropped"


class RetrainingStatus(ApiModel):
    """One job that drift has led to."""

    correlation: Annotated[
        str,
        Field(
            max_length=63,
            description="Value of the label trimtab.dev/correlation on the job, its Dataset, its version and Events.",
        ),
    ]
    version: Annotated[ObjectTold, Field(description="The version whose traffic had moved.")]
    job: Annotated[ObjectTold, Field(description="The FineTuneJob.")]
    dataset: Annotated[
        ObjectTold | None, Field(description="The Dataset that was made for it.")
    ] = None
    time: Annotated[Moment, Field(description="When it was decided.")]
    proposed: Annotated[bool, Field(description="Whether it was left to people to let it run.")] = (
        False
    )
    state: Annotated[
        RetrainingState,
        Field(
            description="Decided: to be made; Made: it was, once; Dropped: there was nothing new to learn."
        ),
    ] = RetrainingState.DECIDED
    gpu_hours: Annotated[
        float, Field(ge=0, description="GPU-hours: what it may take, then what it has taken.")
    ] = 0.0


class DriftStatus(ApiModel):
    """What the traffic of the active version looks like beside what it was."""

    version: Annotated[ObjectTold, Field(description="The version that it is about.")]
    reason: Annotated[str, Field(max_length=128, description="Machine-readable state.")]
    message: Annotated[str, Field(max_length=512, description="The same in one sentence.")] = ""
    measured: Annotated[
        Moment | None,
        Field(description="When these figures were written; they are renewed every ten minutes."),
    ] = None
    requests: Annotated[
        int, Field(ge=0, description="Opening requests that were counted of this version.")
    ] = 0
    signal: Annotated[
        str | None, Field(max_length=32, description="The signal that has moved most surely.")
    ] = None
    psi: Annotated[
        float | None,
        Field(description="Its population stability index: how far, not how surely."),
    ] = None
    log_evidence: Annotated[
        float | None, Field(description="The test's value over all signals, as a logarithm.")
    ] = None
    alarm_at: Annotated[float | None, Field(description="The value at which drift is called.")] = (
        None
    )
    since: Annotated[Moment | None, Field(description="When it is thought to have begun.")] = None
    moved: Annotated[
        list[MovedShare],
        Field(max_length=8, description="What has moved most, of that signal."),
    ] = Field(default_factory=list)
    reevaluation: Annotated[
        ReevaluationStatus | None,
        Field(description="Its last evaluation by schedule, or the one under way."),
    ] = None
    plan: Annotated[
        str | None,
        Field(max_length=512, description="What follows, or why nothing does."),
    ] = None
    retrainings: Annotated[
        list[RetrainingStatus],
        Field(
            max_length=MOST_RETRAININGS,
            description="Jobs within the budget's period, the latest last.",
        ),
    ] = Field(default_factory=list)
