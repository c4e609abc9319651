"""Tasks of lm-evaluation-harness read from a user's files, of which nothing is run.

The harness takes a task's YAML for a program: `!function` imports Python, a data set may be a script
or a name in a hub. Here a file is data: known fields alone, whose rows we read ourselves.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_api.v1alpha1.harness import TASK_PATTERN, Harness
from trimtab_pipelines import formats
from trimtab_pipelines.evaluation.suites.harnesstemplates import MARKS
from trimtab_pipelines.evaluation.suites.reading import invalid
from trimtab_pipelines.runtime import RunError

_LARGEST_FILE_BYTES: Final = 1 << 20
_MOST_FILES: Final = 1000
_DEEPEST_INCLUDE: Final = 8
# From so many rows the solved examples are chosen.
_FEW_SHOT_ROWS: Final = 2000
# Means over examples of 0 and 1, which an interval can be given to.
Measured = Literal["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"]
_USUAL: Final[Mapping[str, Measured]] = {
    "multiple_choice": "acc",
    "loglikelihood": "acc",
    "generate_until": "exact_match",
}
Row = dict[str, Any]


class _Part(BaseModel):
    """A field that is not known would be left out of account: it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetFiles(_Part):
    """Names of files beside the task, by split; one alone is the split train, as the harness has it."""

    data_files: str | list[str] | dict[str, str | list[str]]

    def of(self, split: str) -> list[str]:
        """The files of a split."""
        whole = {"train": self.data_files} if not isinstance(self.data_files, dict) else None
        found = (whole or self.data_files).get(split, [])  # type: ignore[union-attr]
        return [found] if isinstance(found, str) else list(found)


class FewShotConfig(_Part):
    """How solved examples are chosen."""

    sampler: Literal["default", "first_n"] = "default"
    split: str | None = None


class GenerationKwargs(_Part):
    """Answers are greedy: figures are to come out the same again."""

    until: str | list[str] | None = None
    do_sample: Literal[False] = False
    temperature: Annotated[float, Field(ge=0, le=0)] = 0.0
    max_gen_toks: Annotated[int, Field(ge=1, le=1024)] = 64


class Measuring(_Part):
    """One figure of a task."""

    metric: Measured
    aggregation: Literal["mean"] = "mean"
    higher_is_better: Literal[True] = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[str] | None = None


class FilterStep(_Part):
    """One step between what was said and what is compared."""

    function: Literal[
        "take_first",
        "regex",
        "multi_choice_regex",
        "remove_whitespace",
        "lowercase",
        "uppercase",
        "map",
    ]
    regex_pattern: str | None = None
    group_select: int | None = None
    fallback: str | None = None
    ignore_case: bool | None = None
    ignore_punctuation: bool | None = None
    mapping_dict: dict[str, str] | None = None
    default_value: str | None = None


class Filter(_Part):
    """Steps under a name."""

    name: str
    filter: list[FilterStep]


class TaskFile(_Part):
    """What of a task's YAML has a meaning here; the rest is refused, but for names and notes."""

    task: Annotated[str, Field(pattern=TASK_PATTERN)]
    task_alias: str | None = None
    tag: str | list[str] | None = None
    metadata: dict[str, Any] | None = None
    dataset_path: Literal["json", "csv", "parquet"]
    dataset_name: None = None
    dataset_kwargs: DatasetFiles
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    output_type: Literal["multiple_choice", "generate_until", "loglikelihood"] = "generate_until"
    doc_to_text: str
    doc_to_target: str | int | list[str]
    doc_to_choice: str | list[str] | dict[str, str] | None = None
    description: str = ""
    gen_prefix: str | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    fewshot_config: FewShotConfig | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    generation_kwargs: GenerationKwargs | None = None
    metric_list: Annotated[list[Measuring], Field(min_length=1)] | None = None
    filter_list: Annotated[list[Filter], Field(min_length=1)] | None = None
    repeats: Literal[1] = 1
    should_decontaminate: Literal[False] = False

    @field_validator("description", "gen_prefix")
    @classmethod
    def _is_plain(cls, text: str | None) -> str | None:
        if text and any(mark in text for mark in MARKS):
            raise ValueError("no template may stand here; move it to doc_to_text")
        return text

    @property
    def metric(self) -> str:
        """The figure that counts: the first one."""
        return self.metric_list[0].metric if self.metric_list else _USUAL[self.output_type]

    @property
    def asked_split(self) -> str | None:
        return self.test_split or self.validation_split


@dataclass(frozen=True)
class Task:
    """A task and the rows of each split that it uses."""

    file: TaskFile
    splits: Mapping[str, list[Row]]

    @property
    def asked(self) -> list[Row]:
        """The rows whose questions are asked."""
        return self.splits[self.file.asked_split or ""]


def read_tasks(suite: SuiteRun, wanted: Harness, folder: Path) -> list[Task]:
    """The tasks that are asked, in the user's order."""
    known = _known(suite, folder)
    missing = [name for name in wanted.tasks if name not in known]
    if missing:
        told = ", ".join(sorted(known)[:20]) or "none"
        raise invalid(suite, f"no YAML file has the task {missing[0]}; the tasks there are: {told}")
    return [_task(suite, wanted, known[name], folder) for name in wanted.tasks]


def _known(suite: SuiteRun, folder: Path) -> dict[str, tuple[Path, Row]]:
    """Every file that has a task's name, whatever else it has: others may only be included."""
    found: dict[str, tuple[Path, Row]] = {}
    files = sorted(p for ending in ("*.yaml", "*.yml") for p in folder.rglob(ending))
    for path in files[:_MOST_FILES]:
        content = _content(suite, path, folder)
        name = content.get("task")
        if not isinstance(name, str):
            continue
        if name in found:
            other = found[name][0].relative_to(folder)
            raise invalid(suite, f"{path.relative_to(folder)} and {other} are both the task {name}")
        found[name] = (path, content)
    return found


def _content(suite: SuiteRun, path: Path, folder: Path, depth: int = 0) -> Row:
    """One file over those that it includes."""
    where = path.relative_to(folder) if path.is_relative_to(folder) else path.name
    if depth > _DEEPEST_INCLUDE:
        raise invalid(suite, f"{where} includes files more than {_DEEPEST_INCLUDE} deep")
    content = _parsed(suite, path, str(where))
    included = content.pop("include", [])
    merged: Row = {}
    for name in [included] if isinstance(included, str) else included:
        merged |= _content(suite, _beside(suite, path, name, folder), folder, depth + 1)
    return merged | content


def _parsed(suite: SuiteRun, path: Path, where: str) -> Row:
    if path.stat().st_size > _LARGEST_FILE_BYTES:
        raise invalid(suite, f"{where} is larger than 1 MiB")
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        hint = "; functions of Python are not run" if "!function" in reason else ""
        raise invalid(suite, f"{where} cannot be read: {reason[:300]}{hint}") from error
    if not isinstance(content, dict):
        raise invalid(suite, f"{where} is no mapping of fields")
    return content


def _beside(suite: SuiteRun, path: Path, name: object, folder: Path) -> Path:
    """A file that another one names: one of the same artifact."""
    found = (path.parent / str(name)).resolve()
    if not found.is_relative_to(folder.resolve()) or not found.is_file():
        where = path.relative_to(folder)
        raise invalid(suite, f"{where} names {name}, which is no file of the artifact")
    return found


def _task(suite: SuiteRun, wanted: Harness, found: tuple[Path, Row], folder: Path) -> Task:
    path, content = found
    try:
        file = TaskFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        told = "is not supported" if first["type"] == "extra_forbidden" else first["msg"]
        raise invalid(suite, f"{path.relative_to(folder)}: {place}: {told}") from error
    split = file.asked_split
    if split is None:
        raise invalid(
            suite, f"{path.relative_to(folder)}: test_split or validation_split is missing"
        )
    asked = _rows(suite, file, path, folder, split, wanted.max_examples)
    shown = file.fewshot_split or (file.fewshot_config and file.fewshot_config.split)
    others = {name for name in (shown, file.training_split, file.validation_split) if name}
    splits = {
        name: _rows(suite, file, path, folder, name, _FEW_SHOT_ROWS) for name in others - {split}
    }
    return Task(file, {**splits, split: asked})


def _rows(
    suite: SuiteRun, file: TaskFile, path: Path, folder: Path, split: str, most: int
) -> list[Row]:
    names = file.dataset_kwargs.of(split)
    found: list[Row] = []
    try:
        for name in names:
            source = _beside(suite, path, name, folder)
            kind = formats.format_of(name, SourceFormat.AUTO)
            rows = formats.rows(source, name, kind)
            found += [row.values for row in itertools.islice(rows, most - len(found))]
    except RunError as error:
        raise invalid(suite, f"{file.task}: {error.message}") from error
    if not found:
        raise invalid(
            suite, f"{file.task}: the split {split} has no row; look at dataset_kwargs.data_files"
        )
    return found
