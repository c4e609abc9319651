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


class Order:
    """The course of the run through its rows."""

    def __init__(self, rows: int, settings: Hyperparameters) -> None:
        self._rows = rows
        self._settings = settings
        self._shuffled: tuple[int, list[int]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return -(-self._rows // self._per_step)

    @property
    def steps(self) -> int:
        whole = self.steps_per_epoch * self._settings.epochs
        limit = self._settings.max_steps
        return min(whole, limit) if limit else whole

    def step(self, step: int) -> list[list[int]]:
        """The rows of a step, one list per batch; the last step of an epoch may have fewer."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = epoch, self._shuffle(epoch)
        rows = self._shuffled[1][index * self._per_step : (index + 1) * self._per_step]
        size = self._settings.batch_size
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    @property
    def _per_step(self) -> int:
        return self._settings.batch_size * self._settings.gradient_accumulation

    def _shuffle(self, epoch: int) -> list[int]:
        # Rows of like length are not put together: it would save filling, but batches that differ in
        # kind make gradients noisier.
        generator = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + epoch)
        order: list[int] = torch.randperm(self._rows, generator=generator).tolist()
        return order
