"""Parts of a record that several columns make together."""

import json
from typing import Any

import pytest
from tests.pods import Pod, jsonl
from tests.preparedfiles import kept

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.preparation.templates import columns_in, filled

URI = "pvc://claim/in.jsonl"
ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}
ROWS = [
    {"title": "Pump", "body": f"It drips {n}.", "fix": f"Tighten {n}.", "size": n, "note": None}
    for n in range(3)
]


@pytest.mark.parametrize(
    ("template", "columns", "expected"),
    [
        pytest.param("{a}", ("a",), "1", id="one column"),
        pytest.param("{a} and {b}: {a}", ("a", "b"), "1 and {x}: 1", id="a column twice, a value with braces"),
        pytest.param('{{"k": "{a}"}}', ("a",), '{"k": "1"}', id="braces that stay"),
        pytest.param("{a b.c!r}", ("a b.c!r",), "odd", id="any name, no formatting"),
    ],
)  # fmt: skip
def test_columns_are_put_into_their_places(
    template: str, columns: tuple[str, ...], expected: str
) -> None:
    values = {"a": "1", "b": "{x}", "a b.c!r": "odd"}
    assert columns_in(template) == columns
    assert filled(template, values.__getitem__) == expected


def test_several_columns_make_prompt_and_completion(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*ROWS))
    templates = {"prompt": "{title} ({size}): {body}{note}", "completion": "Do this: {fix}"}
    result = pod.prepare(URI, templates=templates, split=ALL_TRAIN)
    assert kept(pod, result)[1] == {
        "prompt": "Pump (1): It drips 1.",
        "completion": "Do this: Tighten 1.",
    }


def test_a_part_without_a_template_is_its_column(pod: Pod) -> None:
    pod.file("/claims/claim/in.csv", "q,context,reply\nWhy?,Rain.,Wet.\nHow?,Wind.,Dry.\n")
    result = pod.prepare(
        "pvc://claim/in.csv",
        templates={"prompt": "{context}\n\n{q}"},
        columns={"completion": "reply"},
        split=ALL_TRAIN,
    )
    assert kept(pod, result)[0] == {"prompt": "Rain.\n\nWhy?", "completion": "Wet."}


def test_documents_are_no_columns_for_a_template(pod: Pod) -> None:
    pod.file("/claims/claim/a.txt", "A page.")
    pod.file("/claims/claim/b.jsonl", jsonl({"head": "H", "body": "B"}))
    result = pod.prepare(
        "pvc://claim/a.txt",
        "pvc://claim/b.jsonl",
        task="Text",
        templates={"text": "{head}: {body}"},
        split=ALL_TRAIN,
    )
    assert [record["text"] for record in kept(pod, result)] == ["A page.", "H: B"]


@pytest.mark.parametrize(
    ("row", "reason", "told"),
    [
        pytest.param({"fix": "F"}, FailureReason.COLUMN_MISSING, "templates.prompt", id="no such column"),
        pytest.param({"title": ["a"], "fix": "F"}, FailureReason.DATA_MALFORMED, '"title" is not a text', id="a list"),
        pytest.param({"title": "", "fix": "F"}, FailureReason.DATA_MALFORMED, "templates.prompt", id="all of it empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_told(
    pod: Pod, row: dict[str, Any], reason: FailureReason, told: str
) -> None:
    pod.file("/claims/claim/in.jsonl", json.dumps(row))
    result = pod.prepare(URI, templates={"prompt": "{title}"}, columns={"completion": "fix"})
    assert result.failure is not None
    assert result.failure.reason == reason
    assert told in result.failure.message
