"""Is the candidate worse? A test that holds however often one looks.

The safe two-sample test of Turner, Ly and Gruenwald ("Generic e-variables for exact sequential
k-sample tests that allow for optional stopping", 2024). The null is that the candidate's rate is at
most the stable version's, whatever both are, and it may change from block to block, as may the
weights. Each block of n_s and n_c units is bet on with the candidate's rate c = r s for a ratio r,
both placed around the pooled rate q of what came before, against the point of the null that lies
nearest, where both versions have q0 = (n_s s + n_c c) / (n_s + n_c). Such a factor has an expected
value of at most 1 under the null, so the product exceeds 1 / level with a probability of at most
the level, at whatever moment one looks (Ville's inequality). Four ratios share the stake evenly.

The ratios leave a candidate alone that is worse by a fifth or less: that is what promotion is for.
Units must be independent. Requests of one user under sticky routing are not, which is why the
gateway counts few of each user.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import FiniteFloat

from trimtab_operator.domain.analysis.blocks import NOTHING, Block, Counts

RATIOS: Final = (1.5, 2.0, 3.0, 6.0)
# What is assumed before the first block: one event in twenty units.
PRIOR: Final = Counts(20, 1)
HIGHEST_RATE: Final = 0.98


@dataclass(frozen=True)
class RollbackTest:
    """All that has to be kept: what was counted, the four bets, and the most they were worth."""

    stable: Counts = NOTHING
    candidate: Counts = NOTHING
    bets: tuple[FiniteFloat, ...] = (0.0,) * len(RATIOS)
    peak: FiniteFloat = 0.0

    def __post_init__(self) -> None:
        if len(self.bets) != len(RATIOS):
            raise ValueError(f"{len(self.bets)} bets do not go with {len(RATIOS)} ratios")

    @property
    def log_evidence(self) -> float:
        """The logarithm of what the stake of 1 has become."""
        return log_mean(self.bets)

    def is_alarm(self, level: float) -> bool:
        """Whether the evidence has ever been enough.

        Ever, so that it makes no difference whether blocks are folded one by one or, after a pause,
        all at once; the level holds for the highest value as it does for any.
        """
        return self.peak >= -math.log(level)


def fold(state: RollbackTest, blocks: Iterable[Block]) -> RollbackTest:
    """The state after these blocks, each of which must be folded once."""
    stable, candidate, bets, peak = state.stable, state.candidate, state.bets, state.peak
    for block in blocks:
        if block.is_comparison:
            rate = pooled_rate(stable, candidate)
            gains = [log_factor(block, rate, ratio) for ratio in RATIOS]
            bets = tuple(bet + gain for bet, gain in zip(bets, gains, strict=True))
            peak = max(peak, log_mean(bets))
        stable, candidate = stable + block.stable, candidate + block.candidate
    return RollbackTest(stable, candidate, bets, peak)


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


def log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of what is given as logarithms."""
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))
