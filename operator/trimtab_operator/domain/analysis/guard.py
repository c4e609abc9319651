"""Has the promoted version become worse? The test for the time when no stable traffic is left.

With all requests at the new version there is nothing to compare it with at the same time. What is
left is a bound: the rate that was excluded when it was promoted, the stable version's rate then and
the margin. The null is that the rate is at most this bound; the bets are on multiples of it, and
each block's likelihood ratio has an expected value of at most 1 under the null. Unlike `rollback`
this cannot tell a worse version from a worse world: an outage that would have hit any version looks
the same. That is the price of guarding at all, and it ends with the rollback window.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import FiniteFloat

from trimtab_operator.domain.analysis.blocks import NOTHING, Block, Counts
from trimtab_operator.domain.analysis.promotion import PromotionTest
from trimtab_operator.domain.analysis.rollback import HIGHEST_RATE, log_mean, log_ratio

RATIOS: Final = (1.25, 1.5, 2.0, 3.0, 6.0)


@dataclass(frozen=True)
class GuardTest:
    """The bound, what was counted of the promoted version, the bets and the most they were worth."""

    bound: FiniteFloat
    candidate: Counts = NOTHING
    bets: tuple[FiniteFloat, ...] = (0.0,) * len(RATIOS)
    peak: FiniteFloat = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            raise ValueError(f"a bound of {self.bound} is no rate")
        if len(self.bets) != len(RATIOS):
            raise ValueError(f"{len(self.bets)} bets do not go with {len(RATIOS)} ratios")

    @property
    def log_evidence(self) -> float:
        """The logarithm of what the stake of 1 has become."""
        return log_mean(self.bets)

    def is_alarm(self, level: float) -> bool:
        """Whether the evidence has ever been enough; see `RollbackTest`."""
        return self.peak >= -math.log(level)


def after(promotion: PromotionTest) -> GuardTest | None:
    """The guard of a version that this test has promoted; None where stable was never counted."""
    rate = promotion.stable.rate
    if rate is None:
        return None
    return GuardTest(min(promotion.margin.edge(rate), HIGHEST_RATE))


def fold(state: GuardTest, blocks: Iterable[Block]) -> GuardTest:
    """The state after these blocks, each of which must be folded once; stable's part is left out."""
    counts, bets, peak = state.candidate, state.bets, state.peak
    rates = [min(ratio * state.bound, (1 + HIGHEST_RATE) / 2) for ratio in RATIOS]
    for block in blocks:
        gains = [log_ratio(block.candidate, max(rate, state.bound), state.bound) for rate in rates]
        bets = tuple(bet + gain for bet, gain in zip(bets, gains, strict=True))
        peak = max(peak, log_mean(bets))
        counts += block.candidate
    return GuardTest(state.bound, counts, bets, peak)
