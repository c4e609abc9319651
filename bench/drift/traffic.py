"""Simulated topics of requests: 32 of them and "near none", in a new world for every run.

A world's shares are drawn once. From a moment on a part of the traffic may be about something that
nobody thought of: three fifths of that near no topic, a fifth each near two of the known ones. A
turn of a conversation is about what its opening was about.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TOPICS: Final = 32
OTHER: Final = TOPICS
DAY_REQUESTS: Final = 50_000
DAY_SECONDS: Final = 86_400
_AT_ONCE: Final = 20
_STEP: Final = 500
_NEW: Final = ((OTHER, 0, 1), (0.6, 0.2, 0.2))


@dataclass(frozen=True)
class Setting:
    """How the shares swing over a day, how long conversations are, and what changes when."""

    swing: float = 0.0
    turns: float = 1.0
    mixed: float = 0.0
    changes_at: int = 0


@dataclass(frozen=True)
class Stream:
    """The topic of each request, and which of them open a conversation."""

    topics: NDArray[np.int64]
    opens: NDArray[np.bool_]


def drawn(source: np.random.Generator, setting: Setting, requests: int) -> Stream:
    """A world and so many requests in it."""
    topics = _topics(source, setting.swing, requests)
    is_new = source.random(requests) < setting.mixed
    is_new[: setting.changes_at] = False
    topics[is_new] = source.choice(_NEW[0], int(is_new.sum()), p=_NEW[1])
    if setting.turns == 1:
        return Stream(topics, np.ones(requests, bool))
    slots = source.integers(0, _AT_ONCE, requests)
    order = np.argsort(slots, kind="stable")
    opens = source.random(requests) < 1 / setting.turns
    opens[order[np.flatnonzero(np.diff(slots[order], prepend=-1))]] = True
    opening = np.maximum.accumulate(np.where(opens[order], np.arange(requests), 0))
    topics[order] = topics[order][opening]
    return Stream(topics, opens)


def _topics(source: np.random.Generator, swing: float, requests: int) -> NDArray[np.int64]:
    other = source.uniform(0.02, 0.06)
    shares = np.append(source.dirichlet(np.full(TOPICS, 2.0)) * (1 - other), other)
    if not swing:
        return source.choice(TOPICS + 1, requests, p=shares)
    phases = source.uniform(0, 2 * np.pi, TOPICS + 1)
    found = np.empty(requests, np.int64)
    for at in range(0, requests, _STEP):
        now = shares * (1 + swing * np.sin(2 * np.pi * at / DAY_REQUESTS + phases))
        size = min(_STEP, requests - at)
        found[at : at + size] = source.choice(TOPICS + 1, size, p=now / now.sum())
    return found
