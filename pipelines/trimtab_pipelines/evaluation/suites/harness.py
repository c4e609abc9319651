"""Tasks of lm-evaluation-harness (Gao et al., 2021), asked of the network that is loaded already.

The harness itself poses and scores them; what it is given has been read and checked by us.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Before the harness: it says which networks are read from the disk alone.
from trimtab_pipelines.evaluation.models import Loaded  # isort: skip

import datasets
import numpy as np
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from trimtab_api.documents import EvaluationRun
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.harness import Harness, HarnessFigure
from trimtab_pipelines.evaluation.intervals import Table, estimate, ratio
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.suites import harnesstemplates as templates
from trimtab_pipelines.evaluation.suites.harnessfiles import Task, read_tasks
from trimtab_pipelines.evaluation.suites.reading import fetched, invalid

_SEED: Final = 1234
_AT_ONCE: Final = 8

for _name in ("lm_eval", "datasets"):  # they tell at length what they assume
    logging.getLogger(_name).setLevel(logging.ERROR)
datasets.disable_progress_bars()


@dataclass(frozen=True)
class Asked:
    """What came of all tasks."""

    figures: list[HarnessFigure]
    measure: Measure

    def measures(self) -> dict[Metric, Measure]:
        return {Metric.HARNESS_SCORE: self.measure}


def harness(run: EvaluationRun, suite: SuiteRun, loaded: Loaded, workspace: Path) -> Asked:
    """The tasks' first figures, of the version and of an adapter's base, and the mean of the version's."""
    wanted = suite.harness or Harness(tasks=[])
    if wanted.chat_template and not getattr(loaded.tokenizer, "chat_template", None):
        raise invalid(suite, "the model's tokenizer has no chat template; leave chatTemplate out")
    tasks = read_tasks(suite, wanted, fetched(suite, workspace, run.output))
    own = _scores(suite, wanted, tasks, loaded)
    base: Mapping[str, Sequence[float]] = {}
    if loaded.is_adapter:
        with loaded.as_base():
            base = _scores(suite, wanted, tasks, loaded)
    figures = [_figure(task, own[task.file.task], base.get(task.file.task)) for task in tasks]
    return Asked(figures, Measure(table_of(list(own.values())), mean_of_tasks))


def table_of(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each example's score in the columns of its task, and a one to count it by."""
    rows = []
    for place, of_task in enumerate(scores):
        for score in of_task:
            row = [0.0] * (2 * len(scores))
            row[2 * place : 2 * place + 2] = [score, 1.0]
            rows.append(row)
    return rows


def mean_of_tasks(sums: Table) -> float:
    """Each task counts the same, however many examples it has."""
    pairs = sums.reshape(-1, 2)
    pairs = pairs[pairs[:, 1] > 0]
    return float(np.mean(pairs[:, 0] / pairs[:, 1])) if len(pairs) else 0.0


def _figure(task: Task, own: Sequence[float], base: Sequence[float] | None) -> HarnessFigure:
    found = estimate([(score, 1.0) for score in own], ratio)
    return HarnessFigure(
        task=task.file.task,
        metric=task.file.metric,
        value=found.value,
        low=found.low,
        high=found.high,
        base=float(np.mean(base)) if base else None,
        examples=len(own),
    )


def _scores(
    suite: SuiteRun, wanted: Harness, tasks: Sequence[Task], loaded: Loaded
) -> dict[str, list[float]]:
    """For each task what each of its examples scored, in their order."""
    made = {task.file.task: _made(suite, wanted, task) for task in tasks}
    model = HFLM(
        pretrained=loaded.network,
        tokenizer=loaded.tokenizer,
        backend="causal",
        batch_size=_AT_ONCE,
        max_length=loaded.context_length,
    )
    with _told(suite, " or ".join(made)):
        found = evaluate(
            lm=model,
            task_dict={"tasks": made, "groups": {}, "group_map": {}},
            limit=wanted.max_examples,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=wanted.chat_template,
            fewshot_as_multiturn=wanted.chat_template,
        )
    return {task.file.task: _of(task, found["samples"][task.file.task]) for task in tasks}


def _of(task: Task, samples: Sequence[Mapping[str, Any]]) -> list[float]:
    """The task's first figure after its first filter."""
    first = samples[0]["filter"]
    said = {each["doc_id"]: each for each in samples if each["filter"] == first}
    return [float(said[place][task.file.metric]) for place in sorted(said)]


def _made(suite: SuiteRun, wanted: Harness, task: Task) -> ConfigurableTask:
    file = task.file
    has_choices = file.doc_to_choice is not None
    name = file.task
    plain = file.model_dump(
        exclude_none=True,
        exclude={"metadata", "tag", "task_alias", "dataset_path", "dataset_kwargs", "repeats"},
    )
    config = plain | {
        "custom_dataset": lambda: _splits(suite, task),
        "doc_to_text": templates.text_of(suite, name, file.doc_to_text, has_choices=has_choices),
        "doc_to_target": templates.target_of(
            suite, name, file.doc_to_target, has_choices=has_choices
        ),
        "doc_to_choice": templates.choices_of(suite, name, file.doc_to_choice),
    }
    if wanted.few_shot is not None:
        config["num_fewshot"] = wanted.few_shot
    if has_choices:
        _check_answers(suite, task, config)
    with _told(suite, name):
        made = ConfigurableTask(config=config)
    made.set_fewshot_seed(_SEED)
    return made


def _check_answers(suite: SuiteRun, task: Task, config: Mapping[str, Any]) -> None:
    """An answer that no choice is would count as wrong whatever is said, and nobody would see why."""
    for number, doc in enumerate(task.asked, start=1):
        place = _given(config["doc_to_text"], doc)
        answer = place if isinstance(place, int) else _given(config["doc_to_target"], doc)
        choices = list(_given(config["doc_to_choice"], doc))
        for each in answer if isinstance(answer, list) else [answer]:
            is_known = each in choices or (isinstance(each, int) and 0 <= each < len(choices))
            if not is_known:
                told = (
                    f"row {number} has the answer {str(each)[:80]!r}, which none of its choices is"
                )
                raise invalid(suite, f"{task.file.task}: {told}")


def _given(source: Any, doc: Mapping[str, Any]) -> Any:
    return source(doc) if callable(source) else source


@contextmanager
def _told(suite: SuiteRun, what: str) -> Iterator[None]:
    """What the harness stumbles over in a task that is well-formed."""
    try:
        yield
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise invalid(suite, f"{what} is not understood by the harness: {reason}") from error


def _splits(suite: SuiteRun, task: Task) -> dict[str, datasets.Dataset]:
    """The rows as the harness wants them; columns have one type each."""
    try:
        return {name: datasets.Dataset.from_list(rows) for name, rows in task.splits.items()}
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise invalid(suite, f"{task.file.task}: its rows have no common form: {reason}") from error
