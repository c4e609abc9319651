"""What the gateway tells of the content of requests and answers: counts, and never a text.

Every label is of a fixed set, model and version are of the routing table, so that nothing that a
user sends makes a series.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

PAIR: Final = ("model", "version")
# From 500 tokens a second to 2, each bound about a third above the one before.
TOKEN_BUCKETS: Final = (
    *(0.002, 0.003, 0.004, 0.006, 0.008, 0.011, 0.015, 0.02, 0.027, 0.036, 0.048),
    *(0.064, 0.085, 0.115, 0.15, 0.2, 0.27, 0.36, 0.5),
)

Pair = tuple[str, str]


class _Counts:
    """A counter by model, version and further labels; remembers its series, to forget them."""

    def __init__(
        self, name: str, help_text: str, registry: CollectorRegistry, *labels: str
    ) -> None:
        self._counter = Counter(
            f"trimtab_gateway_{name}", help_text, (*PAIR, *labels), registry=registry
        )
        self._children: dict[Pair, dict[tuple[str, ...], Counter]] = {}

    def add(self, pair: Pair, *labels: str) -> None:
        children = self._children.get(pair)
        if children is None:
            children = self._children[pair] = {}
        child = children.get(labels)
        if child is None:
            child = children[labels] = self._counter.labels(*pair, *labels)
        child.inc()

    def forget(self, pair: Pair) -> None:
        for labels in self._children.pop(pair, {}):
            self._counter.remove(*pair, *labels)


class _Times:
    """A histogram by model and version; remembers its series, to forget them."""

    def __init__(
        self, name: str, help_text: str, registry: CollectorRegistry, buckets: Sequence[float]
    ) -> None:
        self._histogram = Histogram(
            f"trimtab_gateway_{name}", help_text, PAIR, buckets=buckets, registry=registry
        )
        self._children: dict[Pair, Histogram] = {}

    def observe(self, pair: Pair, seconds: float) -> None:
        child = self._children.get(pair)
        if child is None:
            child = self._children[pair] = self._histogram.labels(*pair)
        child.observe(seconds)

    def forget(self, pair: Pair) -> None:
        if self._children.pop(pair, None) is not None:
            self._histogram.remove(*pair)


class SignalMetrics:
    """Series about answers, openings, units, feedback and what was kept of them."""

    def __init__(self, registry: CollectorRegistry, first_token_buckets: Sequence[float]) -> None:
        def counts(name: str, help_text: str, *labels: str) -> _Counts:
            return _Counts(name, help_text, registry, *labels)

        self.answers = counts(
            "answers",
            "Complete answers by why they ended; empty: no text and no tool call.",
            "finish",
        )
        self.refusals = counts("refusals", "Complete answers that begin by declining.")
        self.signal = counts(
            "signal",
            "Requests that open a conversation, by what they and their answers are like; and ratings.",
            "signal",
            "bucket",
        )
        self.signal_requests = counts(
            "signal_requests", "Requests that open a conversation and were looked at."
        )
        self.units = counts(
            "units",
            "Requests of which no two in a few seconds are of one user, by HTTP status.",
            "code",
        )
        self.unit_answers = counts(
            "unit_answers", "Complete answers to such requests by why they ended.", "finish"
        )
        self.unit_refusals = counts(
            "unit_refusals", "Complete answers to such requests that begin by declining."
        )
        self.feedback = counts("feedback", "Ratings of responses, each response once.", "rating")
        self.unit_first_token = _Times(
            "unit_first_token_seconds",
            "Time to first token of such requests, where the answer was streamed.",
            registry,
            first_token_buckets,
        )
        self.unit_token = _Times(
            "unit_token_seconds",
            "Mean time from one token to the next of such streamed answers, where there were enough.",
            registry,
            TOKEN_BUCKETS,
        )
        self.dropped = Counter(
            "trimtab_gateway_signals_dropped",
            "Exchanges that were not looked at because too many waited; no request waits for it.",
            registry=registry,
        )
        self.captured = Counter(
            "trimtab_gateway_captured",
            "Exchanges and feedback chosen to be kept, by what became of them.",
            ("outcome",),
            registry=registry,
        )
        self.feedback_refused = Counter(
            "trimtab_gateway_feedback_refused",
            "Feedback that was not taken, by why.",
            ("reason",),
            registry=registry,
        )

    def forget(self, pair: Pair) -> None:
        for each in (
            self.answers,
            self.refusals,
            self.signal,
            self.signal_requests,
            self.units,
            self.unit_answers,
            self.unit_refusals,
            self.feedback,
            self.unit_first_token,
            self.unit_token,
        ):
            each.forget(pair)
