"""How near an answer is to its reference. Pure; each figure lies in 0..1.

ROUGE-L and token F1 are F-measures over words in lower case. A word is a run of letters and digits
of any script, so that other languages than English are measured too.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
# sacrebleu's orders of n-grams.
ORDERS = 4


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def exact_match(answer: str, reference: str) -> float:
    """Whether both are equal but for blanks around them."""
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """Overlap of the words, whatever their order."""
    said, meant = words(answer), words(reference)
    common = (Counter(said) & Counter(meant)).total()
    return _f_measure(common, len(said), len(meant))


def rouge_l(answer: str, reference: str) -> float:
    """Longest common subsequence of the words (Lin, 2004)."""
    said, meant = words(answer), words(reference)
    return _f_measure(longest_common_subsequence(said, meant), len(said), len(meant))


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Its length, with the rows of the usual table as the bits of one number (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(left)) - 1
    row = full
    for word in right:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(left) - row.bit_count()


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU needs to know of one answer; sums over answers give the corpus' BLEU."""

    matched: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference_length: int

    def as_row(self) -> list[int]:
        return [*self.matched, *self.total, self.length, self.reference_length]


def bleu_counts(answers: Sequence[str], references: Sequence[str]) -> list[BleuCounts]:
    """Sacrebleu's counts for each answer (tokenizer 13a)."""
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415 - heavy, and not needed for text

    metric = BLEU(effective_order=True)
    found = []
    for answer, reference in zip(answers, references, strict=True):
        score = metric.sentence_score(answer.strip(), [reference.strip()])
        found.append(
            BleuCounts(tuple(score.counts), tuple(score.totals), score.sys_len, score.ref_len)
        )
    return found


def corpus_bleu(row: Sequence[int]) -> float:
    """BLEU of summed counts (`BleuCounts.as_row`), as sacrebleu's corpus_score gives it, in 0..1."""
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415 - as above

    score = BLEU.compute_bleu(
        correct=[int(count) for count in row[:ORDERS]],
        total=[int(count) for count in row[ORDERS : 2 * ORDERS]],
        sys_len=int(row[-2]),
        ref_len=int(row[-1]),
        smooth_method="exp",
    )
    return float(score.score) / 100


def _f_measure(common: int, said: int, meant: int) -> float:
    return 2 * common / (said + meant) if said + meant else 1.0
