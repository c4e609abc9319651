"""Which held-out records are looked at: the same ones for every version on the same data."""

import hashlib
import heapq
import json
from collections.abc import Iterator
from pathlib import Path

from trimtab_pipelines.prompts import Record


def chosen_records(directory: Path, most: int, split: str = "test") -> list[Record]:
    """At most so many records of a split, by the hash of their line, in the file's order.

    A hash favours no part of the file, and new data hardly changes the choice.
    """
    path = directory / f"{split}.jsonl"
    if not path.exists():
        return []
    chosen = heapq.nsmallest(most, _lines(path))
    return [json.loads(line) for _, _, line in sorted(chosen, key=lambda entry: entry[1])]


def _lines(path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if line.strip():
                yield hashlib.sha256(line).digest(), number, line
