"""Rows of Parquet files, a few at a time, and none before it is known how large it becomes.

A few bytes of Parquet can stand for many gigabytes: by compression, and by a dictionary whose one long
entry a million rows refer to. So texts are left in their dictionaries, and rows are unfolded in groups
that fit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.formats import LONGEST_RECORD_BYTES, malformed
from trimtab_pipelines.prepared import SYNTHETIC
from trimtab_pipelines.runtime import RunError

_BATCH_ROWS = 1024
_UNFOLDED_BYTES = 16 << 20
_CELL_BYTES = 16
# What honest data compresses to, and what may be unpacked at once whatever the file says.
_LARGEST_RATIO = 200
_ALWAYS_FITTING_BYTES = 64 << 20
_LARGEST_COLUMN_BYTES = 1 << 30
# The footer is decoded as a whole, into a hundred times its size and more.
_LARGEST_FOOTER_BYTES = 8 << 20
_TAIL_BYTES = 8  # the footer's length and one of the magic words
_MAGIC = (b"PAR1", b"PARE")


def rows(path: Path, name: str, wanted: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows in order, with the wanted columns (all of them where one is missing or none is named)."""
    number = 0
    try:
        _check_footer(path, name)
        with parquet.ParquetFile(path) as file:
            columns = _columns(file, wanted)
            leaves = _leaves(file, columns)
            _check_sizes(file, leaves, path.stat().st_size, name)
            texts = [leaf for leaf in leaves if _is_text(file, leaf)]
        with parquet.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
            batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)
            for batch in batches:
                for part in _fitting(batch, name, number):
                    yield from part.to_pylist()
                    number += part.num_rows
    except UnicodeDecodeError as error:
        raise RunError(
            FailureReason.DATA_ENCODING, f"{name}, row {number + 1}: a text is not UTF-8"
        ) from error
    except (pa.ArrowException, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        malformed(name, f"the file cannot be read as Parquet ({said})")


def _check_footer(path: Path, name: str) -> None:
    """Refuse a description of the file that would fill the memory before anything of it is known."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        tail = file.read()
    claimed = int.from_bytes(tail[:4], "little")
    if tail[4:] in _MAGIC and claimed > _LARGEST_FOOTER_BYTES:
        _too_large(
            name,
            f"its footer says that {claimed >> 20} MiB describe the file, at most "
            f"{_LARGEST_FOOTER_BYTES >> 20} are read; write it with fewer columns or larger row groups",
        )


def _columns(file: Any, wanted: tuple[str, ...]) -> list[str]:
    there = list(file.schema_arrow.names)
    is_enough = bool(wanted) and set(wanted) <= set(there)
    # Prepared data keeps the mark of what a model has written.
    return [name for name in there if name in {*wanted, SYNTHETIC}] if is_enough else there


def _leaves(file: Any, columns: list[str]) -> list[str]:
    paths = (file.schema.column(n).path for n in range(len(file.schema)))
    return [path for path in paths if path.partition(".")[0] in columns or path in columns]


def _is_text(file: Any, leaf: str) -> bool:
    for number in range(len(file.schema)):
        column = file.schema.column(number)
        if column.path == leaf:
            return str(column.physical_type) == "BYTE_ARRAY"
    return False


def _check_sizes(file: Any, leaves: list[str], size: int, name: str) -> None:
    """Refuse what unpacks to far more than a file of this size would hold."""
    metadata = file.metadata
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            if column.path_in_schema not in leaves:
                continue
            total += column.total_uncompressed_size
            if column.total_uncompressed_size > _LARGEST_COLUMN_BYTES:
                _too_large(
                    name,
                    f"a row group has {column.total_uncompressed_size >> 20} MiB in one column; write "
                    "it in smaller row groups",
                )
    if total > max(_ALWAYS_FITTING_BYTES, size * _LARGEST_RATIO):
        _too_large(
            name,
            f"{size} bytes unpack to {total}; if that is meant, write it without compression",
        )


def _fitting(batch: Any, name: str, before: int) -> Iterator[Any]:
    """The batch in parts that are small when they are unfolded."""
    sizes: Any = np.sum([_sizes(column) for column in batch.columns], axis=0, dtype=np.int64)
    start = 0
    unfolded = 0
    for row, size in enumerate(sizes.tolist()):
        if size > LONGEST_RECORD_BYTES:
            raise RunError(
                FailureReason.LINE_TOO_LONG,
                f"{name}, row {before + row + 1}: the record is longer than "
                f"{LONGEST_RECORD_BYTES >> 20} MiB; divide it",
            )
        if unfolded + size > _UNFOLDED_BYTES and row > start:
            yield batch.slice(start, row - start)
            start, unfolded = row, 0
        unfolded += size
    yield batch.slice(start)


def _sizes(column: Any) -> Any:
    """How many bytes each row of a column takes, about."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        places = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        lengths = _sizes(column.dictionary)
        return lengths[places] if len(lengths) else np.zeros(len(places), dtype=np.int64)
    if pa.types.is_struct(kind):
        return np.sum([_sizes(part) for part in column.flatten()], axis=0, dtype=np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        ends = np.concatenate(([0], np.cumsum(_sizes(column.values)))).astype(np.int64)
        offsets = column.offsets.to_numpy()
        return _CELL_BYTES + ends[offsets[1:]] - ends[offsets[:-1]]
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        lengths = compute.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64) + _CELL_BYTES
    return np.full(len(column), _CELL_BYTES, dtype=np.int64)


def _too_large(name: str, what: str) -> NoReturn:
    raise RunError(FailureReason.UNPACKS_TOO_LARGE, f"{name}: {what}")
