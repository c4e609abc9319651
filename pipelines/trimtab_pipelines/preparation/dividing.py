"""The last pass: what is kept goes into the files of the splits, what is not is counted with its reason."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from trimtab_api.v1alpha1.cleaning import DeduplicationMethod
from trimtab_api.v1alpha1.data import DataDescription
from trimtab_pipelines.preparation.alike import NONE, Alike
from trimtab_pipelines.preparation.records import canonical, texts_of
from trimtab_pipelines.preparation.spool import Group, Spool
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.prepared import SPLITS, Record, SplitFile
from trimtab_pipelines.sources.artifact import DATASET_DOCUMENT

# A record that is kept, with its number in the spool and its split.
Observer = Callable[[int, str, Record], None]


def divide(
    spool: Spool,
    alike: Alike,
    dataset: DataDescription,
    directory: Path,
    tally: Tally,
    observe: Observer,
) -> Counter[str]:
    """Write the splits; how many records each has got."""
    directory.mkdir(parents=True, exist_ok=True)
    kept: Counter[str] = Counter()
    is_labelled = dataset.columns.label is not None
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                SplitFile(
                    directory,
                    name,
                    dataset.task,
                    is_labelled=is_labelled,
                    is_synthetic=spool.is_synthetic,
                )
            )
            for name in SPLITS
        ]
        for number, record in _kept(spool, alike, dataset, tally):
            group = int(spool.groups[number])
            files[group].add(record, sum(map(len, texts_of(record))))
            kept[SPLITS[group]] += 1
            observe(number, SPLITS[group], record)
    document = {
        "task": dataset.task.value,
        "records": {name: kept[name] for name in SPLITS},
    }
    path = directory / DATASET_DOCUMENT
    # Nothing of where the data came from, so that equal data stays equal.
    path.write_text(canonical(document) + "\n", encoding="utf-8", newline="\n")
    return kept


def _kept(
    spool: Spool, alike: Alike, dataset: DataDescription, tally: Tally
) -> Iterator[tuple[int, Record]]:
    are_near_dropped = dataset.clean.deduplicate.method is DeduplicationMethod.MIN_HASH
    rules = (
        ("ExactDuplicates", alike.exact, "equal to an earlier record"),
        *([("NearDuplicates", alike.near, "alike an earlier record")] if are_near_dropped else []),
        ("HeldOutNeighbours", alike.held_out, "alike a record that is held out"),
        ("Leakage", alike.other, "held out of other data"),
    )
    for number, record in enumerate(spool.records()):
        if spool.groups[number] == Group.OTHER:
            return  # they come last
        for step, marks, why in rules:
            like = int(marks[number])
            if like != NONE:
                tally.dropped(step, record, why, _shown_like(spool, tally, step, like))
                break
        else:
            yield number, record


def _shown_like(spool: Spool, tally: Tally, step: str, like: int) -> Record | None:
    """The record that it is like, as long as examples are taken; equal ones need not be shown twice."""
    if step == "ExactDuplicates" or not tally.takes_examples(step):
        return None
    return spool.record(like)
