"""What a record must be: a row of a source becomes a record of its task, or the run ends.

Pure. A row that cannot be used ends the run with the place and the remedy: data that is dropped in
silence is found out about in production.
"""

import json
from collections.abc import Callable, Iterable, Mapping

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DataDescription, DatasetTask, SplitBy
from trimtab_pipelines.formats import Row, malformed
from trimtab_pipelines.preparation.normalising import normalised
from trimtab_pipelines.preparation.templates import columns_in, filled
from trimtab_pipelines.prepared import LABEL, SYNTHETIC, Record
from trimtab_pipelines.prompts import answer_of, messages_of
from trimtab_pipelines.runtime import RunError

_LISTED_COLUMNS = 20
_PARTS = ("prompt", "completion", "chosen", "rejected", "text")


def record_of(row: Row, dataset: DataDescription) -> Record:
    """The record in a row, its texts normalised."""
    record = _SHAPES[dataset.task](row, dataset)
    if dataset.columns.label is not None:
        record[LABEL] = _text(row, dataset.columns.label, "label")
    # Prepared data keeps its mark wherever it is read again; CSV has only text for it.
    if row.values.get(SYNTHETIC) in (True, "true"):
        record[SYNTHETIC] = True
    return record


def columns_of(dataset: DataDescription) -> tuple[str, ...]:
    """The columns of a source that are looked at; the first one takes documents."""
    columns = dataset.columns
    parts = {
        DatasetTask.INSTRUCTION: ("prompt", "completion"),
        DatasetTask.CHAT: ("messages",),
        DatasetTask.PREFERENCE: ("prompt", "chosen", "rejected"),
        DatasetTask.TEXT: ("text",),
    }[dataset.task]
    named = [name for part in parts for name in _columns_of_part(dataset, part)]
    if columns.label is not None:
        named.append(columns.label)
    return tuple(dict.fromkeys(named))


def _columns_of_part(dataset: DataDescription, part: str) -> tuple[str, ...]:
    template = _template(dataset, part)
    return columns_in(template) if template else (getattr(dataset.columns, part),)


def _template(dataset: DataDescription, part: str) -> str | None:
    return getattr(dataset.templates, part, None)


def texts_of(record: Record) -> list[str]:
    """All that was written by people, in the order of reading; the label is not."""
    if "messages" in record:
        return [message["content"] for message in record["messages"]]
    return [record[part] for part in _PARTS if part in record]


def with_texts(record: Record, change: Callable[[str], str]) -> Record:
    """The record with each of its texts changed."""
    if "messages" in record:
        messages = [{**m, "content": change(m["content"])} for m in record["messages"]]
        return {**record, "messages": messages}
    return {key: change(value) if key in _PARTS else value for key, value in record.items()}


def canonical(record: object) -> str:
    """One line of JSON that depends on the content alone."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def split_value(record: Record, by: SplitBy) -> str:
    """What is hashed to choose the record's split; plain text has only itself."""
    if by is SplitBy.RECORD or "text" in record:
        return canonical({k: v for k, v in record.items() if k not in {LABEL, SYNTHETIC}})
    if "chosen" in record:
        return str(record["chosen" if by is SplitBy.COMPLETION else "prompt"])
    if by is SplitBy.COMPLETION:
        return answer_of(record)
    return canonical(messages_of(record)[:-1])


def _instruction(row: Row, dataset: DataDescription) -> Record:
    return {part: _part(row, dataset, part) for part in ("prompt", "completion")}


def _preference(row: Row, dataset: DataDescription) -> Record:
    record = {part: _part(row, dataset, part) for part in ("prompt", "chosen", "rejected")}
    if record["chosen"] == record["rejected"]:
        columns = dataset.columns
        malformed(
            row.where,
            f'"{columns.chosen}" and "{columns.rejected}" are equal, which prefers nothing; '
            "remove the record",
        )
    return record


def _plain(row: Row, dataset: DataDescription) -> Record:
    return {"text": _part(row, dataset, "text")}


def _part(row: Row, dataset: DataDescription, part: str) -> str:
    """A column, or several of them put together."""
    if row.is_document:
        return _checked(next(iter(row.values.values())), row.where, part)
    template = _template(dataset, part)
    if template is None:
        return _text(row, getattr(dataset.columns, part), part)
    return _checked(
        filled(template, lambda name: _value(row, name, part)), row.where, f"templates.{part}"
    )


def _value(row: Row, column: str, part: str) -> str:
    """The value of one column of a template. It may be empty: what the template makes of all may not."""
    value = _column(row, column, part, of="templates")
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        malformed(row.where, f'"{column}" is not a text; name another column in templates.{part}')
    return str(value)


def _chat(row: Row, dataset: DataDescription) -> Record:
    columns = dataset.columns
    value = _column(row, columns.messages, "messages")
    if isinstance(value, str):  # the only way that CSV has
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            malformed(
                row.where, f'"{columns.messages}" is not valid JSON; it must be a list of messages'
            )
    if not isinstance(value, list) or not value:
        malformed(
            row.where, f'"{columns.messages}" must be a list of objects with role and content'
        )
    messages = [_message(item, f"{row.where}, message {n}") for n, item in enumerate(value, 1)]
    _check_turns([message["role"] for message in messages], row.where)
    return {"messages": messages}


def _message(item: object, where: str) -> dict[str, str]:
    if not isinstance(item, Mapping) or not {"role", "content"} <= set(item):
        malformed(where, "a message must be an object with role and content")
    if item["role"] not in {"system", "user", "assistant"}:
        malformed(where, f"the role must be system, user or assistant, not {item['role']!r}")
    return {"role": item["role"], "content": _checked(item["content"], where, "content")}


def _check_turns(roles: Iterable[str], where: str) -> None:
    turns = list(roles)
    if turns[0] == "system":
        turns = turns[1:]
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    if not turns or turns[-1] != "assistant":
        malformed(where, "the last message must be the assistant's: it is what is learnt")
    if turns != expected[: len(turns)]:
        malformed(
            where,
            "messages must alternate between user and assistant, beginning with user, after at "
            f"most one of system; they are: {', '.join(turns[:8])}",
        )


def _column(row: Row, column: str, part: str, of: str = "columns") -> object:
    if column not in row.values:
        there = ", ".join(str(name) for name in list(row.values)[:_LISTED_COLUMNS])
        more = ", …" if len(row.values) > _LISTED_COLUMNS else ""
        raise RunError(
            FailureReason.COLUMN_MISSING,
            f'{row.where}: there is no column "{column}"; there are: {there or "none"}{more}; set '
            f"the dataset's {of}.{part} to the right one",
        )
    return row.values[column]


def _text(row: Row, column: str, part: str) -> str:
    return _checked(_column(row, column, part), row.where, column)


def _checked(value: object, where: str, column: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        kind = "empty" if value is None else "not a text"
        malformed(where, f'"{column}" is {kind}; fill it or remove the record')
    value = normalised(value)
    if not value or value.isspace():
        malformed(where, f'"{column}" is empty; fill it or remove the record')
    try:
        value.encode()
    except UnicodeEncodeError:
        malformed(
            where, f'"{column}" holds half of a surrogate pair, which no file can hold; correct it'
        )
    return value


_SHAPES: dict[DatasetTask, Callable[[Row, DataDescription], Record]] = {
    DatasetTask.INSTRUCTION: _instruction,
    DatasetTask.CHAT: _chat,
    DatasetTask.PREFERENCE: _preference,
    DatasetTask.TEXT: _plain,
}
