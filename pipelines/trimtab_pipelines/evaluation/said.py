"""What a model was asked and what it said, free of torch: figures and comparisons are made from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab_pipelines.prompts import Record


@dataclass(frozen=True)
class Example:
    """A held-out record in tokens; `place` is its number among the records that were chosen."""

    place: int
    record: Record
    prompt: list[int]
    tokens: list[int]
    labels: list[int]
    is_cut: bool


@dataclass(frozen=True)
class Answer:
    """What a model answered, and whether it came to an end by itself."""

    text: str
    tokens: int
    is_finished: bool


@dataclass(frozen=True)
class Said:
    """What one model said about the examples; no answers where there is nothing to answer.

    A loss is the sum over an example's counted tokens, and their number.
    """

    losses: Sequence[tuple[float, int]]
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Observations:
    """Examples and what one model said about them."""

    examples: Sequence[Example]
    said: Said

    def at(self, places: Sequence[int]) -> "Observations":
        """The part about these records, in their order."""
        index = {example.place: i for i, example in enumerate(self.examples)}
        chosen = [index[place] for place in places]
        answers = [self.said.answers[i] for i in chosen] if self.said.answers else []
        return Observations(
            [self.examples[i] for i in chosen],
            Said([self.said.losses[i] for i in chosen], answers),
        )
