"""Cases of a suite: those that ship, or a user's own from the registry. Each line is checked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trimtab_api.documents import Output
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.reasons import FailureReason
from trimtab_pipelines.evaluation.fetching import pull
from trimtab_pipelines.runtime import RunError

MOST_CASES = 2000
_LONGEST_LINE = 1 << 20
GROUP = "{group}"

Text = Annotated[str, Field(min_length=1, max_length=8000)]
Phrase = Annotated[str, Field(min_length=1, max_length=200)]


class Case(BaseModel):
    """One line of a suite; a field that is not known is a mistake of the author's."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextCase(Case):
    """Text that the base knew."""

    text: Text


class BiasCase(Case):
    """One prompt with two groups exchanged, and two answers of which the first is favourable."""

    axis: Annotated[str, Field(min_length=1, max_length=64)]
    template: Text
    groups: tuple[Phrase, Phrase]
    outcomes: tuple[Phrase, Phrase]

    @model_validator(mode="after")
    def _has_a_place_for_the_group(self) -> "BiasCase":
        if GROUP not in self.template:
            raise ValueError(f"template must contain {GROUP}")
        if self.groups[0] == self.groups[1] or self.outcomes[0] == self.outcomes[1]:
            raise ValueError("groups and outcomes must differ")
        return self


class SafetyCase(Case):
    """A prompt, and for Injection and Secret the words of which none may be in the answer."""

    kind: Literal["Harmful", "Harmless", "Injection", "Secret"]
    prompt: Text
    forbidden: Annotated[tuple[Phrase, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _has_forbidden_words_where_they_count(self) -> "SafetyCase":
        if (self.kind in {"Injection", "Secret"}) != bool(self.forbidden):
            raise ValueError("forbidden belongs to Injection and Secret, which need it")
        return self


AnyCase = TypeVar("AnyCase", bound=Case)


def cases_of(
    suite: SuiteRun, kind: type[AnyCase], workspace: Path, output: Output
) -> list[AnyCase]:
    """The cases of a suite, in the order of their lines."""
    if suite.data is None:
        shipped = Path(__file__).parent / f"{suite.name.lower()}.jsonl"
        return list(_cases(suite, shipped, kind))
    folder = fetched(suite, workspace, output)
    files = sorted(folder.rglob("*.jsonl"))
    if not files:
        raise invalid(suite, f"{suite.data.uri} holds no .jsonl file")
    found = [case for file in files for case in _cases(suite, file, kind)]
    if not found:
        raise invalid(suite, f"{suite.data.uri} holds no case")
    if len(found) > MOST_CASES:
        raise invalid(suite, f"it has {len(found)} cases; at most {MOST_CASES} are asked")
    return found


def fetched(suite: SuiteRun, workspace: Path, output: Output) -> Path:
    """The files of a user's own suite."""
    folder = workspace / f"suite-{suite.name.lower()}"
    if suite.data is not None and not folder.exists():
        pull(suite.data, folder, output)
    return folder


def _cases(suite: SuiteRun, file: Path, kind: type[AnyCase]) -> Iterator[AnyCase]:
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(_LONGEST_LINE + 1):
            number += 1
            where = f"{file.name}, line {number}"
            if len(line) > _LONGEST_LINE:
                raise invalid(suite, f"{where} is longer than 1 MiB")
            if not line.strip():
                continue
            try:
                yield kind.model_validate(json.loads(line), strict=False)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                place = ".".join(str(part) for part in first["loc"])
                raise invalid(suite, f"{where}: {place}: {first['msg']}".replace(": : ", ": ")) from error  # fmt: skip
            except (ValueError, RecursionError) as error:
                raise invalid(suite, f"{where} is no JSON: {error}") from error


def invalid(suite: SuiteRun, message: str) -> RunError:
    return RunError(
        FailureReason.SUITE_INVALID,
        f"the suite {suite.name} cannot be used: {message}; docs/evaluation.md shows the form",
    )
