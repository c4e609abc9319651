"""Whether an engine really answers with the version that it was told to load: pure.

The reference holds log-probabilities of whole sequences. The engine is asked for single places of
them, one token each: that is exact on every engine, costs little beside live traffic, and needs no
log-probabilities of prompts. Those are computed for all tokens of a prompt at once, which on some
engines fails with adapters, and takes the whole engine with it, as soon as two requests meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api.fingerprint import Comparison, Fingerprint, FingerprintSequence, compare

MOST_QUESTIONS: Final = 18


@dataclass(frozen=True, slots=True)
class Question:
    """How probable is `token` after `prefix`? It is place `place` of the reference's sequence."""

    sequence: int
    place: int
    prefix: tuple[int, ...]
    token: int


def questions_of(reference: Fingerprint) -> list[Question]:
    """Places spread evenly, and of each sequence the one where version and base differ most."""
    sequences = reference.sequences[:MOST_QUESTIONS]
    each = max(1, MOST_QUESTIONS // max(1, len(sequences)))
    return [
        Question(index, place, tuple(sequence.tokens[: place + 1]), sequence.tokens[place + 1])
        for index, sequence in enumerate(sequences)
        for place in _places(sequence, each)
    ]


def _places(sequence: FingerprintSequence, count: int) -> list[int]:
    length = len(sequence.logprobs)
    if length <= count:
        return list(range(length))
    spread = {(2 * i + 1) * length // (2 * max(1, count - 1)) for i in range(count - 1)}
    base = sequence.base_logprobs
    if base is not None and len(base) == length:
        gaps = [abs(own - other) for own, other in zip(sequence.logprobs, base, strict=True)]
        spread.add(gaps.index(max(gaps)))
    return sorted(spread) or [length // 2]


def judge(
    reference: Fingerprint,
    questions: Sequence[Question],
    answers: Sequence[float],
    siblings: Sequence[Fingerprint],
) -> Comparison:
    """Compare the engine's answers with the version's own reference, its base's and its siblings'.

    A sibling counts where it was asked the same sequences.
    """
    narrow = _narrowed(reference, questions)
    nested = _nested(questions, list(answers))
    others = [
        [sequence.logprobs for sequence in _narrowed(sibling, questions).sequences]
        for sibling in siblings
        if [s.tokens for s in sibling.sequences] == [s.tokens for s in reference.sequences]
    ]
    return compare(narrow, nested, others)


def _narrowed(reference: Fingerprint, questions: Sequence[Question]) -> Fingerprint:
    """The reference as if it had only the places that were asked."""
    kept: list[FingerprintSequence] = []
    for index, sequence in enumerate(reference.sequences):
        places = [q.place for q in questions if q.sequence == index]
        if not places:
            continue
        base = sequence.base_logprobs
        kept.append(
            FingerprintSequence(
                tokens=sequence.tokens,
                logprobs=[sequence.logprobs[place] for place in places],
                base_logprobs=[base[place] for place in places] if base is not None else None,
            )
        )
    return reference.model_copy(update={"sequences": kept})


def _nested(questions: Sequence[Question], answers: list[float]) -> list[list[float]]:
    """Answers by sequence, in the order of the questions."""
    rows: dict[int, list[float]] = {}
    for question, answer in zip(questions, answers, strict=True):
        rows.setdefault(question.sequence, []).append(answer)
    return [rows[index] for index in sorted(rows)]
