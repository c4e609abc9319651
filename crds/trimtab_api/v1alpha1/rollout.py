"""How a served model gets a new version: by steps, with an analysis, and with a way back."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import MAP_BY_NAME, TIMESTAMP, ApiModel, Rule
from trimtab_api.v1alpha1.common import LONGEST_SPAN, Digest
from trimtab_api.v1alpha1.decision import Action, UserName, Why

Moment = Annotated[str, Field(max_length=32, json_schema_extra=TIMESTAMP)]
VersionName = Annotated[str, Field(max_length=253)]
Sentence = Annotated[str, Field(max_length=1024)]


class RolloutStep(ApiModel):
    """A share of the requests that the candidate gets."""

    weight: Annotated[int, Field(ge=1, le=99, description="The candidate's share, per cent.")]


class RolloutMetric(StrEnum):
    """What candidate and stable version are compared by."""

    ERROR_RATE = "ErrorRate"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - a metric, no secret
    TOKENS_PER_SECOND = "TokensPerSecond"
    REQUEST_DURATION = "RequestDuration"
    EMPTY_ANSWERS = "EmptyAnswers"
    CUT_ANSWERS = "CutAnswers"
    REFUSALS = "Refusals"
    NEGATIVE_FEEDBACK = "NegativeFeedback"


class OnInconclusive(StrEnum):
    """What the deadline brings where there is no verdict; never a promotion."""

    HOLD = "Hold"
    ROLL_BACK = "RollBack"


class RolloutQuery(ApiModel):
    """A PromQL expression of one's own, confined to the namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.atMost) || has(self.atLeast)",
            "analysis.queries need atMost or atLeast, or nothing could follow from them; add one",
        ),
    )

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=50,
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            description="What status calls it.",
        ),
    ]
    query: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            description="PromQL that gives one number; $candidate, $stable and $model stand for the names.",
        ),
    ]
    at_most: Annotated[
        float | None, Field(description="A higher value at three looks in a row rolls back.")
    ] = None
    at_least: Annotated[
        float | None, Field(description="A lower value at three looks in a row rolls back.")
    ] = None


class RolloutAnalysis(ApiModel):
    """What the candidate is judged by."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.metrics) || self.metrics.all(m, self.metrics.exists_one(n, n == m))",
            "analysis.metrics has a metric twice; name each once",
            at=".metrics",
        ),
        Rule(
            "!has(self.queries) || !self.queries.exists(q, has(self.metrics) && self.metrics.exists(m, m == q.name))",
            "analysis.queries.name must not be that of a metric; choose another name",
            at=".queries",
        ),
    )

    metrics: Annotated[
        list[RolloutMetric],
        Field(
            min_length=1,
            max_length=8,
            description="What is compared with the stable version over the same time; without it ErrorRate.",
        ),
    ] = Field(default_factory=lambda: [RolloutMetric.ERROR_RATE])
    queries: Annotated[
        list[RolloutQuery],
        Field(
            max_length=8,
            description="Expressions of one's own, and the bounds of their values.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)
    false_alarm_rate: Annotated[
        float,
        Field(
            ge=0.001,
            le=0.2,
            description="Of versions that are no worse, at most this share is rolled back; shared among the metrics.",
        ),
    ] = 0.05
    margin: Annotated[
        float | None,
        Field(
            ge=0.001,
            le=0.5,
            description="How much higher a rate may be and still count as no worse; empty: the larger of 0.01 and half of "
            "the stable version's.",
        ),
    ] = None
    on_inconclusive: Annotated[
        OnInconclusive,
        Field(description="What follows when the deadline passes without a verdict."),
    ] = OnInconclusive.HOLD
    deadline_seconds: Annotated[
        int,
        Field(ge=60, le=LONGEST_SPAN, description="Time for a verdict, from the first step on."),
    ] = 86400


class Rollout(ApiModel):
    """A new version gets its requests by steps, as long as nothing speaks against it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.steps) || self.steps.map(s, s.weight).isSorted() && self.steps.all(s, self.steps.exists_one(t, t.weight == s.weight))",
            "rollout.steps must grow; give each a higher weight than the one before",
            at=".steps",
        ),
    )

    steps: Annotated[
        list[RolloutStep],
        Field(
            min_length=1,
            max_length=10,
            description="Shares before all requests, smallest first; without it 5, 25 and 50.",
        ),
    ] = Field(default_factory=lambda: [RolloutStep(weight=w) for w in (5, 25, 50)])
    step_seconds: Annotated[
        int, Field(ge=1, le=604_800, description="A step lasts at least so long.")
    ] = 300
    step_requests: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="And until the candidate has answered so many requests.",
        ),
    ] = 500
    analysis: Annotated[RolloutAnalysis, Field(description="What the candidate is judged by.")] = (
        RolloutAnalysis()
    )
    rollback_window_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=2_592_000,
            description="After the promotion the version is watched, and the one before kept loaded, for so long.",
        ),
    ] = 3600
    dry_run: Annotated[
        bool,
        Field(
            description="Verdicts are told and not carried out; the candidate gets the shares of the steps all the same."
        ),
    ] = False


class BaseRollout(Rollout):
    """Another base gets its requests by steps, on engines of its own beside those of the present one."""

    allow_downtime: Annotated[
        bool,
        Field(
            description="Where there is no room for both: the present engines go first, and nothing answers until the "
            "new ones do; a rollback goes the same way. Without it the new base is refused, and the present one goes on."
        ),
    ] = False
    scheduling_deadline_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=86_400,
            description="A pod of the new engines that found no node for so long shows that there is no room.",
        ),
    ] = 600


class RolloutVerdict(StrEnum):
    """What follows from the figures so far."""

    HOLD = "Hold"
    PROMOTE = "Promote"
    ROLL_BACK = "RollBack"


class MetricEvidence(ApiModel):
    """What one metric, or one query, has shown so far."""

    name: Annotated[str, Field(max_length=50, description="Metric or query.")]
    level: Annotated[float | None, Field(description="Its part of the rate of false alarms.")] = (
        None
    )
    candidate_requests: Annotated[
        int, Field(ge=0, description="What was counted of the candidate.")
    ] = 0
    candidate_events: Annotated[int, Field(ge=0, description="Events among them.")] = 0
    stable_requests: Annotated[
        int, Field(ge=0, description="What was counted of the stable version.")
    ] = 0
    stable_events: Annotated[int, Field(ge=0, description="Events among them.")] = 0
    log_evidence: Annotated[
        float | None, Field(description="Evidence that the candidate is worse, as a logarithm.")
    ] = None
    alarm_at: Annotated[
        float | None, Field(description="The evidence at which it is rolled back.")
    ] = None
    log_no_worse: Annotated[
        float | None,
        Field(description="Evidence that it is not worse by the margin, as a logarithm."),
    ] = None
    proven_at: Annotated[
        float | None, Field(description="The evidence at which that counts as proven.")
    ] = None
    value: Annotated[float | None, Field(description="The last value of a query.")] = None
    message: Annotated[
        str | None, Field(max_length=512, description="Why nothing is known, where that is so.")
    ] = None


class Companion(ApiModel):
    """A public name whose adapter goes with the base: the shares are those of the base."""

    name: Annotated[str, Field(max_length=50, description="Public name.")]
    stable: Annotated[VersionName, Field(description="The adapter over the base of before.")]
    stable_digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    candidate: Annotated[VersionName, Field(description="The adapter over the new base.")]
    candidate_digest: Annotated[Digest, Field(description="Digest of its artifact.")]


class RolloutStatus(ApiModel):
    """A rollout under way, or a promoted version that is still guarded."""

    candidate: Annotated[VersionName, Field(description="The version that proves itself.")]
    candidate_digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    stable: Annotated[VersionName, Field(description="The version that it is compared with.")]
    stable_digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    salt: Annotated[
        str, Field(max_length=16, description="What spreads the users over both versions.")
    ]
    since: Annotated[Moment, Field(description="When the first step began.")]
    step: Annotated[int, Field(ge=1, le=10, description="The step, from 1.")] = 1
    step_since: Annotated[Moment, Field(description="When this step began.")]
    step_requests: Annotated[
        int, Field(ge=0, description="Requests that the candidate has answered in this step.")
    ] = 0
    promoted: Annotated[
        Moment | None, Field(description="When it got all requests; since then it is guarded.")
    ] = None
    replaced: Annotated[
        Moment | None,
        Field(
            description="Of a base that there was no room for: when the engines of stable went. It is held against what "
            "was counted before."
        ),
    ] = None
    verdict: Annotated[RolloutVerdict, Field(description="What follows from the figures.")] = (
        RolloutVerdict.HOLD
    )
    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause.")]
    message: Annotated[Sentence, Field(description="The same in one sentence.")] = ""
    requests_needed: Annotated[
        int | None,
        Field(ge=0, description="About so many more requests until a promotion, both versions."),
    ] = None
    metrics: Annotated[
        list[MetricEvidence],
        Field(
            max_length=16,
            description="What each metric has shown.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)
    companions: Annotated[
        list[Companion],
        Field(
            max_length=256,
            description="Of a base: the adapters that move with it, and are judged with it.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)


class RollbackStatus(ApiModel):
    """A version that lost its requests, and why."""

    from_version: Annotated[
        VersionName, Field(alias="from", description="The version that was rolled back.")
    ]
    from_digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    to_version: Annotated[
        VersionName, Field(alias="to", description="The version that has the requests again.")
    ]
    to_digest: Annotated[Digest, Field(description="Digest of its artifact.")]
    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause.")]
    message: Annotated[Sentence, Field(description="The same in one sentence, with numbers.")]
    evidence: Annotated[
        list[MetricEvidence],
        Field(
            max_length=16,
            description="What each metric had shown.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)
    query: Annotated[
        str | None,
        Field(max_length=2048, description="What Prometheus was asked for the deciding metric."),
    ] = None
    time: Annotated[Moment, Field(description="When it was decided.")]
    duration_ms: Annotated[
        int | None,
        Field(
            ge=0,
            description="From the decision until the routing table was written; of a base whose predecessor has to be "
            "started again, until that began.",
        ),
    ] = None
    decision: Annotated[
        str | None,
        Field(max_length=253, description="The Decision that quarantines the digest."),
    ] = None


class ModelRuling(ApiModel):
    """A Decision about a public name, as the service remembers it: deleting it undoes nothing."""

    action: Annotated[Action, Field(description="What was decided.")]
    digest: Annotated[Digest | None, Field(description="The version that was meant.")] = None
    decision: Annotated[str, Field(max_length=253, description="Name of the Decision.")]
    uid: Annotated[str, Field(max_length=64, description="Its uid.")]
    by: Annotated[UserName, Field(description="Who decided.")]
    reason: Annotated[Why, Field(description="Why.")]
    time: Annotated[Moment, Field(description="When it was created.")]
