"""Exports of Argilla and Label Studio as sources, and prepared data on its way to people and back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pods import CONVERSATION, Pod, jsonl, pairs
from tests.preparedfiles import kept

from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_pipelines.__main__ import main

ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}
ANN, BEN, EVE = "ann", "ben", "eve"


def argilla(
    fields: dict[str, Any], *responses: tuple[str, Any, str], **more: Any
) -> dict[str, Any]:
    """A record as dataset.records.to_json writes it: question, value and user of each response."""
    given: dict[str, list[dict[str, Any]]] = {}
    for question, value, user in responses:
        given.setdefault(question, []).append({"value": value, "user_id": user})
    return {
        "id": "1", "fields": fields, "metadata": {}, "suggestions": {}, "responses": given, "vectors": {}, **more,
    }  # fmt: skip


def task(data: dict[str, Any], *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    return {"id": 1, "data": data, "annotations": list(annotations), "predictions": [], **more}


def said(**answers: Any) -> dict[str, Any]:
    kinds = {str: "textarea", list: "choices", int: "rating"}
    keys = {str: "text", list: "choices", int: "rating"}
    results = [
        {
            "from_name": name,
            "to_name": "x",
            "type": kinds[type(value)],
            "value": {keys[type(value)]: [value] if isinstance(value, str) else value},
        }
        for name, value in answers.items()
    ]
    return {"result": results, "was_cancelled": False, "ground_truth": False}


def read(pod: Pod, tool: str, *records: dict[str, Any], **dataset: Any) -> PrepareResult:
    pod.file("/claims/claim/in.json", json.dumps(records))
    sources = [{"uri": "pvc://claim/in.json", "format": tool}]
    return pod.prepare(sources=sources, **{"split": ALL_TRAIN, **dataset})


QUESTION = {"prompt": "Why?", "completion": "Becuase."}
OTHER = {"prompt": "How?", "completion": "So."}


@pytest.mark.parametrize(
    ("tool", "records"),
    [
        pytest.param(
            "Argilla",
            [
                argilla(QUESTION, ("corrected_completion", "Because.", ANN), ("topic", "cause", ANN)),
                argilla(OTHER, ("topic", "way", ANN), ("topic", "way", BEN), ("topic", "cause", EVE)),
            ],
            id="Argilla",
        ),
        pytest.param(
            "LabelStudio",
            [
                task(QUESTION, said(corrected_completion="Because.", topic=["cause"])),
                task(OTHER, said(topic=["way"]), said(topic=["way"]), said(topic=["cause"])),
            ],
            id="Label Studio",
        ),
    ],
)  # fmt: skip
def test_corrections_replace_columns_and_the_most_common_label_counts(
    pod: Pod, tool: str, records: list[dict[str, Any]]
) -> None:
    result = read(pod, tool, *records, columns={"label": "topic"})
    assert kept(pod, result) == [
        {"prompt": "Why?", "completion": "Because.", "label": "cause"},
        {"prompt": "How?", "completion": "So.", "label": "way"},
    ]


@pytest.mark.parametrize(
    ("tool", "records"),
    [
        pytest.param(
            "Argilla",
            [
                argilla(QUESTION, status="discarded"),
                argilla(OTHER),
                argilla({"prompt": "a", "completion": "b"}, responses={"q": [{"value": "x", "status": "discarded"}]}),
                argilla({"prompt": "c", "completion": "d"}, responses={"q": [{"value": "x", "status": "discarded"}, {"value": "y"}]}),
            ],
            id="Argilla",
        ),
        pytest.param(
            "LabelStudio",
            [
                task(QUESTION, {"result": [], "was_cancelled": True}),
                task(OTHER),
                task({"prompt": "a", "completion": "b"}, {"was_cancelled": True}),
                task({"prompt": "c", "completion": "d"}, {"was_cancelled": True}, said(q=["y"])),
            ],
            id="Label Studio",
        ),
    ],
)  # fmt: skip
def test_what_people_threw_away_is_dropped_and_counted(
    pod: Pod, tool: str, records: list[dict[str, Any]]
) -> None:
    result = read(pod, tool, *records)
    assert [record["prompt"] for record in kept(pod, result)] == ["How?", "c"]
    assert result.records is not None
    assert (result.records.read, result.records.kept) == (4, 2)
    assert {each.step: each.count for each in result.records.dropped}["Discarded"] == 2


def test_an_annotation_that_is_the_truth_has_the_say(pod: Pod) -> None:
    truth = {**said(label=["right"]), "ground_truth": True}
    records = [
        task(QUESTION, said(label=["wrong"]), said(label=["wrong"]), truth),
        task(OTHER, said(label=["x"])),
    ]
    result = read(pod, "LabelStudio", *records, columns={"label": "label"})
    assert kept(pod, result)[0]["label"] == "right"


def test_a_suggestion_of_a_model_is_no_answer(pod: Pod) -> None:
    suggested = {"label": {"value": "guess", "score": 0.9, "agent": "some-model"}}
    result = read(
        pod, "Argilla", argilla(QUESTION, suggestions=suggested), columns={"label": "label"}
    )
    assert result.failure is not None
    assert result.failure.reason == FailureReason.COLUMN_MISSING


@pytest.mark.parametrize(
    ("tool", "record", "told"),
    [
        pytest.param("Argilla", {"text": "a"}, 'no "fields"', id="no record of Argilla"),
        pytest.param("LabelStudio", {"text": "a"}, 'no "data"', id="no task of Label Studio"),
        pytest.param("Argilla", {"fields": [1]}, 'no "fields"', id="fields of another kind"),
    ],
)
def test_what_is_no_export_is_told_with_its_place(
    pod: Pod, tool: str, record: dict[str, Any], told: str
) -> None:
    result = read(pod, tool, record)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.DATA_MALFORMED
    assert told in result.failure.message
    assert "in.json, record 1" in result.failure.message


# --- there and back ---


def exported(pod: Pod, result: PrepareResult, tool: str, *options: str) -> list[dict[str, Any]]:
    assert result.data is not None
    file = pod.root / "out.json"
    code = main(["export", result.data.uri, str(file), "--format", tool, "--plain-http", *options])
    assert code == 0
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


LABELLED = [
    {**pair, "label": f"kind {n % 2}", "synthetic": n == 0} for n, pair in enumerate(pairs(6))
]
TASKS: list[Any] = [
    pytest.param("Instruction", LABELLED, {"label": "label"}, id="questions with labels"),
    pytest.param("Text", [{"text": f"Text {n}."} for n in range(3)], {}, id="texts"),
    pytest.param(
        "Preference",
        [{"prompt": f"Q{n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}."} for n in range(3)],
        {},
        id="preferences",
    ),
    pytest.param(
        "Chat",
        [{"messages": [*CONVERSATION[:2], {"role": "assistant", "content": f"{n}."}]} for n in range(3)],
        {},
        id="conversations",
    ),
]  # fmt: skip


@pytest.mark.parametrize("tool", ["Argilla", "LabelStudio"])
@pytest.mark.parametrize(("kind", "records", "columns"), TASKS)
def test_data_that_nobody_changed_comes_back_with_the_same_digest(
    pod: Pod, tool: str, kind: str, records: list[dict[str, Any]], columns: dict[str, str]
) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    changes: dict[str, Any] = {"task": kind, "columns": columns, "split": ALL_TRAIN}
    first = pod.prepare("pvc://claim/in.jsonl", **changes)
    again = read(pod, tool, *exported(pod, first, tool), **changes)
    assert first.data is not None
    assert again.data is not None, again.failure
    assert again.data.digest == first.data.digest


def _corrected_argilla(record: dict[str, Any]) -> None:
    suggestion = record["suggestions"]["corrected_completion"]["value"]
    record["responses"] = {
        "corrected_completion": [{"value": f"{suggestion} Sure.", "user_id": ANN}]
    }


def _corrected_label_studio(record: dict[str, Any]) -> None:
    results = record["predictions"][0]["result"]
    mended = [
        {**each, "value": {"text": [f"{each['value']['text'][0]} Sure."]}}
        for each in results
        if each["from_name"] == "corrected_completion"
    ]
    record["annotations"] = [{"result": mended, "was_cancelled": False}]


@pytest.mark.parametrize(
    ("tool", "correct"),
    [
        pytest.param("Argilla", _corrected_argilla, id="Argilla"),
        pytest.param("LabelStudio", _corrected_label_studio, id="Label Studio"),
    ],
)
def test_what_people_correct_in_an_export_comes_back_corrected(
    pod: Pod, tool: str, correct: Callable[[dict[str, Any]], None]
) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*LABELLED))
    first = pod.prepare("pvc://claim/in.jsonl", columns={"label": "label"}, split=ALL_TRAIN)
    records = exported(pod, first, tool)
    correct(records[1])
    again = kept(pod, read(pod, tool, *records, columns={"label": "label"}))
    assert again[1] == {**LABELLED[1], "completion": "A1. Sure."}
    assert [again[0], *again[2:]] == [LABELLED[0], *LABELLED[2:]]


def test_a_split_and_a_number_are_exported_on_request(pod: Pod) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(60)))
    first = pod.prepare("pvc://claim/in.jsonl", split={"train": 50, "validation": 0, "test": 50})
    assert first.records is not None
    assert len(exported(pod, first, "Argilla", "--split", "test")) == first.records.test
    assert len(exported(pod, first, "Argilla", "--most", "5")) == 5


def test_an_export_of_nothing_leaves_no_file(
    pod: Pod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(4)))
    first = pod.prepare("pvc://claim/in.jsonl", split=ALL_TRAIN)
    assert first.data is not None
    folder = tmp_path / "out"
    folder.mkdir()
    options = ["--format", SourceFormat.ARGILLA.value, "--plain-http", "--split", "test"]
    assert main(["export", first.data.uri, str(folder / "x.json"), *options]) == 1
    assert "has no record in test" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
