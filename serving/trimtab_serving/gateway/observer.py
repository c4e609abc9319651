"""Looks at exchanges beside the path of requests, in small steps, and drops what it cannot keep up with.

Everything runs on the one thread that requests run on, because a second one would hold the
interpreter for milliseconds at a time; so the work is cut into steps, and requests go first.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol

from trimtab_api import features
from trimtab_api.features import TopicModel
from trimtab_serving.gateway import said
from trimtab_serving.gateway.exchange import Exchange
from trimtab_serving.gateway.said import Said
from trimtab_serving.gateway.signalmetrics import SignalMetrics
from trimtab_serving.gateway.signals import buckets_of, prompt_of

logger = logging.getLogger(__name__)

MOST_WAITING: Final = 1024
MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
# A whole answer is parsed in one step; one with the log-probabilities of thousands of tokens would
# hold up requests for tens of milliseconds.
LARGEST_BODY_BYTES: Final = 512 * 1024
# At most 300 us in a row, and a twentieth of the time.
SLICE_SECONDS: Final = 0.0003
REST_SECONDS: Final = 0.006

Steps = Generator[None, None, None]


class Topics(Protocol):
    """Where the topics of a version come from."""

    def of(self, digest: str) -> TopicModel | None: ...


class Keep(Protocol):
    """Where exchanges go that were chosen to be kept."""

    def exchange(self, exchange: Exchange, answer: Said) -> Steps: ...


class Callers(Protocol):
    """Who wants to know whose answers decline."""

    def answered(self, name: bytes, *, is_declined: bool) -> None: ...


class Observer:
    """A queue of finished exchanges and the task that works it off."""

    def __init__(
        self,
        metrics: SignalMetrics,
        topics: Topics,
        keep: Keep | None,
        callers: Callers | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._metrics = metrics
        self._topics = topics
        self._keep = keep
        self._callers = callers
        self._clock = clock
        self._waiting: deque[Exchange] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    def offer(self, exchange: Exchange) -> None:
        """Take an exchange, or drop it and count that; never waits."""
        size = exchange.size
        is_too_much = self._bytes + size > MOST_WAITING_BYTES
        if is_too_much or len(self._waiting) >= MOST_WAITING or _is_large(exchange):
            self._metrics.dropped.inc()
            return
        self._bytes += size
        self._waiting.append(exchange)
        self._wake.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._work_off()

    async def _work_off(self) -> None:
        began = self._clock()
        while self._waiting:
            exchange = self._waiting.popleft()
            self._bytes -= exchange.size
            for _ in self._guarded(exchange):
                if self._clock() - began > SLICE_SECONDS:
                    await asyncio.sleep(REST_SECONDS)
                    began = self._clock()
        await asyncio.sleep(REST_SECONDS)

    def _guarded(self, exchange: Exchange) -> Steps:
        """The steps of one exchange; one that cannot be looked at must not end the looking."""
        try:
            yield from self._look(exchange)
        except Exception:  # whatever a text holds: an end of this task is the end of the gateway
            self._metrics.dropped.inc()
            logger.exception("an exchange could not be looked at")
        yield

    def _look(self, exchange: Exchange) -> Steps:
        answer = yield from _answer_of(exchange)
        if answer is None:
            return
        pair, metrics = (exchange.model, exchange.version), self._metrics
        metrics.answers.add(pair, answer.finish)
        is_refusal = features.is_refusal(answer.text)
        if is_refusal:
            metrics.refusals.add(pair)
        if self._callers is not None:
            is_declined = is_refusal or answer.is_filtered
            self._callers.answered(exchange.caller, is_declined=is_declined)
        if exchange.is_unit:
            metrics.unit_answers.add(pair, answer.finish)
            if is_refusal:
                metrics.unit_refusals.add(pair)
        yield
        if exchange.is_opening:
            yield from self._count_signals(exchange, answer)
        if exchange.nonce is not None and self._keep is not None:
            yield from self._keep.exchange(exchange, answer)

    def _count_signals(self, exchange: Exchange, answer: Said) -> Steps:
        prompt = prompt_of(exchange.content)
        if prompt is None:
            return
        pair, topics = (exchange.model, exchange.version), self._topics.of(exchange.digest)
        self._metrics.signal_requests.add(pair)
        for signal, bucket in buckets_of(prompt, answer, topics):
            self._metrics.signal.add(pair, signal, bucket)
            yield


def _is_large(exchange: Exchange) -> bool:
    return exchange.body is not None and len(exchange.body) > LARGEST_BODY_BYTES


def _answer_of(exchange: Exchange) -> Generator[None, None, Said | None]:
    if exchange.body is not None:
        return said.of_body(exchange.body)
    if exchange.heard is None:
        return None
    return (yield from said.of_stream(exchange.heard.pieces, is_whole=exchange.heard.is_whole))
