"""Is the candidate no worse than the stable version by more than a margin? The proof before 100 %.

The same construction as in `rollback`, the other way round: the null is "worse by the margin or
more", c >= max(s + points, (1 + share) s), which is convex; the bet is that both versions have the
pooled rate q of what came before; and the nearest point of the null, in information weighted by the
units of each version, is found on its edge. Nothing is promoted by a deadline or by silence.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import FiniteFloat

from trimtab_operator.domain.analysis.blocks import NOTHING, Block, Counts
from trimtab_operator.domain.analysis.rollback import log_ratio, pooled_rate

_STEPS: Final = 40
_ALMOST_ONE: Final = 1 - 1e-9


@dataclass(frozen=True)
class Margin:
    """What the candidate may be worse by: the larger of so much and of a share of stable's rate."""

    points: FiniteFloat = 0.01
    share: FiniteFloat = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.points < 1 and 0 <= self.share < math.inf):
            raise ValueError(f"a margin of {self.points} and {self.share} of the rate cannot be")

    def edge(self, stable_rate: float) -> float:
        """The lowest candidate's rate that counts as worse."""
        return max(stable_rate + self.points, (1 + self.share) * stable_rate)


DEFAULT_MARGIN: Final = Margin()


@dataclass(frozen=True)
class PromotionTest:
    """What was counted and what the bet on "no worse" has become."""

    margin: Margin = DEFAULT_MARGIN
    stable: Counts = NOTHING
    candidate: Counts = NOTHING
    log_evidence: FiniteFloat = 0.0

    def is_proven(self, level: float) -> bool:
        """Whether it is enough now. An earlier proof that has faded since is none."""
        return self.log_evidence >= -math.log(level)

    def still_needed(self, level: float, share: float) -> int | None:
        """About how many more requests, of both versions, if they are alike; None before any came.

        `share` is the candidate's part of the requests. An estimate for people, not a promise.
        """
        missing = -math.log(level) - self.log_evidence
        if missing <= 0:
            return 0
        if not (self.stable.n and self.candidate.n and 0 < share < 1):
            return None
        rate = pooled_rate(self.stable, self.candidate)
        stable, candidate = nearest(rate, share, self.margin)
        gain = share * divergence(rate, candidate) + (1 - share) * divergence(rate, stable)
        return math.ceil(missing / gain)


def fold(state: PromotionTest, blocks: Iterable[Block]) -> PromotionTest:
    """The state after these blocks, each of which must be folded once."""
    stable, candidate, evidence = state.stable, state.candidate, state.log_evidence
    for block in blocks:
        if block.is_comparison:
            evidence += log_factor(block, pooled_rate(stable, candidate), state.margin)
        stable, candidate = stable + block.stable, candidate + block.candidate
    return PromotionTest(state.margin, stable, candidate, evidence)


def log_factor(block: Block, rate: float, margin: Margin) -> float:
    """What the bet gains by a block; its expected value is at most 1 where the margin is exceeded."""
    share = block.candidate.n / (block.stable.n + block.candidate.n)
    stable, candidate = nearest(rate, share, margin)
    return log_ratio(block.candidate, rate, candidate) + log_ratio(block.stable, rate, stable)


def nearest(rate: float, share: float, margin: Margin) -> tuple[float, float]:
    """Of all pairs of rates that are worse by the margin, the one that looks most like (rate, rate).

    The divergence is convex along the edge, so its slope has one zero between where the edge meets
    the candidate's rate and where it meets the stable version's.
    """
    low = max(min(rate - margin.points, rate / (1 + margin.share)), 0.0)
    high = min(rate, _ALMOST_ONE - margin.points, _ALMOST_ONE / (1 + margin.share))
    for _ in range(_STEPS):
        stable = (low + high) / 2
        candidate = margin.edge(stable)
        steepness = 1 + margin.share if stable * margin.share > margin.points else 1.0
        rise = share * steepness * (candidate - rate) / (candidate * (1 - candidate))
        if rise < (1 - share) * (rate - stable) / (stable * (1 - stable)):
            low = stable
        else:
            high = stable
    return high, margin.edge(high)


def divergence(one: float, other: float) -> float:
    """Kullback and Leibler's, of a coin from another, in nats."""
    heads = one * math.log(one / other)
    return heads + (1 - one) * math.log((1 - one) / (1 - other))
