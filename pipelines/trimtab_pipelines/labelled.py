"""Records that people have looked at, as Argilla and Label Studio export them, and as they import them.

An answer becomes a column under the name of its question. One to `corrected_completion` takes the
place of the column `completion`, and so for all: both tools want questions to have names of their own. Pure.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_pipelines.prepared import LABEL, SYNTHETIC

Columns = dict[str, Any]

_CORRECTED = "corrected_"
# Whose suggestions are what stood in the record before, and hold where nobody has said another thing.
_OURS = "trimtab"
# What people may correct; a prompt is what was asked.
_CORRIGIBLE = ("completion", "chosen", "rejected", "text")


class NotLabelledError(ValueError):
    """The object is no record of that tool; the message says what is missing."""


def columns_of(value: Mapping[str, Any], tool: SourceFormat) -> tuple[Columns, bool]:
    """The columns of a tool's record, and whether people threw it away."""
    return _READERS[tool](value)


def exported(number: int, record: Mapping[str, Any], tool: SourceFormat) -> dict[str, Any]:
    """A record in the form in which a tool takes it, with its texts as suggestions to be corrected."""
    return _WRITERS[tool](number, record)


# --- Argilla ---


def _from_argilla(value: Mapping[str, Any]) -> tuple[Columns, bool]:
    """Fields, metadata, and what most people answered; a suggestion that nobody looked at is no answer."""
    fields = value.get("fields")
    if not isinstance(fields, Mapping):
        raise NotLabelledError(
            'it has no "fields", as a record of Argilla has; export with dataset.records.to_json'
        )
    columns: Columns = dict(_mapping(value.get("metadata"))) | dict(fields)
    for question, suggestion in _mapping(value.get("suggestions")).items():
        value_before = _argilla_answer(_mapping(suggestion).get("value"))
        if _mapping(suggestion).get("agent") == _OURS and value_before is not None:
            columns[_column(question)] = value_before
    is_discarded, is_kept = False, False
    for question, responses in _mapping(value.get("responses")).items():
        given = [r for r in responses or [] if isinstance(r, Mapping)]
        submitted = [r for r in given if r.get("status") not in {"discarded", "draft"}]
        is_discarded |= any(r.get("status") == "discarded" for r in given)
        is_kept |= bool(submitted)
        answers = [_argilla_answer(r.get("value")) for r in submitted]
        if (answer := _of_most(answers)) is not None:
            columns[_column(question)] = answer
    is_discarded |= value.get("status") == "discarded"
    return columns, is_discarded and not is_kept


def _argilla_answer(value: Any) -> str | None:
    """A text, a label or a rating; of several labels all."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) if value else None
    return _plain(value)


def _to_argilla(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    suggestions = _corrections(record) | _label(record)
    return {
        "id": str(number),
        "fields": {k: v for k, v in record.items() if k not in {LABEL, SYNTHETIC}},
        "metadata": _marks(record),
        "suggestions": {
            question: {"value": value, "score": None, "agent": _OURS}
            for question, value in suggestions.items()
        },
        "responses": {},
        "vectors": {},
    }


# --- Label Studio ---


def _from_label_studio(value: Mapping[str, Any]) -> tuple[Columns, bool]:
    """The task's data, and what most people answered; a prediction that nobody looked at is no answer."""
    data = value.get("data")
    if not isinstance(data, Mapping):
        raise NotLabelledError('it has no "data", as a task of Label Studio has; export as JSON')
    given = [a for a in value.get("annotations") or [] if isinstance(a, Mapping)]
    kept = [a for a in given if not a.get("was_cancelled")]
    # One that is marked as the truth has the say.
    kept = [a for a in kept if a.get("ground_truth")] or kept
    answers: dict[str, list[str | None]] = {}
    for annotation in kept:
        for result in annotation.get("result") or []:
            if isinstance(result, Mapping) and isinstance(result.get("from_name"), str):
                answers.setdefault(result["from_name"], []).append(_label_studio_answer(result))
    found = {name: _of_most(each) for name, each in answers.items()}
    columns = dict(data)
    columns |= {_column(name): answer for name, answer in found.items() if answer is not None}
    return columns, bool(given) and not kept


def _label_studio_answer(result: Mapping[str, Any]) -> str | None:
    """What a tag of the labelling form says: TextArea, Choices, Rating, Number."""
    kind = result.get("type")
    value = _mapping(result.get("value"))
    if kind == "textarea":
        return _joined(value.get("text"), "\n")
    if kind == "choices":
        return _joined(value.get("choices"), ", ")
    return _plain(value.get(str(kind)))


def _to_label_studio(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    data = {k: v for k, v in record.items() if k != SYNTHETIC} | _marks(record)
    if "messages" in record:  # the tool shows a text
        lines = (f"{message['role']}: {message['content']}" for message in record["messages"])
        data["conversation"] = "\n\n".join(lines)
    results = [
        _prediction(number, question, _part(question), "textarea", {"text": [value]})
        for question, value in _corrections(record).items()
    ]
    for question, value in _label(record).items():
        shown = next(iter(data)) if "messages" not in record else "conversation"
        results.append(_prediction(number, question, shown, "choices", {"choices": [value]}))
    return {"data": data, "predictions": [{"model_version": _OURS, "result": results}]}


def _prediction(
    number: int, question: str, shown: str, kind: str, value: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"{number}-{question}",
        "from_name": question,
        "to_name": shown,
        "type": kind,
        "value": dict(value),
    }


# --- both ---


def _column(question: str) -> str:
    """The column that an answer becomes."""
    part = _part(question)
    return part if part in _CORRIGIBLE else question


def _part(question: str) -> str:
    return question.removeprefix(_CORRECTED)


def _corrections(record: Mapping[str, Any]) -> dict[str, str]:
    """What people find filled in, to be corrected."""
    return {f"{_CORRECTED}{part}": record[part] for part in _CORRIGIBLE if part in record}


def _label(record: Mapping[str, Any]) -> dict[str, str]:
    return {LABEL: record[LABEL]} if LABEL in record else {}


def _marks(record: Mapping[str, Any]) -> dict[str, str]:
    return {SYNTHETIC: "true"} if record.get(SYNTHETIC) else {}


def _of_most(answers: Iterable[str | None]) -> str | None:
    """The answer that most gave; of those given as often the first."""
    counts = Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


def _joined(value: Any, between: str) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence):
        return None
    texts = [each for each in value if isinstance(each, str)]
    return between.join(texts) if texts else None


def _plain(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_READERS: dict[SourceFormat, Callable[[Mapping[str, Any]], tuple[Columns, bool]]] = {
    SourceFormat.ARGILLA: _from_argilla,
    SourceFormat.LABEL_STUDIO: _from_label_studio,
}
_WRITERS: dict[SourceFormat, Callable[[int, Mapping[str, Any]], dict[str, Any]]] = {
    SourceFormat.ARGILLA: _to_argilla,
    SourceFormat.LABEL_STUDIO: _to_label_studio,
}
TOOLS = tuple(_READERS)
