"""Has a share risen? A change detector on counts by category that needs no calibration.

A mixture e-detector of Shiryaev-Roberts type (Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", 2024). For every category and three sizes
of stake there is a bet that its share is above an edge; each value M is multiplied by the factor L of
a block of n units, after n's part of a new stake was added: M <- (M + n w) L, where all w are 1 together. A factor's
expected value is at most 1 as long as no share is above its edge, so the sum of all M grows by no
more than 1 per unit in the mean, and the mean number of units until it passes A is at least A.

Only rising shares are bet on; one that vanishes shows, later, through those that take its place.
Where only some categories are of interest, the others have no edge and get no part of the stake.
The parts need not be even: whatever they are, what is promised holds.
"""

import math
from collections.abc import Sequence

STAKES = (0.03, 0.1, 0.3)
_DIGITS = 6


def fold(
    bets: Sequence[float | None],
    counts: Sequence[int],
    edges: Sequence[float | None],
    parts: Sequence[float],
) -> tuple[float | None, ...]:
    """The logarithms of all M after a block; None is an M of zero. `edges` are of before the block,
    None for a category that is not bet on.

    `parts` is how much of the new stake each category has. They are chosen before the block and are
    at most 1 together, over all detectors that share one stake; those without an edge are not used.
    """
    n = sum(counts)
    if not n:
        return tuple(bets)
    after: list[float | None] = []
    for place, (k, edge, part) in enumerate(zip(counts, edges, parts, strict=True)):
        for stake_place, stake in enumerate(STAKES):
            bet = bets[place * len(STAKES) + stake_place]
            if edge is None:
                after.append(bet)
                continue
            added = math.log(part * n / len(STAKES))
            gain = k * math.log1p(stake * (1 - edge) / edge) + (n - k) * math.log1p(-stake)
            # Rounded here, so that a state that was stored and one that was not are the same.
            after.append(round(log_sum(bet, added) + gain, _DIGITS))
    return tuple(after)


def none_yet(categories: int) -> tuple[float | None, ...]:
    """The bets before the first block."""
    return (None,) * (categories * len(STAKES))


def log_sum(*logs: float | None) -> float:
    """The logarithm of the sum of what is given as logarithms; minus infinity for nothing."""
    known = [one for one in logs if one is not None and one > -math.inf]
    if not known:
        return -math.inf
    most = max(known)
    return most + math.log(sum(math.exp(one - most) for one in known))


def leading(bets: Sequence[float | None]) -> int | None:
    """The category whose bets are worth most."""
    known = [(one, place) for place, one in enumerate(bets) if one is not None]
    return max(known)[1] // len(STAKES) if known else None
