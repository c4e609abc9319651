"""From records to sequences of tokens: encoded, cut to the context, packed.

What counts for the loss is decided in `prompts`; here it is only kept together. No torch: a
sequence is a pair of small arrays until it becomes part of a batch.
"""

import logging
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.finetunejob import Objective
from trimtab_pipelines.prompts import IGNORED, has_answer, render_example
from trimtab_pipelines.runtime import RunError

log = logging.getLogger(__name__)

Tokens = NDArray[np.int32]
_NO_LIMIT = 2**31


@dataclass(frozen=True)
class Row:
    """Tokens in a row, from one record or from several.

    `targets[i]` is what the model should say after `tokens[i]`, or IGNORED. `lengths` are those of
    the records in it; attention does not reach from one to the next.
    """

    tokens: Tokens
    targets: Tokens
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Encoded:
    """A split, ready to be packed; and what did not fit."""

    sequences: list[Row]
    cut: int = 0
    dropped: int = 0


def encode(
    records: Iterable[dict[str, Any]], tokenizer: Any, objective: Objective, max_length: int
) -> Encoded:
    """All records as sequences of at most `max_length` tokens.

    Pretraining goes on with the rest of a long text in a further sequence. An answer that lies
    beyond the cut teaches nothing, so such a record is dropped.
    """
    encoded = Encoded([])
    for record in records:
        encoded = _with_record(encoded, record, tokenizer, objective, max_length)
    if encoded.cut or encoded.dropped:
        log.warning(
            "%d records are longer than %d tokens and were cut; %d of them lost their answer by it",
            encoded.cut,
            max_length,
            encoded.dropped,
        )
    if not encoded.sequences and encoded.dropped:
        raise RunError(
            FailureReason.RECORD_TOO_LONG,
            f"No record fits into {max_length} tokens with its answer; "
            "raise hyperparameters.maxLength or shorten the prompts.",
        )
    return encoded


def _with_record(
    encoded: Encoded, record: dict[str, Any], tokenizer: Any, objective: Objective, limit: int
) -> Encoded:
    tokens, labels = render_example(tokenizer, record, _NO_LIMIT)
    is_cut = len(tokens) > limit
    if objective is Objective.PRETRAINING:
        pieces = [tokens[start : start + limit] for start in range(0, len(tokens), limit)]
        # A piece of one token has nothing to predict.
        encoded.sequences.extend(_sequence(piece, piece) for piece in pieces if len(piece) > 1)
        return replace(encoded, cut=encoded.cut + is_cut)
    if "text" in record:
        raise RunError(
            FailureReason.DATA_MALFORMED,
            "Objective Supervised needs prompts and answers, and the data is plain text; "
            "use objective Pretraining or a dataset of task Instruction or Chat.",
        )
    if not has_answer(labels[:limit]):
        return replace(encoded, cut=encoded.cut + is_cut, dropped=encoded.dropped + 1)
    encoded.sequences.append(_sequence(tokens[:limit], labels[:limit]))
    return replace(encoded, cut=encoded.cut + is_cut)


def _sequence(tokens: Sequence[int], labels: Sequence[int]) -> Row:
    targets = [*labels[1:], IGNORED]
    return Row(
        np.asarray(tokens, dtype=np.int32), np.asarray(targets, dtype=np.int32), (len(tokens),)
    )


def pack(sequences: Sequence[Row], max_length: int) -> list[Row]:
    """Fill rows of `max_length` with whole sequences: longest first, each into the fullest row.

    The rows are fixed once for the run, so that the number of steps is known in advance.
    """
    rows: list[list[int]] = []
    by_space: dict[int, list[int]] = {}  # free tokens -> rows
    spaces: list[int] = []  # its keys, sorted
    for index in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
        length = len(sequences[index])
        found = bisect_left(spaces, length)
        if found == len(spaces):
            rows.append([])
            row, space = len(rows) - 1, max_length
        else:
            space = spaces[found]
            row = by_space[space].pop()
            if not by_space[space]:
                del by_space[space], spaces[found]
        rows[row].append(index)
        if space - length not in by_space:
            insort(spaces, space - length)
        by_space.setdefault(space - length, []).append(row)
    return [_joined([sequences[i] for i in row]) for row in rows]


def _joined(parts: Sequence[Row]) -> Row:
    if len(parts) == 1:
        return parts[0]
    return Row(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.targets for part in parts]),
        tuple(length for part in parts for length in part.lengths),
    )


def counted_tokens(sequences: Iterable[Row]) -> int:
    """How many tokens the loss is a mean over."""
    return sum(int((sequence.targets != IGNORED).sum()) for sequence in sequences)


def positions(sequence: Row) -> Iterator[range]:
    """Positions within each record, one range per record."""
    return (range(length) for length in sequence.lengths)
