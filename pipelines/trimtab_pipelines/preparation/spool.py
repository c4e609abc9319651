"""Records on the disk between the steps: each as a line, with what is known of it beside it.

What grows with the data lies in files; memory holds a page of them at a time.
"""

import hashlib
import json
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trimtab_pipelines.preparation.records import canonical
from trimtab_pipelines.prepared import SPLITS, SYNTHETIC, Record

_BUFFER_BYTES = 1 << 20


class Group(IntEnum):
    """Where a record goes; OTHER ones are held out of other data and only compared with."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    OTHER = 3


GROUPS = {name: Group(number) for number, name in enumerate(SPLITS)}


class Spool:
    """Records in the order of reading. First all are added, then they are read as often as needed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._names = {name: folder / name for name in ("records", "starts", "groups", "digests")}
        self._files = {
            name: path.open("wb", buffering=_BUFFER_BYTES) for name, path in self._names.items()
        }
        self._position = 0
        self._count = 0
        self.is_synthetic = False
        self._lines: Any = None

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()
        if self._lines is not None:
            self._lines.close()

    def add(self, record: Record, group: Group) -> None:
        self.is_synthetic |= SYNTHETIC in record and group is not Group.OTHER
        line = canonical(record).encode() + b"\n"
        self._files["records"].write(line)
        self._files["starts"].write(self._position.to_bytes(8, "little"))
        self._files["groups"].write(bytes((group,)))
        # Half a digest is enough to tell records apart.
        self._files["digests"].write(hashlib.sha256(line).digest()[:16])
        self._position += len(line)
        self._count += 1

    def complete(self) -> None:
        """Adding has ended, reading begins."""
        for file in self._files.values():
            file.close()
        self._lines = self._names["records"].open("rb")
        self.groups = self._mapped("groups", np.uint8)
        self._starts = self._mapped("starts", np.uint64)

    def records(self) -> Iterator[Record]:
        """All of them, in order."""
        with self._names["records"].open("rb", buffering=_BUFFER_BYTES) as lines:
            for line in lines:
                yield json.loads(line)

    def record(self, number: int) -> Record:
        """One of them."""
        self._lines.seek(int(self._starts[number]))
        found: Record = json.loads(self._lines.readline())
        return found

    def digests(self) -> NDArray[np.uint64]:
        """Two halves per record; equal for equal records."""
        return self._mapped("digests", np.uint64).reshape(-1, 2)

    def column(self, name: str, kind: type[np.generic], fill: int) -> NDArray[Any]:
        """A further value per record, on the disk like the rest."""
        if not self._count:
            return np.zeros(0, dtype=kind)
        column = np.memmap(self.folder / name, dtype=kind, mode="w+", shape=(self._count,))
        if fill:
            column[:] = fill
        return column

    def _mapped(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        if not self._count:
            return np.zeros(0, dtype=kind)
        return np.memmap(self._names[name], dtype=kind, mode="r")
