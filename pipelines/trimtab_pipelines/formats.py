"""Files of records, read one record at a time: JSONL, JSON, CSV, Parquet.

Every record knows where it stands, so that a message can name the file and the line. Nothing here
knows what a record means.
"""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_pipelines.runtime import RunError

_ENDINGS = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".json": SourceFormat.JSON,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
}
# A longer line is no record but a file of another kind, and would fill the memory.
_LONGEST_LINE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_PARQUET_ROWS = 1024
_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Row:
    """One record and where it was found."""

    values: dict[str, Any]
    where: str


def format_of(name: str, said: SourceFormat) -> SourceFormat:
    """The format that the user named, else the one that the file's ending tells."""
    if said is not SourceFormat.AUTO:
        return said
    ending = Path(name).suffix.lower()
    if ending not in _ENDINGS:
        raise RunError(
            FailureReason.DATA_MALFORMED,
            f"{name}: the file's ending does not tell its format; set the source's format to "
            "JSONL, JSON, CSV or Parquet",
        )
    return _ENDINGS[ending]


def rows(path: Path, name: str, kind: SourceFormat) -> Iterator[Row]:
    """The records of a file, in order; `name` is what messages call it."""
    return _READERS[kind](path, name)


def malformed(where: str, what: str) -> NoReturn:
    raise RunError(FailureReason.DATA_MALFORMED, f"{where}: {what}")


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
    while line := file.readline(_LONGEST_LINE_BYTES):
        number += 1
        if len(line) == _LONGEST_LINE_BYTES:
            malformed(f"{name}, line {number}", "the line is longer than 64 MiB; check the format")
        start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        try:
            yield number, line[start:].decode()
        except UnicodeDecodeError as error:
            _wrong_encoding(name, position + start + error.start, number)
        position += len(line)


def _jsonl(path: Path, name: str) -> Iterator[Row]:
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


def _json(path: Path, name: str) -> Iterator[Row]:
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


def _csv(path: Path, name: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_LINE_BYTES)
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


def _parquet(path: Path, name: str) -> Iterator[Row]:
    if path.stat().st_size == 0:
        return
    import pyarrow as pa  # noqa: PLC0415 - heavy, and only needed for this format
    from pyarrow import parquet  # noqa: PLC0415

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{name}, row {number}")
    except UnicodeDecodeError as error:
        raise RunError(
            FailureReason.DATA_ENCODING, f"{name}, row {number + 1}: a text is not UTF-8"
        ) from error
    except (pa.ArrowException, OSError) as error:
        malformed(name, f"the file cannot be read as Parquet ({_short(error)})")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        malformed(where, f"a record must be an object, not {_kind_of(value)}")
    return value


def _kind_of(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_READERS: dict[SourceFormat, Callable[[Path, str], Iterator[Row]]] = {
    SourceFormat.JSONL: _jsonl,
    SourceFormat.JSON: _json,
    SourceFormat.CSV: _csv,
    SourceFormat.PARQUET: _parquet,
}
