"""What an evaluation has found: figures, comparisons, and what became of the gates."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.harness import MOST_TASKS, HarnessFigure
from trimtab_api.v1alpha1.judge import JudgeCounts


class MetricValue(ApiModel):
    """One figure with its 95 % bootstrap interval, and that of the base on the same data."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    value: Annotated[float, Field(description="The version's.")]
    low: Annotated[float | None, Field(description="Lower end of the interval.")] = None
    high: Annotated[float | None, Field(description="Upper end of the interval.")] = None
    base: Annotated[float | None, Field(description="The base model's on the same data.")] = None


class Verdict(StrEnum):
    """What became of a gate. Unknown does not pass."""

    PASS = "Pass"  # noqa: S105 - a verdict, no password
    FAIL = "Fail"
    UNKNOWN = "Unknown"


VersionName = Annotated[str, Field(max_length=253, description="Name of the ModelVersion.")]


class Comparison(ApiModel):
    """The version held against another one: both answered the same examples."""

    version: VersionName
    metric: Annotated[Metric, Field(description="Which figure.")]
    confidence: Annotated[float, Field(description="Confidence of each bound.")]
    value: Annotated[
        float | None, Field(description="The other version's figure on the same examples.")
    ] = None
    difference: Annotated[
        float | None,
        Field(
            description="How much better this version is; below zero it is worse. In the figure's unit, turned where "
            "less is better; for Perplexity a share of the other's."
        ),
    ] = None
    low: Annotated[float | None, Field(description="The difference is above it.")] = None
    high: Annotated[float | None, Field(description="The difference is below it.")] = None
    deviation: Annotated[
        float | None,
        Field(description="Standard deviation of the difference of one example."),
    ] = None
    examples: Annotated[int, Field(ge=0, description="Examples that both answered.")] = 0
    problem: Annotated[
        str | None, Field(max_length=512, description="Why it could not be measured.")
    ] = None


class BestVersion(ApiModel):
    """The best version so far by one figure."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    version: VersionName


class GateResult(ApiModel):
    """What became of one gate. A comparison shows the numbers of the opponent that decided."""

    metric: Annotated[Metric, Field(description="Which figure.")]
    passed: Annotated[bool, Field(description="Whether it passed.")]
    verdict: Annotated[
        Verdict | None, Field(description="Pass, Fail, or Unknown where it could not be told.")
    ] = None
    message: Annotated[str, Field(max_length=512, description="The numbers, in one sentence.")]
    champion: Annotated[
        str | None,
        Field(max_length=253, description="The opponent: the champion, or the best so far."),
    ] = None
    margin: Annotated[float | None, Field(description="What may be lost.")] = None
    difference: Annotated[
        float | None, Field(description="How much better the version is; below zero it is worse.")
    ] = None
    low: Annotated[float | None, Field(description="The difference is above it.")] = None
    high: Annotated[float | None, Field(description="The difference is below it.")] = None
    examples: Annotated[
        int | None, Field(ge=0, description="Examples that both have answered.")
    ] = None
    examples_needed: Annotated[
        int | None,
        Field(ge=0, description="About as many would tell, where the verdict is Unknown."),
    ] = None


class EvaluationStatus(ApiModel):
    """One evaluation of the version."""

    dataset_digest: Annotated[str | None, Field(max_length=71, description="The data.")] = None
    report: Annotated[
        str | None, Field(max_length=1024, description="The whole report in the registry.")
    ] = None
    examples: Annotated[int, Field(ge=0, description="Held-out records.")] = 0
    metrics: Annotated[list[MetricValue], Field(max_length=32, description="Figures.")] = Field(
        default_factory=list
    )
    judge: Annotated[
        JudgeCounts | None,
        Field(description="How the judge of the suite Judge could be understood."),
    ] = None
    harness: Annotated[
        list[HarnessFigure],
        Field(max_length=MOST_TASKS, description="The tasks of the suite Harness, one by one."),
    ] = Field(default_factory=list)
    gates: Annotated[list[GateResult], Field(max_length=16, description="Gates.")] = Field(
        default_factory=list
    )
    comparisons: Annotated[
        list[Comparison],
        Field(max_length=64, description="The version beside its opponents, figure by figure."),
    ] = Field(default_factory=list)
    best: Annotated[
        list[BestVersion],
        Field(
            max_length=16,
            description="The best version so far by each compared figure, this one included: the next has to stand "
            "against it.",
        ),
    ] = Field(default_factory=list)
