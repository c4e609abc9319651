"""Is the candidate worse? A test that holds however often one looks.

The safe two-sample test of Turner, Ly and Gruenwald ("Generic e-variables for exact sequential
k-sample tests that allow for optional stopping", 2024). The null is that the candidate's rate is at
most the stable version's, whatever both are, and it may change from block to block, as may the
weights. Each block of n_s and n_c units is bet on with the candidate's rate c = r s for a ratio r,
both placed around the pooled rate q of what came before, against the point of the null that lies
nearest, where both versions have q0 = (n_s s + n_c c) / (n_s + n_c). Such a factor has an expected
value of at most 1 under the null, so the product exceeds 1 / level with a probability of at most
the level, at whatever moment one looks (Ville's inequality). Four ratios share the stake evenly.

A candidate that was fine for an hour and then breaks must not have to make up for that hour, in which
the bets have lost. So a part of the stake is kept back and put down bit by bit, as in `guard`: each
bit is bet on from its own beginning. All of it is one stake of 1, so that the level holds as before.

The ratios leave a candidate alone that is worse by a fifth or less: that is what promotion is for.
Units must be independent. Requests of one user under sticky routing are not, which is why the
gateway counts few of each user.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pydantic import FiniteFloat

from trimtab_operator.domain.analysis.blocks import NOTHING, Block, Counts
from trimtab_operator.domain.analysis.edetector import log_sum

RATIOS: Final = (1.5, 2.0, 3.0, 6.0)
# What is assumed before the first block: one event in twenty units.
PRIOR: Final = Counts(20, 1)
HIGHEST_RATE: Final = 0.98
# What is bet from the first block on; of the rest, half is in play after so many units.
AT_ONCE: Final = 0.95
HALF_STAKED: Final = 2000


@dataclass(frozen=True)
class RollbackTest:
    """All that has to be kept: what was counted, the bets, and the most they were worth."""

    stable: Counts = NOTHING
    candidate: Counts = NOTHING
    # Logarithms of what the bets from the first block on have come to, each of a stake of 1.
    bets: tuple[FiniteFloat, ...] = (0.0,) * len(RATIOS)
    # The same of what was put down later, each of its own stake; None before anything was.
    later: tuple[FiniteFloat | None, ...] = (None,) * len(RATIOS)
    peak: FiniteFloat = 0.0

    def __post_init__(self) -> None:
        for bets in (self.bets, self.later):
            if len(bets) != len(RATIOS):
                raise ValueError(f"{len(bets)} bets do not go with {len(RATIOS)} ratios")

    @property
    def log_evidence(self) -> float:
        """The logarithm of what the stake of 1 has become, with the part that is not in play."""
        kept = (1 - AT_ONCE) * held_back(self.stable.n + self.candidate.n)
        share = math.log(AT_ONCE / len(RATIOS))
        return log_sum(*(bet + share for bet in self.bets), *self.later, math.log(kept))

    def is_alarm(self, level: float) -> bool:
        """Whether the evidence has ever been enough.

        Ever, so that it makes no difference whether blocks are folded one by one or, after a pause,
        all at once; the level holds for the highest value as it does for any.
        """
        return self.peak >= -math.log(level)


def fold(state: RollbackTest, blocks: Iterable[Block]) -> RollbackTest:
    """The state after these blocks, each of which must be folded once."""
    for block in blocks:
        state = _after(state, block)
    return state


def _after(state: RollbackTest, block: Block) -> RollbackTest:
    stable, candidate = state.stable + block.stable, state.candidate + block.candidate
    fresh = held_back(state.stable.n + state.candidate.n) - held_back(stable.n + candidate.n)
    added = math.log((1 - AT_ONCE) * fresh / len(RATIOS)) if fresh > 0 else None
    rate = pooled_rate(state.stable, state.candidate)
    gains = [log_factor(block, rate, r) if block.is_comparison else 0.0 for r in RATIOS]
    after = RollbackTest(
        stable,
        candidate,
        tuple(bet + gain for bet, gain in zip(state.bets, gains, strict=True)),
        tuple(_sum(bet, added, gain) for bet, gain in zip(state.later, gains, strict=True)),
        state.peak,
    )
    return replace(after, peak=max(after.peak, after.log_evidence)) if any(gains) else after


def _sum(bet: float | None, added: float | None, gain: float) -> float | None:
    return None if bet is None and added is None else log_sum(bet, added) + gain


def held_back(units: int) -> float:
    """How much of what is put down bit by bit is not in play yet after so many units; never nothing."""
    return HALF_STAKED / (units + HALF_STAKED)


def pooled_rate(stable: Counts, candidate: Counts) -> float:
    """The rate of what came before, both versions together: under the null they have one."""
    events = stable.events + candidate.events + PRIOR.events
    return events / (stable.n + candidate.n + PRIOR.n)


def log_factor(block: Block, rate: float, ratio: float) -> float:
    """What one bet gains by a block; its expected value is at most 1 under the null."""
    share = block.candidate.n / (block.stable.n + block.candidate.n)
    low = rate / (1 - share + share * ratio)
    high = min(ratio * low, HIGHEST_RATE)
    if high <= low:  # the rate is so high that nothing is worse
        return 0.0
    both = share * high + (1 - share) * low
    return log_ratio(block.candidate, high, both) + log_ratio(block.stable, low, both)


def log_ratio(counts: Counts, bet: float, null: float) -> float:
    """How much better the counts fit to one rate than to another."""
    misses = counts.n - counts.events
    return counts.events * math.log(bet / null) + misses * math.log((1 - bet) / (1 - null))
