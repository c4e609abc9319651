"""What is kept of the traffic, where a service asks for it: chosen by chance, redacted, then written.

Between a request and the volume stands memory of a fixed size: a volume that is slow or full loses
lines, which is counted, and no request ever waits for it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Generator
from typing import Final

from trimtab_serving.gateway.capturefiles import CaptureFiles
from trimtab_serving.gateway.exchange import Exchange
from trimtab_serving.gateway.kept import (
    MOST_CHARACTERS,
    Opinion,
    exchange_line,
    feedback_line,
    texts_of,
)
from trimtab_serving.gateway.said import Said
from trimtab_serving.gateway.signalmetrics import Pair, SignalMetrics

FLUSH_SECONDS: Final = 1.0
MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
# Redaction costs more than anything else that is done beside the path.
MOST_PER_SECOND: Final = 10

TOO_LARGE: Final = "too_large"
NOT_TEXT: Final = "not_text"
DROPPED: Final = "dropped"


class Capture:
    """Takes what was chosen and hands it to the files."""

    def __init__(
        self,
        files: CaptureFiles,
        metrics: SignalMetrics,
        percent: float,
        *,
        chance: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._files = files
        self._metrics = metrics
        self._share = percent / 100
        self._chance = chance
        self._wall = wall
        self._lines: list[bytes] = []
        self._bytes = 0
        self._second = 0
        self._in_second = 0

    def is_chosen(self) -> bool:
        """Whether the next exchange will be kept."""
        if self._chance() >= self._share:
            return False
        second = int(self._wall())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second <= MOST_PER_SECOND

    def exchange(self, exchange: Exchange, answer: Said) -> Generator[None, None, None]:
        """Redact an exchange in steps, and put it to what is written next."""
        texts = texts_of(exchange.content)
        if texts is None or not answer.text.strip():
            self._count(NOT_TEXT)
            return
        size = sum(len(text) for _, text in texts) + len(answer.text)
        is_cut = exchange.heard is not None and not exchange.heard.is_whole
        if is_cut or size > MOST_CHARACTERS:
            self._count(TOO_LARGE)
            return
        self._put((yield from exchange_line(exchange, answer, texts, int(self._wall()))))

    def feedback(self, nonce: str, pair: Pair, opinion: Opinion) -> bool:
        """Whether there is room for what somebody said."""
        return self._put(feedback_line(nonce, pair, opinion, int(self._wall())))

    def _put(self, line: bytes) -> bool:
        if self._bytes + len(line) > MOST_WAITING_BYTES:
            self._count(DROPPED)
            return False
        self._lines.append(line)
        self._bytes += len(line)
        return True

    async def run(self) -> None:
        """Write now and then until cancelled; what is left then is written last."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await asyncio.to_thread(self._flush, self._taken())
        finally:
            self._flush(self._taken())

    def _taken(self) -> list[bytes]:
        lines, self._lines, self._bytes = self._lines, [], 0
        return lines

    def _flush(self, lines: list[bytes]) -> None:
        outcome = self._files.write(lines)
        self._metrics.captured.labels(outcome).inc(len(lines))

    def _count(self, outcome: str) -> None:
        self._metrics.captured.labels(outcome).inc()
