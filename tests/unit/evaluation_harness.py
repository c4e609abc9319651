"""Files of lm-evaluation-harness: what is read of them, and what is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.v1alpha1.evaluation import SuiteName
from trimtab_api.v1alpha1.harness import Harness
from trimtab_pipelines.evaluation.suites.harnessfiles import read_tasks
from trimtab_pipelines.runtime import RunError

SUITE = SuiteRun(name=SuiteName.HARNESS)
TASK: dict[str, Any] = {
    "task": "one",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
}
ROWS = [{"question": f"{n}?", "answer": str(n)} for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "tasks"
    inner.mkdir()
    (inner / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "secret.yaml").write_text("description: of the pod's own\n")
    return inner


def write(folder: Path, content: Any, name: str = "one.yaml") -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / name).write_text(text)


def read(folder: Path, **wanted: Any) -> Any:
    return read_tasks(SUITE, Harness(tasks=["one"], **wanted), folder)


def test_a_task_comes_with_as_many_rows_as_are_asked(folder: Path) -> None:
    write(folder, TASK | {"metadata": {"version": 1.0}, "tag": "ours"})
    (task,) = read(folder, max_examples=3)
    assert task.splits == {"test": ROWS[:3]}
    assert task.file.metric == "exact_match", "what the harness takes unless told"


def test_a_task_lies_over_what_it_includes(folder: Path) -> None:
    (folder / "shared").mkdir()
    common = {key: TASK[key] for key in TASK if key not in {"task", "doc_to_text"}}
    write(
        folder, common | {"doc_to_text": "theirs", "description": "Answer."}, "shared/common.yaml"
    )
    write(folder, {"include": "shared/common.yaml", "task": "one", "doc_to_text": "own", "dataset_kwargs": TASK["dataset_kwargs"]})  # fmt: skip
    (task,) = read(folder)
    assert (task.file.doc_to_text, task.file.description) == ("own", "Answer.")


def test_files_without_a_task_are_nobodys_task(folder: Path) -> None:
    write(folder, TASK)
    write(folder, {"group": "all", "task": ["one"]}, "group.yaml")
    assert len(read(folder)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(TASK | {"task": "two"}, "no YAML file has the task one; the tasks there are: two", id="another task"),
        pytest.param("task: [one", "one.yaml cannot be read", id="no YAML"),
        pytest.param("- one", "is no mapping", id="a list"),
        pytest.param(yaml.safe_dump(TASK) + "process_docs: !function tools.clean\n", "functions of Python are not run", id="a function"),
        pytest.param(yaml.safe_dump(TASK) + "x: !!python/object/apply:os.getcwd []\n", "cannot be read", id="an object of Python"),
        pytest.param(TASK | {"process_docs": "clean"}, "one.yaml: process_docs: is not supported", id="a field that would be run"),
        pytest.param(TASK | {"unsafe_code": True}, "unsafe_code: is not supported", id="code that is asked for"),
        pytest.param(TASK | {"dataset_path": "glue"}, "dataset_path: Input should be 'json', 'csv' or 'parquet'", id="data of a hub"),
        pytest.param(TASK | {"dataset_path": "./rows.py"}, "dataset_path", id="data from a script"),
        pytest.param(TASK | {"description": "{{question}}"}, "no template may stand here", id="a template where none is rendered safely"),
        pytest.param(TASK | {"gen_prefix": "{% x %}"}, "no template may stand here", id="a statement in the prefix"),
        pytest.param(TASK | {"metric_list": [{"metric": "bleu"}]}, "metric_list.0.metric", id="a figure that is no mean of examples"),
        pytest.param(TASK | {"metric_list": []}, "metric_list", id="no figure"),
        pytest.param(TASK | {"output_type": "loglikelihood_rolling"}, "output_type", id="a perplexity"),
        pytest.param(TASK | {"generation_kwargs": {"do_sample": True}}, "generation_kwargs.do_sample", id="answers by chance"),
        pytest.param(TASK | {"filter_list": [{"name": "a", "filter": [{"function": "custom"}]}]}, "filter_list.0.filter.0.function", id="a filter of their own"),
        pytest.param(TASK | {"test_split": None}, "test_split or validation_split is missing", id="no split"),
        pytest.param(TASK | {"test_split": "valid"}, "the split valid has no row", id="a split without files"),
        pytest.param(TASK | {"dataset_kwargs": {"data_files": {"test": "lost.jsonl"}}}, "lost.jsonl, which is no file of the artifact", id="a file that is not there"),
        pytest.param(TASK | {"dataset_kwargs": {"data_files": {"test": "../secret.yaml"}}}, "no file of the artifact", id="a file of somebody else's"),
        pytest.param(TASK | {"include": "../secret.yaml"}, "no file of the artifact", id="an inclusion of somebody else's"),
        pytest.param(TASK | {"include": "one.yaml"}, "more than 8 deep", id="a task that includes itself"),
        pytest.param(TASK | {"num_fewshot": -1}, "num_fewshot", id="less than no example"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(folder: Path, content: Any, says: str) -> None:
    write(folder, content)
    with pytest.raises(RunError) as refused:
        read(folder)
    assert says in refused.value.message
    assert refused.value.reason == "SuiteInvalid"


def test_one_name_is_one_task(folder: Path) -> None:
    write(folder, TASK)
    write(folder, TASK, "other.yaml")
    with pytest.raises(RunError, match=r"other\.yaml and one\.yaml are both the task one"):
        read(folder)


def test_a_broken_row_is_named(folder: Path) -> None:
    write(folder, TASK)
    (folder / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n{\n')
    with pytest.raises(RunError, match="line 2"):
        read(folder)
