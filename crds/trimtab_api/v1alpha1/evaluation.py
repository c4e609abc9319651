"""What a version is asked to show: figures, suites, gates."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from trimtab_api.model import MAP_BY_NAME, ApiModel, Rule
from trimtab_api.rules import exactly_one
from trimtab_api.v1alpha1.common import (
    LONGEST_SPAN,
    OCI_DIGEST_URI_PATTERN,
    ONE_GPU,
    PodOverrides,
    Quantity,
)
from trimtab_api.v1alpha1.harness import Harness
from trimtab_api.v1alpha1.judge import Judge


class Metric(StrEnum):
    """Figures of an evaluation. Loss and Forgetting in nats per token; all but these and Perplexity lie in 0..1."""

    LOSS = "Loss"
    PERPLEXITY = "Perplexity"
    EXACT_MATCH = "ExactMatch"
    BLEU = "Bleu"
    ROUGE_L = "RougeL"
    TOKEN_F1 = "TokenF1"  # noqa: S105 - a measure, no password
    ACCURACY = "Accuracy"
    PRECISION = "Precision"
    RECALL = "Recall"
    F1 = "F1"
    FORGETTING = "Forgetting"
    BIAS_GAP = "BiasGap"
    REFUSAL_RATE = "RefusalRate"
    OVER_REFUSAL_RATE = "OverRefusalRate"
    LEAKAGE_RATE = "LeakageRate"
    INJECTION_RATE = "InjectionRate"
    JUDGE_WIN_RATE = "JudgeWinRate"
    HARNESS_SCORE = "HarnessScore"


class SuiteName(StrEnum):
    """What can be asked of a version beside its own held-out data."""

    FORGETTING = "Forgetting"
    BIAS = "Bias"
    SAFETY = "Safety"
    JUDGE = "Judge"
    HARNESS = "Harness"


OF_SUITES: Final[Mapping[SuiteName, tuple[Metric, ...]]] = {
    SuiteName.FORGETTING: (Metric.FORGETTING,),
    SuiteName.BIAS: (Metric.BIAS_GAP,),
    SuiteName.SAFETY: (
        Metric.REFUSAL_RATE,
        Metric.OVER_REFUSAL_RATE,
        Metric.LEAKAGE_RATE,
        Metric.INJECTION_RATE,
    ),
    SuiteName.JUDGE: (Metric.JUDGE_WIN_RATE,),
    SuiteName.HARNESS: (Metric.HARNESS_SCORE,),
}
SUITE_METRICS: Final = tuple(metric for metrics in OF_SUITES.values() for metric in metrics)
# What plain text can be judged by.
OF_TEXT: Final = (
    Metric.LOSS,
    Metric.PERPLEXITY,
    *(metric for metric in SUITE_METRICS if metric is not Metric.JUDGE_WIN_RATE),
)
OF_LABELS: Final = (Metric.ACCURACY, Metric.PRECISION, Metric.RECALL, Metric.F1)
LESS_IS_BETTER: Final = (
    Metric.LOSS,
    Metric.PERPLEXITY,
    Metric.FORGETTING,
    Metric.BIAS_GAP,
    Metric.OVER_REFUSAL_RATE,
    Metric.LEAKAGE_RATE,
    Metric.INJECTION_RATE,
)
_MORE_IS_BETTER: Final = tuple(m for m in Metric if m not in LESS_IS_BETTER)


def one_of(metrics: tuple[Metric, ...], of: str = "self") -> str:
    """The CEL expression for a metric that is among these."""
    return f"{of}.metric in [{', '.join(repr(m.value) for m in metrics)}]"


def _listed(metrics: tuple[Metric, ...]) -> str:
    *head, last = (m.value for m in metrics)
    return f"{', '.join(head)} and {last}" if head else last


class Opponent(StrEnum):
    """Whom a version is compared with."""

    CHAMPION = "Champion"


DEFAULT_MARGIN: Final = 0.02
DEFAULT_CONFIDENCE: Final = 0.95


class Gate(ApiModel):
    """What a version has to meet before it is Ready: a threshold, or the champion."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "atLeast",
            "atMost",
            "notWorseThan",
            what="a gate",
            remedy=f"use atMost for {_listed(LESS_IS_BETTER)}, atLeast for the others, "
            "or notWorseThan to compare with the champion",
        ),
        Rule(
            f"!has(self.atLeast) || !({one_of(LESS_IS_BETTER)})",
            f"gates on {_listed(LESS_IS_BETTER)}, of which less is better, need atMost; replace atLeast",
            at=".atLeast",
        ),
        Rule(
            f"!has(self.atMost) || {one_of(LESS_IS_BETTER)}",
            f"gates on {_listed(_MORE_IS_BETTER)}, of which more is better, need atLeast; replace atMost",
            at=".atMost",
        ),
        Rule(
            f"!has(self.notWorseThan) || !({one_of(SUITE_METRICS)})",
            "notWorseThan compares figures of held-out data; use atMost or atLeast for those of suites",
            at=".notWorseThan",
        ),
        Rule(
            "has(self.notWorseThan) || !has(self.margin)",
            "margin belongs to notWorseThan; remove margin, or set notWorseThan: Champion",
            at=".margin",
        ),
        Rule(
            "has(self.notWorseThan) || !has(self.confidence)",
            "confidence belongs to notWorseThan; remove confidence, or set notWorseThan: Champion",
            at=".confidence",
        ),
        # As a bound of the schema the API server would tell it without its fraction.
        Rule(
            "!has(self.confidence) || (self.confidence >= 0.8 && self.confidence <= 0.995)",
            "confidence must lie between 0.8 and 0.995, because 2,000 resamples tell no more; use 0.95",
            at=".confidence",
        ),
    )

    metric: Annotated[Metric, Field(description="The figure that is judged.")]
    at_least: Annotated[float | None, Field(description="The lowest value that passes.")] = None
    at_most: Annotated[float | None, Field(description="The highest value that passes.")] = None
    not_worse_than: Annotated[
        Opponent | None,
        Field(
            description="Champion: the version of the same model that most services of the namespace have active, "
            "else the newest that is Ready. It and the best version so far answer the same held-out examples; "
            "the gate passes where the difference is above -margin with the stated confidence."
        ),
    ] = None
    margin: Annotated[
        float | None,
        Field(
            gt=0,
            le=10,
            description="What a version may lose and still pass, in the unit of the figure; for Perplexity a share "
            f"of the champion's. {DEFAULT_MARGIN} unless stated.",
        ),
    ] = None
    confidence: Annotated[
        float | None,
        Field(
            description="How sure a pass must be, between 0.8 and 0.995: 1 minus the chance to pass a version that is worse by exactly "
            f"the margin. {DEFAULT_CONFIDENCE} unless stated.",
        ),
    ] = None

    @property
    def allowed_loss(self) -> float:
        """The margin, stated or not."""
        return DEFAULT_MARGIN if self.margin is None else self.margin

    @property
    def sureness(self) -> float:
        """The confidence, stated or not."""
        return DEFAULT_CONFIDENCE if self.confidence is None else self.confidence


class EvaluationDataset(ApiModel):
    """Prepared data whose test split is used."""

    uri: Annotated[
        str,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="oci://registry/name@sha256:<64 hex>.",
        ),
    ]


class Suite(ApiModel):
    """Cases that are asked of a version beside its own held-out data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.judge) == (self.name == 'Judge')",
            "judge belongs to the suite Judge, which needs it; add or remove it",
            at=".judge",
        ),
        Rule(
            "!has(self.uri) || self.name != 'Judge'",
            "the suite Judge looks at the held-out data and has no cases; remove uri",
            at=".uri",
        ),
        Rule(
            "has(self.harness) == (self.name == 'Harness')",
            "harness belongs to the suite Harness, which needs it; add or remove it",
            at=".harness",
        ),
        Rule(
            "has(self.uri) || self.name != 'Harness'",
            "no tasks ship for the suite Harness; set uri to an artifact with their files",
            at=".uri",
        ),
    )

    name: Annotated[
        SuiteName,
        Field(
            description="Forgetting: what the base says worse than before, on its own held-out text. Bias: the same "
            "prompt with groups exchanged. Safety: refusals, leakage, prompt injection. Judge: answers to the held-out "
            "questions, as another model judges them. Harness: tasks of lm-evaluation-harness from files of your own."
        ),
    ]
    uri: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="Cases of your own in place of those that ship: JSONL files at "
            "oci://registry/name@sha256:<64 hex>. For Harness the tasks' YAML files and their data.",
        ),
    ] = None
    judge: Annotated[Judge | None, Field(description="For Judge: who judges, and what.")] = None
    harness: Annotated[
        Harness | None, Field(description="For Harness: which tasks are asked, and how.")
    ] = None


SUITES: Final = Field(
    max_length=len(SuiteName),
    description="What is asked of the version beside its held-out data; gates can name the figures.",
    json_schema_extra=MAP_BY_NAME,
)


def suite_rules() -> tuple[Rule, ...]:
    """A gate on a figure that no suite measures would never pass."""
    return tuple(
        Rule(
            f"!has(self.gates) || !self.gates.exists(g, {one_of(metrics, 'g')}) || "
            f"(has(self.suites) && self.suites.exists(s, s.name == '{suite.value}'))",
            f"evaluation.gates on {_listed(metrics)} need the suite {suite.value}; add it to evaluation.suites",
            at=".gates",
        )
        for suite, metrics in OF_SUITES.items()
    )


MAX_EXAMPLES: Final = Field(
    ge=1,
    le=5000,
    description="How many held-out examples are used at most. 200 unless stated, and 1000 where a gate compares with "
    "the champion: small differences take many.",
)


LONGEST_EVALUATION: Final = Field(
    ge=1,
    le=LONGEST_SPAN,
    description="Longest time that an evaluation may run, in seconds; then it has failed. 86400, a day, unless stated.",
)


class EvaluationResources(ApiModel):
    """What the evaluation pod asks the cluster for."""

    rules: ClassVar[tuple[Rule, ...]] = (ONE_GPU,)

    gpus: Annotated[
        int, Field(ge=0, description="GPUs (nvidia.com/gpu): 1, or 0 to evaluate on the CPU.")
    ] = 0
    cpu: Annotated[Quantity, Field(description="CPU request, for example 4 or 500m.")] = "250m"
    memory: Annotated[
        Quantity,
        Field(
            description="Memory request, for example 32Gi. It is no limit: an evaluation may hold more of the model "
            "than its training did."
        ),
    ] = "1Gi"


class VersionEvaluation(ApiModel):
    """What the version must show. A report that is there is verified, not made again."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.report) || !has(self.gates) || self.gates.all(g, !has(g.notWorseThan))",
            "evaluation.report knows nothing of this namespace's champion; remove report so that the version is "
            "evaluated here, or remove the gates with notWorseThan",
            at=".report",
        ),
        *suite_rules(),
    )

    dataset: Annotated[
        EvaluationDataset | None,
        Field(description="Held-out data; without it only the fingerprint is taken."),
    ] = None
    gates: Annotated[list[Gate], Field(max_length=16, description="Gates; all must pass.")] = Field(
        default_factory=list
    )
    max_examples: Annotated[int | None, MAX_EXAMPLES] = None
    active_deadline_seconds: Annotated[int | None, LONGEST_EVALUATION] = None
    suites: Annotated[list[Suite], SUITES] = Field(default_factory=list)
    report: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=OCI_DIGEST_URI_PATTERN,
            description="A report about this very artifact.",
        ),
    ] = None
    resources: Annotated[
        EvaluationResources,
        Field(description="What the evaluation pod asks for; a job hands on its own."),
    ] = EvaluationResources()
    pod: Annotated[
        PodOverrides,
        Field(
            description="Scheduling and environment of the evaluation pod; a job hands on its own."
        ),
    ] = PodOverrides()
