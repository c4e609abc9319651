"""What judges a table of counts: the operator's own tests, and what others do.

Each takes the table of one run and says in which cell it acts, or None.
"""

from collections.abc import Callable, Iterator

import numpy as np
from bench.rollout.traffic import CELL_SECONDS, Table

from trimtab_operator.domain.analysis import promotion, rollback
from trimtab_operator.domain.analysis.blocks import Block, Counts
from trimtab_operator.domain.analysis.promotion import PromotionTest
from trimtab_operator.domain.analysis.rollback import RollbackTest

Judge = Callable[[Table], int | None]
LEVEL = 0.05


def rolls_back(table: Table, level: float = LEVEL) -> int | None:
    """The operator's test, looked at after every scrape."""
    state = RollbackTest()
    for cell, block in enumerate(_blocks(table)):
        state = rollback.fold(state, [block])
        if state.is_alarm(level):
            return cell
    return None


def promotes(table: Table, level: float = LEVEL) -> int | None:
    """The operator's proof of "no worse by the margin", looked at after every scrape."""
    state = PromotionTest()
    for cell, block in enumerate(_blocks(table)):
        state = promotion.fold(state, [block])
        if state.is_proven(level):
            return cell
    return None


def naive_z(table: Table) -> int | None:
    """A one-sided test of two proportions at 5 %, done again at every scrape."""
    n_s, e_s, n_c, e_c = np.cumsum(table, axis=0).T.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (e_s + e_c) / (n_s + n_c)
        z = (e_c / n_c - e_s / n_s) / np.sqrt(pooled * (1 - pooled) * (1 / n_s + 1 / n_c))
    return _first(z > 1.645)


def threshold(limit: float, fails: int) -> Judge:
    """The candidate's rate over the last minute above a limit, so many minutes in all.

    The form of Argo Rollouts' `successCondition` and `failureLimit` and of Flagger's
    `request-success-rate`: one look a minute, and stable traffic is not looked at.
    """

    def judge(table: Table) -> int | None:
        cells = 60 // CELL_SECONDS
        minutes = len(table) // cells
        sums = table[: minutes * cells].reshape(minutes, cells, 4).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            failed = np.cumsum(sums[:, 3] / sums[:, 2] > limit)
        found = _first(failed >= fails)
        return None if found is None else (found + 1) * cells - 1

    return judge


def _first(flags: np.ndarray) -> int | None:
    return int(np.argmax(flags)) if flags.any() else None


def _blocks(table: Table) -> Iterator[Block]:
    for cell, (n_s, e_s, n_c, e_c) in enumerate(table.tolist()):
        yield Block(CELL_SECONDS * (cell + 1.0), Counts(n_s, e_s), Counts(n_c, e_c))
