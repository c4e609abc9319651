"""The rate of false alarms of a rollout, shared among its metrics.

Whichever metric alarms takes the version back, so that their rates of false alarms add up at worst
(Bonferroni); with weights, because errors are what a rollback is for. Promotion shares nothing: all
metrics must be proven, and a wrong promotion has to get past each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

MAIN: Final = "ErrorRate"
MAIN_SHARE: Final = 0.8


def weights(metrics: Sequence[str]) -> dict[str, float]:
    """Most for ErrorRate, where it is among them; the others share the rest evenly."""
    if len(set(metrics)) != len(metrics):
        raise ValueError("a metric is named twice")
    others = [metric for metric in metrics if metric != MAIN]
    main = 0.0 if MAIN not in metrics else MAIN_SHARE if others else 1.0
    return {m: main if m == MAIN else (1 - main) / len(others) for m in metrics}


def levels(rate: float, shares: Mapping[str, float]) -> dict[str, float]:
    """Each metric's own level; together they are the rate."""
    if not 0 < rate < 1:
        raise ValueError(f"a false-alarm rate of {rate} cannot be")
    if any(share <= 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError("shares are above 0 and are 1 together")
    return {metric: rate * share for metric, share in shares.items()}
