"""Tasks of lm-evaluation-harness on real, tiny models: what comes out, beside the harness itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from tests.evaluationkit import World
from tests.ociserver import FakeRegistry
from tests.tinymodels import save_base

from trimtab_api.documents.common import Stored
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.evaluation import Metric, SuiteName
from trimtab_api.v1alpha1.harness import Harness
from trimtab_pipelines.evaluation import models

WORDS = ("alpha", "beta", "gamma", "delta")
ROWS = [
    {"name": f"os.{WORDS[n % 4]}{n}", "choices": list(WORDS), "answer": n % 4} for n in range(24)
]
CHOOSING: dict[str, Any] = {
    "task": "choosing",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "shown": "shown.jsonl"}},
    "test_split": "test",
    "fewshot_split": "shown",
    "output_type": "multiple_choice",
    "doc_to_text": "Which word is in {{name}}?",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "num_fewshot": 2,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
WRITING: dict[str, Any] = {
    "include": "common.yaml",
    "task": "writing",
    "output_type": "generate_until",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "ignore_case": True}],
    "filter_list": [
        {"name": "first", "filter": [{"function": "regex", "regex_pattern": r"(\w+)"}, {"function": "take_first"}]}
    ],
}  # fmt: skip
COMMON = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "doc_to_text": "Say the word of {{name}}.",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), context=512)


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, registry, monkeypatch)


def files(folder: Path, *tasks: dict[str, Any]) -> Path:
    """What a user pushes: the tasks, what they include, their rows."""
    folder.mkdir()
    for task in tasks:
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    (folder / "common.yaml").write_text(yaml.safe_dump(COMMON))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:6]))
    return folder


def suite(world: World, *tasks: dict[str, Any], **wanted: Any) -> SuiteRun:
    folder = files(world.root / "tasks", *tasks)
    pushed = world.push(folder, "team/tasks", kind="Dataset")
    asked = Harness(tasks=[task["task"] for task in tasks], **wanted)
    stored = Stored(uri=str(pushed), digest=str(pushed.digest))
    return SuiteRun(name=SuiteName.HARNESS, data=stored, harness=asked)


def test_each_task_has_a_figure_and_all_of_them_one(world: World, base: Path) -> None:
    root = world.mount(base)
    asked = suite(world, CHOOSING, WRITING, max_examples=20)
    result = world.evaluate(world.adapter(root), root, suites=[asked])
    assert world.exit_code == 0, result
    choosing, writing = result.harness
    assert (choosing.task, choosing.metric, choosing.examples) == ("choosing", "acc", 20)
    assert (writing.task, writing.metric, writing.examples) == ("writing", "exact_match", 20)
    assert choosing.low <= choosing.value <= choosing.high
    assert choosing.base is not None
    (score,) = (each for each in result.metrics if each.metric is Metric.HARNESS_SCORE)
    assert score.value == pytest.approx((choosing.value + writing.value) / 2)
    assert world.report(result).harness == result.harness


def test_it_comes_to_what_the_harness_says_of_the_same_files(
    world: World, base: Path, tmp_path: Path
) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, suites=[suite(world, CHOOSING)])
    (found,) = result.harness
    loaded = models.load(base, None, gpus=0)
    folder = files(tmp_path / "plain")
    places = {"test": str(folder / "rows.jsonl"), "shown": str(folder / "shown.jsonl")}
    plain = simple_evaluate(
        model=HFLM(pretrained=loaded.network, tokenizer=loaded.tokenizer, max_length=512),
        tasks=[CHOOSING | {"dataset_kwargs": {"data_files": places}}],
        bootstrap_iters=0,
    )
    assert plain is not None
    assert found.value == plain["results"]["choosing"]["acc,none"]
    assert found.examples == len(ROWS)
    assert found.base is None


def test_questions_go_through_the_models_chat_template(world: World, base: Path) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, suites=[suite(world, CHOOSING, chat_template=True)])
    assert world.exit_code == 0, result
    assert result.harness[0].examples == len(ROWS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            {"doc_to_text": "{{ nobody }}"}, "choosing: doc_to_text: UndefinedError: 'nobody'",
            id="a field that no row has",
        ),
        pytest.param(
            {"doc_to_text": "{{ ''.__class__.__mro__ }}"}, "choosing: doc_to_text: SecurityError",
            id="a template that reaches for Python",
        ),
        pytest.param(
            {"doc_to_target": "{{ answer + 4 }}"}, "row 1 has the answer '4'",
            id="an answer that no choice is",
        ),
    ],
)  # fmt: skip
def test_what_a_task_cannot_do_ends_the_evaluation(
    world: World, base: Path, change: dict[str, Any], says: str
) -> None:
    root = world.mount(base)
    result = world.evaluate(root, None, suites=[suite(world, CHOOSING | change)])
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SUITE_INVALID
    assert says in result.failure.message
