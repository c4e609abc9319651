"""Which rows make which step, and rows made into tensors.

The order is a pure function of seed and step, so that a resumed run needs to remember nothing but
the step that it had reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab_api.v1alpha1.finetunejob import Hyperparameters
from trimtab_pipelines.prompts import IGNORED
from trimtab_pipelines.training.sequences import Row, positions


@dataclass(frozen=True)
class Batch:
    """Rows of equal width, filled up on the right.

    There is no attention mask: what is filled up lies behind all that counts and causal attention
    never looks back at it. In packed rows the positions start anew with each record, which is how
    transformers is told to keep the records' attention apart.
    """

    tokens: Tensor
    targets: Tensor
    positions: Tensor | None
    counted: int
    size: int

    def to(self, device: torch.device) -> "Batch":
        where = None if self.positions is None else self.positions.to(device, non_blocking=True)
        return Batch(
            self.tokens.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            where,
            self.counted,
            self.size,
        )


def collate(rows: Sequence[Row], pad: int, multiple: int = 1) -> Batch:
    """A batch as wide as its longest row, rounded up to a multiple."""
    width = max(len(row) for row in rows)
    width += -width % multiple
    tokens = torch.full((len(rows), width), pad, dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for line, row in enumerate(rows):
        tokens[line, : len(row)] = torch.from_numpy(row.tokens)
        targets[line, : len(row)] = torch.from_numpy(row.targets)
    return Batch(
        tokens,
        targets,
        _positions(rows, width),
        int((targets != IGNORED).sum()),
        sum(len(row) for row in rows),
    )


def _positions(rows: Sequence[Row], width: int) -> Tensor | None:
    if all(len(row.lengths) == 1 for row in rows):
        return None
    where = torch.zeros((len(rows), width), dtype=torch.long)
    for line, row in enumerate(rows):
        # The filling counts as one more record.
        ranges = [*positions(row), range(width - len(row))]
        where[line] = torch.tensor([p for part in ranges for p in part])
    return where


@dataclass(frozen=True)
class Order:
    """The course of the run through its rows."""

    rows: int
    batch_size: int
    accumulation: int
    epochs: int
    max_steps: int | None
    seed: int

    @classmethod
    def of(cls, rows: int, settings: Hyperparameters) -> "Order":
        return cls(
            rows=rows,
            batch_size=settings.batch_size,
            accumulation=settings.gradient_accumulation,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            seed=settings.seed,
        )

    @property
    def steps_per_epoch(self) -> int:
        per_step = self.batch_size * self.accumulation
        return -(-self.rows // per_step)

    @property
    def steps(self) -> int:
        whole = self.steps_per_epoch * self.epochs
        return min(whole, self.max_steps) if self.max_steps else whole

    def step(self, step: int) -> list[list[int]]:
        """The rows of a step, one list per batch; the last step of an epoch may have fewer."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = self._epoch(epoch)
        per_step = self.batch_size * self.accumulation
        rows = order[index * per_step : (index + 1) * per_step]
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def _epoch(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        shuffled: list[int] = torch.randperm(self.rows, generator=generator).tolist()
        return shuffled
