"""Tasks of lm-evaluation-harness as a suite."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from trimtab_api.model import ApiModel, Rule

TASK_PATTERN: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,126}[A-Za-z0-9])?$"
MOST_TASKS: Final = 16
TaskName = Annotated[
    str, Field(max_length=128, pattern=TASK_PATTERN, description="A task, as its file calls it.")
]


class Harness(ApiModel):
    """Which tasks of the files are asked, and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.tasks.all(t, self.tasks.exists_one(other, other == t))",
            "harness.tasks has a task twice; name each of them once",
            at=".tasks",
        ),
    )

    tasks: Annotated[
        list[TaskName],
        Field(
            min_length=1,
            max_length=MOST_TASKS,
            description="The tasks that are asked, by the field task of their YAML files.",
        ),
    ]
    few_shot: Annotated[
        int | None,
        Field(
            ge=0,
            le=64,
            description="Solved examples that precede each question; what each task says unless stated.",
        ),
    ] = None
    max_examples: Annotated[
        int,
        Field(ge=1, le=5000, description="How many examples of each task are asked at most."),
    ] = 200
    chat_template: Annotated[
        bool,
        Field(description="Put questions into the model's chat template, as users will ask."),
    ] = False


class HarnessFigure(ApiModel):
    """What came of one task: a mean over its examples with its 95 % bootstrap interval."""

    task: TaskName
    metric: Annotated[str, Field(max_length=64, description="The task's first metric.")]
    value: Annotated[float, Field(description="The version's.")]
    low: Annotated[float, Field(description="Lower end of the interval.")]
    high: Annotated[float, Field(description="Upper end of the interval.")]
    base: Annotated[
        float | None, Field(description="An adapter's base model on the same examples.")
    ] = None
    examples: Annotated[int, Field(ge=0, description="Examples that were asked.")]
