"""Records divided among files: by hash, so that equal values stay together and new data moves nothing.

A split is a stretch of the buckets 0..99: first training, then validation, then test.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from trimtab_api.v1alpha1.data import DataDescription, PreparedRecords, Split
from trimtab_pipelines.preparation.records import canonical, split_value
from trimtab_pipelines.prompts import Record
from trimtab_pipelines.sources.artifact import DATASET_DOCUMENT

SPLITS = ("train", "validation", "test")
BUCKETS = 100


def bucket_of(value: str, seed: int) -> int:
    """Where a value falls; a matter of the value and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0{value}".encode()).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def split_of(record: Record, split: Split) -> str:
    """The split that a record belongs to."""
    bucket = bucket_of(split_value(record, split.by), split.seed)
    if bucket < split.train:
        return "train"
    return "validation" if bucket < split.train + split.validation else "test"


@dataclass
class SplitWriter:
    """Writes each record to its split's file once; equal records count as read, not as kept.

    Files appear in source order with sorted keys, so that equal data gives equal bytes.
    """

    directory: Path
    dataset: DataDescription
    read: int = 0
    _kept: Counter[str] = field(default_factory=Counter)
    _seen: set[bytes] = field(default_factory=set)
    _files: dict[str, TextIO] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def add(self, record: Record) -> None:
        line = canonical(record)
        self.read += 1
        # Half a digest is enough to tell records apart, and the set is all that stays in memory.
        digest = hashlib.sha256(line.encode()).digest()[:16]
        if digest in self._seen:
            return
        self._seen.add(digest)
        name = split_of(record, self.dataset.split)
        self._kept[name] += 1
        self._file(name).write(line + "\n")

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            path = self.directory / f"{name}.jsonl"
            self._files[name] = path.open("w", encoding="utf-8", newline="\n")
        return self._files[name]

    @property
    def counts(self) -> PreparedRecords:
        return PreparedRecords(
            read=self.read,
            kept=self._kept.total(),
            train=self._kept["train"],
            validation=self._kept["validation"],
            test=self._kept["test"],
        )

    def write_document(self) -> None:
        """What is in the files; nothing of where it came from, so that equal data stays equal."""
        document = {
            "task": self.dataset.task.value,
            "records": {name: self._kept[name] for name in SPLITS},
        }
        path = self.directory / DATASET_DOCUMENT
        path.write_text(canonical(document) + "\n", encoding="utf-8", newline="\n")
