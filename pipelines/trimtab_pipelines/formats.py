"""Files of records, read one record at a time: JSONL, JSON, CSV, Parquet, exports of labelling tools, documents.

Every record knows where it stands, so that a message can name the file and the line. Nothing here
knows what a record means. Memory is bounded whatever a file holds: by the longest record, not by the
file.
"""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import Documents, SourceFormat
from trimtab_pipelines.runtime import RunError

_ENDINGS = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".json": SourceFormat.JSON,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
    ".html": SourceFormat.HTML,
    ".htm": SourceFormat.HTML,
    ".txt": SourceFormat.PLAIN_TEXT,
    ".md": SourceFormat.PLAIN_TEXT,
}
DOCUMENT_FORMATS = (SourceFormat.HTML, SourceFormat.PLAIN_TEXT)
# A longer line is no record but a file of another kind, and would fill the memory.
LONGEST_RECORD_BYTES = 64 << 20
# A page is held as a whole while it is taken apart, several times its size.
_LARGEST_PAGE_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 20
# How often a file that is being read is looked at from outside.
_LOOKED_AFTER_ROWS = 10_000
_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Row:
    """One record and where it was found."""

    values: dict[str, Any]
    where: str
    is_document: bool = False
    is_discarded: bool = False


def format_of(name: str, said: SourceFormat) -> SourceFormat:
    """The format that the user named, else the one that the file's ending tells."""
    if said is not SourceFormat.AUTO:
        return said
    ending = Path(name).suffix.lower()
    if ending not in _ENDINGS:
        raise RunError(
            FailureReason.DATA_MALFORMED,
            f"{name}: the file's ending does not tell its format; set the source's format to "
            "JSONL, JSON, CSV, Parquet, HTML, PlainText, Argilla or LabelStudio",
        )
    return _ENDINGS[ending]


@dataclass(frozen=True)
class Reading:
    """How a file is read: `columns` are those that are looked at, the first one takes documents."""

    columns: tuple[str, ...] = ()
    documents: Documents = field(default_factory=Documents)


def rows(
    path: Path, name: str, kind: SourceFormat, reading: Reading | None = None
) -> Iterator[Row]:
    """The records of a file, in order; `name` is what messages call it.

    A file that changes meanwhile ends the run: what was read belongs to no state that it ever had.
    """
    before = _state(path)
    found = _READERS[kind](path, name, reading or Reading())
    try:
        for number, row in enumerate(found):
            if number % _LOOKED_AFTER_ROWS == 0:
                _check_unchanged(path, name, before)
            yield row
    except RunError:
        # A line that is still being written looks like a broken one.
        _check_unchanged(path, name, before)
        raise
    _check_unchanged(path, name, before)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_unchanged(path: Path, name: str, before: tuple[int, int, int]) -> None:
    if _state(path) != before:
        raise RunError(
            FailureReason.SOURCE_CHANGED,
            f"{name} changed while it was read; finish writing it first, or name a copy that stays "
            "as it is",
        )


def malformed(where: str, what: str) -> NoReturn:
    raise RunError(FailureReason.DATA_MALFORMED, f"{where}: {what}")


def _too_long(where: str) -> NoReturn:
    raise RunError(
        FailureReason.LINE_TOO_LONG,
        f"{where}: the record is longer than {LONGEST_RECORD_BYTES >> 20} MiB; check the format, or "
        "divide the record",
    )


def _wrong_encoding(name: str, position: int, line: int | None = None) -> NoReturn:
    place = f"{name}, line {line}" if line else name
    raise RunError(
        FailureReason.DATA_ENCODING,
        f"{place}: the byte at position {position} of the file is not UTF-8; save the file as UTF-8",
    )


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded one by one so that a wrong byte has a place."""
    position = 0
    number = 0
    while line := file.readline(LONGEST_RECORD_BYTES + 1):
        number += 1
        if len(line) > LONGEST_RECORD_BYTES:
            _too_long(f"{name}, line {number}")
        start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        try:
            yield number, line[start:].decode()
        except UnicodeDecodeError as error:
            _wrong_encoding(name, position + start + error.start, number)
        position += len(line)


def _jsonl(path: Path, name: str, _reading: Reading) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in _lines(file, name):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                malformed(
                    where, f"the line is not valid JSON ({_short(error)}); correct or remove it"
                )
            yield Row(_object(value, where), where)


def _json(path: Path, name: str, _reading: Reading) -> Iterator[Row]:
    with path.open("rb") as file:
        text = _JsonText(file, name)
        if text.peek() == "":
            return
        if text.peek() != "[":
            malformed(
                name, "the file must hold one list of objects; for one object per line use JSONL"
            )
        text.skip()
        number = 0
        while text.peek() != "]":
            number += 1
            where = f"{name}, record {number}"
            yield Row(_object(text.value(where), where), where)
            if text.peek() == ",":
                text.skip()
                if text.peek() == "]":
                    malformed(where, "a comma follows the last record; remove it")
            elif text.peek() != "]":
                malformed(where, "neither a comma nor the end of the list follows the record")


class _JsonText:
    """A window on a JSON file, in which one value after the other is decoded."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._values = json.JSONDecoder()
        self._window = ""
        self._start = 0
        self._bytes = 0
        self._is_complete = False

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._window, self._start)
            self._start = blank.end() if blank else self._start
            if self._start < len(self._window):
                return self._window[self._start]
            if not self._more():
                return ""

    def skip(self) -> None:
        self._start += 1

    def value(self, where: str) -> object:
        while True:
            try:
                value, end = self._values.raw_decode(self._window, self._start)
            except (ValueError, RecursionError) as error:
                if len(self._window) - self._start > LONGEST_RECORD_BYTES:
                    _too_long(where)
                if self._more():
                    continue
                malformed(where, f"it is not valid JSON ({_short(error)}); correct or remove it")
            self._start = end
            return value

    def _more(self) -> bool:
        """Read on; as much again as is still undecided, so that a long value costs no squares."""
        if self._is_complete:
            return False
        self._window = self._window[self._start :]
        self._start = 0
        data = self._file.read(max(_CHUNK_BYTES, len(self._window)))
        self._is_complete = not data
        pending = len(self._decoder.getstate()[0])
        try:
            self._window += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            _wrong_encoding(self._name, self._bytes - pending + error.start)
        self._bytes += len(data)
        return not self._is_complete


def _csv(path: Path, name: str, _reading: Reading) -> Iterator[Row]:
    # One record may reach over lines; a quote that is never closed would take in the whole file.
    csv.field_size_limit(LONGEST_RECORD_BYTES)
    with path.open("rb") as file:
        reader = csv.reader((line for _, line in _lines(file, name)), strict=True)
        header: list[str] | None = None
        while True:
            where = f"{name}, line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "field larger than" in str(error):
                    malformed(where, "a quote that opens here is not closed; check the quotes")
                malformed(where, f"the line is not valid CSV ({error}); check its quotes")
            if not cells:
                continue
            if header is None:
                header = _header(cells, where)
                continue
            if len(cells) != len(header):
                malformed(
                    where,
                    f"it has {len(cells)} cells, and the header has {len(header)}; quote cells that "
                    "hold commas or line ends",
                )
            yield Row(dict(zip(header, cells, strict=True)), where)


def _header(cells: list[str], where: str) -> list[str]:
    doubled = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubled:
        malformed(where, f"the header names {', '.join(doubled)} more than once")
    return cells


def _parquet(path: Path, name: str, reading: Reading) -> Iterator[Row]:
    from trimtab_pipelines import tables  # noqa: PLC0415 - heavy, and only needed for this format

    if path.stat().st_size == 0:
        return
    for number, values in enumerate(tables.rows(path, name, reading.columns), 1):
        yield Row(values, f"{name}, row {number}")


def _html(path: Path, name: str, reading: Reading) -> Iterator[Row]:
    from trimtab_pipelines.documents import html_text  # noqa: PLC0415 - a library for this alone

    if path.stat().st_size > _LARGEST_PAGE_BYTES:
        raise RunError(
            FailureReason.LINE_TOO_LONG,
            f"{name}: the page is larger than {_LARGEST_PAGE_BYTES >> 20} MiB; divide it",
        )
    return _texts([html_text(path.read_bytes(), name)], name, reading)


def _plain_text(path: Path, name: str, reading: Reading) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from _texts((line for _, line in _lines(file, name)), name, reading)


def _texts(pieces: Iterable[str], name: str, reading: Reading) -> Iterator[Row]:
    from trimtab_pipelines.documents import Chunker  # noqa: PLC0415

    chunks = Chunker(reading.documents).chunks(pieces)
    for number, text in enumerate(chunks, 1):
        yield Row({reading.columns[0]: text}, f"{name}, part {number}", is_document=True)


def _labelled(tool: SourceFormat) -> Callable[[Path, str, Reading], Iterator[Row]]:
    def found(path: Path, name: str, reading: Reading) -> Iterator[Row]:
        from trimtab_pipelines.labelled import NotLabelledError, columns_of  # noqa: PLC0415

        for row in _json(path, name, reading):
            try:
                columns, is_discarded = columns_of(row.values, tool)
            except NotLabelledError as error:
                malformed(row.where, str(error))
            yield Row(columns, row.where, is_discarded=is_discarded)

    return found


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        malformed(where, f"a record must be an object, not {_kind_of(value)}")
    return value


def _kind_of(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_READERS: dict[SourceFormat, Callable[[Path, str, Reading], Iterator[Row]]] = {
    SourceFormat.JSONL: _jsonl,
    SourceFormat.JSON: _json,
    SourceFormat.CSV: _csv,
    SourceFormat.PARQUET: _parquet,
    SourceFormat.HTML: _html,
    SourceFormat.PLAIN_TEXT: _plain_text,
    SourceFormat.ARGILLA: _labelled(SourceFormat.ARGILLA),
    SourceFormat.LABEL_STUDIO: _labelled(SourceFormat.LABEL_STUDIO),
}
