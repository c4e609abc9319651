"""What looks for drift in a stream of topics: the operator's own fold, and what others do.

Each says after which request it alarms, or None. All learn from the first 2,000 requests.
"""

from collections.abc import Callable

import numpy as np
from bench.drift.traffic import DAY_REQUESTS, DAY_SECONDS, OTHER, TOPICS, Stream
from evidently.legacy.calculations.stattests.text_content_drift_abs import (
    abs_text_content_drift_stat_test,
)
from evidently.legacy.core import ColumnType
from numpy.typing import NDArray
from pandas import Series
from river.drift import ADWIN, PageHinkley
from scipy.stats import ks_2samp

from trimtab_operator.domain.analysis import drift, signals
from trimtab_operator.domain.analysis.drift import Tally

Detector = Callable[[Stream], int | None]
REFERENCE = 2000
WINDOW = 500
_WORDS = 12
# As the gateway names them: what is near no topic is the operator's "other".
_NAMES = (*(str(topic) for topic in range(TOPICS)), signals.OTHER)


def trimtab(block: int, *, every_turn: bool = False) -> Detector:
    """The operator's state, folded block by block; openings alone count, unless told otherwise."""

    def detect(stream: Stream) -> int | None:
        state = drift.begun({"Topics": {str(topic): 1.0 for topic in range(TOPICS)}})
        for end in range(block, len(stream.topics) + 1, block):
            topics = stream.topics[end - block : end]
            counted = topics if every_turn else topics[stream.opens[end - block : end]]
            counts = np.bincount(counted, minlength=TOPICS + 1)
            tally = {_NAMES[topic]: int(n) for topic, n in enumerate(counts) if n}
            moment = end * DAY_SECONDS / DAY_REQUESTS
            state = drift.fold(state, [Tally(moment, {"Topics": tally})])
            if state.is_drifting:
                return end
        return None

    return detect


def psi(stream: Stream) -> int | None:
    """The population stability index of windows of 500 above 0.2."""

    def differs(window: NDArray[np.int64]) -> bool:
        before, now = (
            (np.bincount(part, minlength=TOPICS + 1) + 0.5) / (len(part) + 0.5 * (TOPICS + 1))
            for part in (stream.topics[:REFERENCE], window)
        )
        return bool(np.sum((now - before) * np.log(now / before)) > 0.2)

    return _windows(stream, differs)


def kolmogorov_smirnov(stream: Stream) -> int | None:
    """Kolmogorov and Smirnov's test of each topic's indicator, at 5 % by Bonferroni's correction."""
    reference = stream.topics[:REFERENCE]

    def differs(window: NDArray[np.int64]) -> bool:
        return any(
            ks_2samp(reference == topic, window == topic, method="asymp").pvalue
            < 0.05 / (TOPICS + 1)
            for topic in range(TOPICS + 1)
        )

    return _windows(stream, differs)


def adwin(stream: Stream) -> int | None:
    """River's ADWIN on whether a request is near no topic: it has to be told which signal moves."""
    return _one_by_one(stream, ADWIN())


def page_hinkley(stream: Stream) -> int | None:
    """River's Page-Hinkley on the same."""
    return _one_by_one(stream, PageHinkley())


def evidently_text(stream: Stream) -> int | None:
    """Evidently's drift of text content, as it is by default for so many texts.

    Texts of twelve words, six from a vocabulary of the topic's own and six that all share.
    """
    source = np.random.default_rng(int(stream.topics[:50].sum()))
    reference = _texts(source, stream.topics[:REFERENCE])
    test = abs_text_content_drift_stat_test

    def differs(window: NDArray[np.int64]) -> bool:
        found = test(reference, _texts(source, window), ColumnType.Text, test.default_threshold)
        return bool(found.drifted)

    return _windows(stream, differs)


def _texts(source: np.random.Generator, topics: NDArray[np.int64]) -> Series:
    own = source.integers(0, 50, (len(topics), _WORDS // 2))
    shared = source.integers(0, 300, (len(topics), _WORDS // 2))
    rows = zip(topics.tolist(), own.tolist(), shared.tolist(), strict=True)
    return Series(
        [
            " ".join([*(f"topic{t}word{w}" for w in mine), *(f"common{w}" for w in all_)])
            for t, mine, all_ in rows
        ]
    )


def _windows(stream: Stream, differs: Callable[[NDArray[np.int64]], bool]) -> int | None:
    for end in range(REFERENCE + WINDOW, len(stream.topics) + 1, WINDOW):
        if differs(stream.topics[end - WINDOW : end]):
            return end
    return None


def _one_by_one(stream: Stream, detector: ADWIN | PageHinkley) -> int | None:
    for at, is_other in enumerate((stream.topics == OTHER).tolist()):
        detector.update(float(is_other))
        if detector.drift_detected and at >= REFERENCE:
            return at + 1
    return None
