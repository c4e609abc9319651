"""Has the promoted version become worse? The test for the time when no stable traffic is left.

With all requests at the new version there is nothing to compare it with at the same time. What is
left is a bound: the rate that was excluded when it was promoted, the stable version's rate then and
the margin. The null is that the rate is at most this bound; the bets are on multiples of it, and
each block's likelihood ratio has an expected value of at most 1 under the null.

A version that was fine for an hour and then breaks must not have to make up for that hour. So the
stake of 1 is not put down at once: n / (n + 2,000) of it is in play after n units, and each part
is bet on from when it was put down (a mixture over the moment of the change, as in Shiryaev and
Roberts, but of a total stake of 1, so that Ville's inequality holds for all of it).

Unlike `rollback` this cannot tell a worse version from a worse world: an outage that would have hit
any version looks the same. That is the price of guarding at all, and it ends with the window.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pydantic import FiniteFloat

from trimtab_operator.domain.analysis.blocks import NOTHING, Block, Counts
from trimtab_operator.domain.analysis.edetector import log_sum
from trimtab_operator.domain.analysis.promotion import PromotionTest
from trimtab_operator.domain.analysis.rollback import HIGHEST_RATE, held_back, log_ratio

RATIOS: Final = (1.25, 1.5, 2.0, 3.0, 6.0)
# How sure the bound is of a version that was counted for a while only, and stood beside no other.
DOUBT: Final = 1000.0
_STEPS: Final = 60


@dataclass(frozen=True)
class GuardTest:
    """The bound, what was counted of the promoted version, the bets and the most they were worth."""

    bound: FiniteFloat
    candidate: Counts = NOTHING
    # Logarithms of what each has come to; None before anything was staked.
    bets: tuple[FiniteFloat | None, ...] = (None,) * len(RATIOS)
    peak: FiniteFloat = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            raise ValueError(f"a bound of {self.bound} is no rate")
        if len(self.bets) != len(RATIOS):
            raise ValueError(f"{len(self.bets)} bets do not go with {len(RATIOS)} ratios")

    @property
    def log_evidence(self) -> float:
        """The logarithm of what the stake of 1 has become, with the part that is not in play."""
        return log_sum(*self.bets, math.log(held_back(self.candidate.n)))

    def is_alarm(self, level: float) -> bool:
        """Whether the evidence has ever been enough; see `RollbackTest`."""
        return self.peak >= -math.log(level)


def after(promotion: PromotionTest) -> GuardTest | None:
    """The guard of a version that this test has promoted; None where stable was never counted."""
    rate = promotion.stable.rate
    if rate is None:
        return None
    return GuardTest(min(promotion.margin.edge(rate), HIGHEST_RATE))


def alone(promotion: PromotionTest) -> GuardTest | None:
    """The guard of a version that never stood beside the other: stable's rate may have been higher than it looked.

    The bound is the highest rate that what was counted leaves possible, and the margin.
    """
    if not promotion.stable.n:
        return None
    return GuardTest(min(promotion.margin.edge(highest(promotion.stable)), HIGHEST_RATE))


def highest(counts: Counts) -> float:
    """A rate that is not exceeded, but for one case in `DOUBT`.

    By Chernoff's bound: at a rate of u, a share as low as this one or lower has at most the
    probability exp(-n D), D being the divergence of a coin with this share from one with u.
    """
    share = counts.rate or 0.0
    low, high = share, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if counts.n * _divergence(share, middle) < math.log(DOUBT):
            low = middle
        else:
            high = middle
    return high


def _divergence(share: float, rate: float) -> float:
    heads = share * math.log(share / rate) if share else 0.0
    tails = (1 - share) * math.log((1 - share) / (1 - rate)) if share < 1 else 0.0
    return heads + tails


def fold(state: GuardTest, blocks: Iterable[Block]) -> GuardTest:
    """The state after these blocks, each of which must be folded once; stable's part is left out."""
    for block in blocks:
        state = _after(state, block.candidate)
    return state


def _after(state: GuardTest, counts: Counts) -> GuardTest:
    if not counts.n:
        return state
    total = state.candidate + counts
    fresh = held_back(state.candidate.n) - held_back(total.n)
    added = math.log(fresh / len(RATIOS)) if fresh > 0 else None
    rates = [max(min(ratio * state.bound, HIGHEST_RATE), state.bound) for ratio in RATIOS]
    bets = tuple(
        log_sum(bet, added) + log_ratio(counts, rate, state.bound)
        for bet, rate in zip(state.bets, rates, strict=True)
    )
    after = GuardTest(state.bound, total, bets, state.peak)
    return replace(after, peak=max(after.peak, after.log_evidence))
