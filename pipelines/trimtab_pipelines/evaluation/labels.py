"""Answers as labels: which known label an answer is, and what is right and wrong about it. Pure."""

from collections.abc import Sequence

import numpy as np

from trimtab_pipelines.evaluation.intervals import Table
from trimtab_pipelines.prompts import Record

# Beyond this there is no table of classes: a "label" that differs everywhere is a text.
MOST_LABELS = 256
_AROUND = " \t.,:;!?\"'`*()[]{}<>"


def label_of(record: Record) -> str | None:
    """The label that the data holds, in the form in which answers are compared."""
    told = record.get("label")
    return None if told is None else normalised(str(told))


def normalised(text: str) -> str:
    """One line without what surrounds a word, in lower case."""
    return " ".join(text.split()).strip(_AROUND).casefold()


def said_label(answer: str, known: frozenset[str]) -> str | None:
    """The label that an answer is: all of it, or its first line. Anything else is no label."""
    lines = answer.strip().splitlines()
    for text in (answer, lines[0] if lines else ""):
        found = normalised(text)
        if found in known:
            return found
    return None


def class_rows(said: Sequence[str | None], meant: Sequence[str]) -> list[list[float]]:
    """For each answer and label three counts: rightly said, wrongly said, missed."""
    labels = {label: place for place, label in enumerate(sorted(set(meant)))}
    rows = np.zeros((len(meant), 3 * len(labels)))
    for row, (its, true) in enumerate(zip(said, meant, strict=True)):
        if its == true:
            rows[row, 3 * labels[true]] = 1
            continue
        rows[row, 3 * labels[true] + 2] = 1
        if its is not None:
            rows[row, 3 * labels[its] + 1] = 1
    return [list(map(float, row)) for row in rows]


def macro_precision(sums: Table) -> float:
    """Of what was said to be a label, the share that is; a mean over the labels that occur."""
    right, wrong, _ = _present(sums)
    return _mean(right, right + wrong)


def macro_recall(sums: Table) -> float:
    """Of what is a label, the share that was found; a mean over the labels that occur."""
    right, _, missed = _present(sums)
    return _mean(right, right + missed)


def macro_f1(sums: Table) -> float:
    """The harmonic mean of both for each label; a mean over the labels that occur."""
    right, wrong, missed = _present(sums)
    return _mean(2 * right, 2 * right + wrong + missed)


def _present(sums: Table) -> tuple[Table, Table, Table]:
    counts = sums.reshape(-1, 3)
    counts = counts[counts[:, 0] + counts[:, 2] > 0]
    return counts[:, 0], counts[:, 1], counts[:, 2]


def _mean(part: Table, whole: Table) -> float:
    """A label that was never said has a precision of 0."""
    if not len(part):
        return 0.0
    shares = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return float(shares.mean())
