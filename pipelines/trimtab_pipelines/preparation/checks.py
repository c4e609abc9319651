"""What the counts of a preparation mean: refusals, and remarks for the user. Pure."""

from collections.abc import Mapping
from typing import NoReturn

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DataDescription, PreparedRecords
from trimtab_pipelines.preparation.tally import Step, Tally
from trimtab_pipelines.runtime import RunError

# Fewer cannot be divided into what is learnt from and what is measured on.
_FEWEST_RECORDS = 2
_FIELDS = {
    "Discarded": "what people have thrown away",
    "Characters": "clean.characters",
    "Languages": "clean.languages",
    "WordLists": "clean.wordLists",
    "Secrets": "clean.secrets",
    "Pii": "clean.pii",
    "OffFormat": "synthetic.teacher",
    "Ungrounded": "synthetic.groundedAtLeast",
    "RepeatedQuestions": "synthetic.pairsPerText",
    "ExactDuplicates": "the sources",
    "NearDuplicates": "clean.deduplicate",
    "HeldOutNeighbours": "split",
    "Leakage": "leakage",
}
_ACTIONS = {
    "WordLists": "hold words of a list",
    "Secrets": "hold keys or passwords",
    "Pii": "hold personal data",
}
_NAMED_KINDS = 6


def check(records: PreparedRecords) -> None:
    """Refuse data that nothing can be learned from."""
    if records.kept == 0:
        _nothing_left(records)
    if records.kept < _FEWEST_RECORDS:
        dropped = {entry.step: entry.count for entry in records.dropped if entry.count}
        if set(dropped) == {"ExactDuplicates"}:
            _refuse(
                FailureReason.ONLY_DUPLICATES,
                f"all {records.read} records are equal; check the sources and columns",
                records,
            )
        rest = (
            f" is left of {records.read} ({_listed(dropped)})" if dropped else " is in the sources"
        )
        _refuse(
            FailureReason.TOO_FEW_RECORDS,
            f"only one record{rest}; at least two different ones are needed to train and to evaluate",
            records,
        )
    if records.train == 0:
        _refuse(
            FailureReason.TOO_FEW_RECORDS,
            f"none of the {records.kept} records falls into the training split; add records, raise "
            "split.train or choose another split.seed",
            records,
        )


def remarks(
    records: PreparedRecords,
    dataset: DataDescription,
    tally: Tally,
    labels: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """What a user should know about data that can be used."""
    found = [
        f"{entry.count} of {records.read} records were {what} and dropped"
        for entry in records.dropped
        if entry.count and (what := _REPEATED.get(entry.step))
    ]
    for name, what in _ACTIONS.items():
        found += _said(name, what, tally.steps[name])
    found += _empty_splits(records, dataset)
    found += _one_class(labels)
    return found


_REPEATED = {
    "Discarded": "thrown away by people",
    "OffFormat": "texts of which the teacher made nothing that can be read",
    "Ungrounded": "pairs whose answers do not stand on their text",
    "RepeatedQuestions": "repeated questions",
    "ExactDuplicates": "exact duplicates",
    "NearDuplicates": "near duplicates",
    "HeldOutNeighbours": "alike records of the held-out splits",
    "Leakage": "held out of other data",
}


def leakage_found(count: int, examples: list[str]) -> NoReturn:
    shown = "; ".join(f'"{" ".join(text.split())[:80]}"' for text in examples[:3])
    raise RunError(
        FailureReason.LEAKAGE_FOUND,
        f"{count} training records are held out of the data in leakage.against, equal or nearly so: "
        f"{shown}; remove them from the sources, or set leakage.action: Drop",
    )


def _nothing_left(records: PreparedRecords) -> NoReturn:
    dropped = {entry.step: entry.count for entry in records.dropped if entry.count}
    most = max(dropped, key=lambda step: dropped[step])
    _refuse(
        FailureReason.NOTHING_LEFT,
        f"no record is left of {records.read}: {_listed(dropped)}; check {_FIELDS[most]}",
        records,
    )


def _refuse(reason: FailureReason, message: str, records: PreparedRecords) -> NoReturn:
    raise RunError(reason, message, {"records": records})


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{step} dropped {count}" for step, count in dropped.items())


def _said(name: str, what: str, step: Step) -> list[str]:
    kinds = sorted(step.found.items(), key=lambda item: (-item[1], item[0]))
    # Words of a list are the user's and may be what nobody wants to read in an event.
    named = "" if name == "WordLists" else ", ".join(f"{k} {n}" for k, n in kinds[:_NAMED_KINDS])
    told = f" ({named})" if named else ""
    said = []
    if step.reported:
        said.append(f"{step.reported} records {what}{told} and were kept as they are, as asked")
    if step.changed:
        said.append(f"{step.changed} records {what}{told}, which was masked")
    return said


def _empty_splits(records: PreparedRecords, dataset: DataDescription) -> list[str]:
    return [
        f"the {name} split has no record: {records.kept} records are too few for {share} %"
        for name, share, kept in (
            ("validation", dataset.split.validation, records.validation),
            ("test", dataset.split.test, records.test),
        )
        if share and not kept
    ]


def _one_class(labels: Mapping[str, Mapping[str, int]]) -> list[str]:
    said: list[str] = []
    for name, counts in labels.items():
        if len(counts) == 1:
            only = next(iter(counts))
            said.append(
                f'all {counts[only]} records of the {name} split have the label "{only[:60]}": '
                "nothing can be told about others"
            )
    return said
