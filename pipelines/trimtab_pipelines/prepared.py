"""Prepared data on disk: one Parquet file per split, written and read a few records at a time.

Equal records in equal order give equal bytes on one image, and a reader never holds a file as a
whole. A split without records has no file.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

from trimtab_api.v1alpha1.data import DatasetTask

Record = dict[str, Any]

SPLITS = ("train", "validation", "test")
HELD_OUT = ("validation", "test")
LABEL = "label"
# True in a record that a model has written; the column is there where one such record is.
SYNTHETIC = "synthetic"

# A group of rows is what a writer keeps in memory and what a reader decodes at once.
_GROUP_ROWS = 8192
_GROUP_CHARACTERS = 16 << 20
_READ_ROWS = 512

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_COLUMNS: dict[DatasetTask, tuple[tuple[str, Any], ...]] = {
    DatasetTask.INSTRUCTION: (("prompt", pa.string()), ("completion", pa.string())),
    DatasetTask.CHAT: (("messages", _MESSAGES),),
    DatasetTask.PREFERENCE: (
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
    ),
    DatasetTask.TEXT: (("text", pa.string()),),
}


def file_of(directory: Path, split: str) -> Path:
    return directory / f"{split}.parquet"


def read_split(directory: Path, split: str) -> Iterator[Record]:
    """The records of a split in their order; none where the split has no file."""
    path = file_of(directory, split)
    if not path.exists():
        yield from _earlier(directory / f"{split}.jsonl")
        return
    # Columns are not read ahead and not mapped: both would bring the whole file into memory.
    with parquet.ParquetFile(path, pre_buffer=False, memory_map=False) as file:
        for batch in file.iter_batches(batch_size=_READ_ROWS, use_threads=False):
            yield from batch.to_pylist()


def _earlier(path: Path) -> Iterator[Record]:
    """Data that release 0.1 has prepared: one line of JSON per record."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


class SplitFile:
    """A split that is being written; it appears with its first record."""

    def __init__(
        self,
        directory: Path,
        split: str,
        task: DatasetTask,
        *,
        is_labelled: bool,
        is_synthetic: bool = False,
    ) -> None:
        columns = [*_COLUMNS[task], *([(LABEL, pa.string())] if is_labelled else [])]
        columns += [(SYNTHETIC, pa.bool_())] if is_synthetic else []
        self._is_marked = is_synthetic
        self._schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])
        self._path = file_of(directory, split)
        self._writer: Any = None
        self._rows: list[Record] = []
        self._characters = 0

    def add(self, record: Record, characters: int) -> None:
        """Take a record; `characters` is about its size."""
        self._rows.append({SYNTHETIC: False, **record} if self._is_marked else record)
        self._characters += characters
        if len(self._rows) >= _GROUP_ROWS or self._characters >= _GROUP_CHARACTERS:
            self._write()

    def close(self) -> None:
        if self._rows:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = parquet.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=[LABEL] if LABEL in self._schema.names else False,
                store_schema=False,
                version="2.6",
                data_page_version="1.0",
            )
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows.clear()
        self._characters = 0


def write_split(directory: Path, split: str, task: DatasetTask, records: Iterable[Record]) -> None:
    """A whole split at once, for programs and tests that have its records."""
    found = iter(records)
    first = next(found, None)
    if first is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    marks = {"is_labelled": LABEL in first, "is_synthetic": SYNTHETIC in first}
    with SplitFile(directory, split, task, **marks) as file:
        file.add(first, 1)
        while some := list(islice(found, _GROUP_ROWS)):
            for record in some:
                file.add(record, 1)
