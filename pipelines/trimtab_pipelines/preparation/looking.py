"""Rows become records and are cleaned, a batch at a time: the work that workers can share.

A worker gets rows and what is wanted as text, and gives back records and a tally of its own; both
come together in the order of reading, so that ten examples are the first ten wherever they were found.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from trimtab_api.v1alpha1.data import DataDescription
from trimtab_pipelines.formats import Row
from trimtab_pipelines.preparation.cleaning import CleaningStep, redactor_of, steps_of, through
from trimtab_pipelines.preparation.records import canonical, record_of
from trimtab_pipelines.preparation.tally import Step, Tally
from trimtab_pipelines.prepared import Record
from trimtab_pipelines.runtime import RunError

_MOST_ROWS: Final = 512
# Records may be of any length; of long ones a batch holds few.
_MOST_CHARACTERS: Final = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """What is done to rows: a DataDescription as JSON, and the names of the steps that count."""

    description: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Rows that follow one another."""

    wanted: Wanted
    rows: Sequence[Row]


@dataclass(frozen=True)
class Looked:
    """What came of the rows, nothing for those that were dropped, and what each step did."""

    records: list[Record | None]
    steps: dict[str, Step]


def batches(wanted: Wanted, rows: Iterable[Row]) -> Iterator[Batch]:
    """The rows in batches; those before a row that cannot be read come before its fault."""
    held: list[Row] = []
    characters = 0
    fault: RunError | None = None
    waiting = iter(rows)
    while True:
        try:
            row = next(waiting)
        except StopIteration:
            break
        except RunError as error:
            fault = error
            break
        held.append(row)
        characters += sum(len(v) for v in row.values.values() if isinstance(v, str))
        if len(held) >= _MOST_ROWS or characters >= _MOST_CHARACTERS:
            yield Batch(wanted, held)
            held, characters = [], 0
    if held:
        yield Batch(wanted, held)
    if fault is not None:
        raise fault


def look(batch: Batch) -> Looked:
    """The records of a batch, cleaned."""
    dataset, steps = prepared(batch.wanted.description)
    tally = Tally(redactor_of(steps), batch.wanted.steps)
    return Looked([_record(row, dataset, steps, tally) for row in batch.rows], tally.steps)


@lru_cache(maxsize=1)  # models of languages and names take long to load
def prepared(description: str) -> tuple[DataDescription, list[CleaningStep]]:
    """A DataDescription from its JSON, and its steps: once in a process, whoever asks."""
    dataset = DataDescription.model_validate_json(description)
    return dataset, steps_of(dataset.clean)


def _record(
    row: Row, dataset: DataDescription, steps: list[CleaningStep], tally: Tally
) -> Record | None:
    if row.is_discarded:
        tally.dropped("Discarded", {"text": canonical(row.values)}, "thrown away by people")
        return None
    return through(steps, record_of(row, dataset), tally)
