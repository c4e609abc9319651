"""Which held-out records are looked at: the same ones for every version on the same data."""

import hashlib
import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trimtab_pipelines.preparation.records import canonical
from trimtab_pipelines.prepared import read_split
from trimtab_pipelines.prompts import Record


def chosen_records(directory: Path, most: int, split: str = "test") -> list[Record]:
    """At most so many records of a split, by the hash of their content, in the file's order.

    A hash favours no part of the file, and new data hardly changes the choice.
    """
    chosen = heapq.nsmallest(most, _numbered(directory, split), key=lambda entry: entry[:2])
    return [record for _, _, record in sorted(chosen, key=lambda entry: entry[1])]


def _numbered(directory: Path, split: str) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    for number, record in enumerate(read_split(directory, split)):
        yield hashlib.sha256(f"{canonical(record)}\n".encode()).digest(), number, record
