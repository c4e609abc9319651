"""Latencies as counts: how many requests were slower than most of the stable version's.

A quantile of the stable version is fixed before anything is compared, as the bound of a bucket,
and what lies above it is an event like an error. So the same tests hold for it, whatever the
distribution. What a histogram cannot tell (within a bucket) is not asked.
"""

import math
from collections.abc import Mapping

DEFAULT_QUANTILE = 0.9


def threshold(
    below: Mapping[float, float], quantile: float = DEFAULT_QUANTILE, least: int = 100
) -> float | None:
    """The smallest bound that at least so large a part of the stable version's requests keeps.

    `below` are the increments of the cumulative buckets, by bound, over a time before the first
    block. None where there are too few requests, where numbers are missing, or where the quantile
    lies in the last bucket, above which nothing can be counted.
    """
    if not all(math.isfinite(count) and count >= 0 for count in below.values()):
        return None
    total = below.get(math.inf, 0)
    if total < least:
        return None
    return next(
        (b for b in sorted(below) if math.isfinite(b) and below[b] >= quantile * total), None
    )
