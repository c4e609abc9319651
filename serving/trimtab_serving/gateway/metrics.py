"""What the gateway tells Prometheus, with as many series as the routing table allows and no more.

Model names come from users, so only those in the table become labels. Series of versions that left
the table are dropped after a while; their last values have been scraped by then.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trimtab_serving.gateway.signalmetrics import SignalMetrics

FIRST_TOKEN_BUCKETS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 30)
DURATION_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
MOST_PAIRS: Final = 256

Pair = tuple[str, str]


@dataclass(slots=True)
class Series:
    """The series of one model and version, found once and kept: looking them up costs each request."""

    duration: Histogram
    first_token: Histogram
    prompt_tokens: Counter
    completion_tokens: Counter
    requests: dict[int, Counter]


class CallerMetrics:
    """What is told of keys: an id that shows no key, of those alone that are unusual now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._unusual = Gauge(
            "trimtab_gateway_unusual_keys",
            "1 for each key that asks for far more than it used to, or for what is declined; at most 32.",
            ("key", "reason"),
            registry=registry,
        )
        self._throttled = Counter(
            "trimtab_gateway_throttled",
            "Requests that were answered with 429: limit, or unusual where an unusual key is slowed.",
            ("reason",),
            registry=registry,
        )

    def tell(self, unusual: Iterable[tuple[str, str]]) -> None:
        self._unusual.clear()
        for key, reason in unusual:
            self._unusual.labels(key, reason).set(1)

    def throttled(self, reason: str) -> None:
        self._throttled.labels(reason).inc()


class GatewayMetrics:
    """All metrics of the gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("model", "version")
        self._requests = Counter(
            "trimtab_gateway_requests",
            "Requests by model, version that answered and HTTP status; 499: the client went away.",
            (*names, "code"),
            registry=self.registry,
        )
        self._duration = Histogram(
            "trimtab_gateway_request_duration_seconds",
            "From the request's last byte to the answer's last.",
            names,
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "trimtab_gateway_time_to_first_token_seconds",
            "From the request's last byte to the first piece of a streamed answer.",
            names,
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "trimtab_gateway_tokens",
            "Tokens, where the answer told their number.",
            (*names, "kind"),
            registry=self.registry,
        )
        self._retries = Counter(
            "trimtab_gateway_retries",
            "Requests sent to another engine because the first had not begun to answer.",
            registry=self.registry,
        )
        self._pairs: OrderedDict[Pair, Series] = OrderedDict()
        self.signals = SignalMetrics(self.registry, FIRST_TOKEN_BUCKETS)
        self.callers = CallerMetrics(self.registry)
        self._tellers: list[Callable[[], None]] = []

    def of(self, model: str, version: str) -> Series:
        """The series of a pair; `model` must be one of the table, or empty."""
        pair = (model, version)
        series = self._pairs.get(pair)
        if series is None:
            series = self._pairs[pair] = Series(
                duration=self._duration.labels(*pair),
                first_token=self._first_token.labels(*pair),
                prompt_tokens=self._tokens.labels(*pair, "prompt"),
                completion_tokens=self._tokens.labels(*pair, "completion"),
                requests={},
            )
        return series

    def count(self, model: str, version: str, code: int) -> None:
        series = self.of(model, version)
        counter = series.requests.get(code)
        if counter is None:
            counter = series.requests[code] = self._requests.labels(model, version, str(code))
        counter.inc()

    def count_retry(self) -> None:
        self._retries.inc()

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(f"trimtab_gateway_{name}", help_text, registry=self.registry).set_function(value)

    def keep(self, wanted: set[Pair]) -> None:
        """Forget what has left the table, oldest first, when there is too much of it."""
        for pair in [pair for pair in self._pairs if pair not in wanted and pair[0]]:
            if len(self._pairs) <= MOST_PAIRS:
                return
            self._forget(pair)

    def _forget(self, pair: Pair) -> None:
        series = self._pairs.pop(pair)
        for code in series.requests:
            self._requests.remove(*pair, str(code))
        for kind in ("prompt", "completion"):
            self._tokens.remove(*pair, kind)
        for metric in (self._duration, self._first_token):
            metric.remove(*pair)
        self.signals.forget(pair)

    def before_scrapes(self, teller: Callable[[], None]) -> None:
        """What brings its series up to date when they are read."""
        self._tellers.append(teller)

    def exposition(self) -> bytes:
        for teller in self._tellers:
            teller()
        return generate_latest(self.registry)
