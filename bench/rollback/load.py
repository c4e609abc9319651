"""Callers at every gateway: so many requests a second, whether answers come or not."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from bench.rollback.engine import PIECES

STREAM_EVERY: Final = 10
SECONDS: Final = 30.0
QUESTION: Final = {"messages": [{"role": "user", "content": "What does os.path.isdir(s) do?"}]}


@dataclass
class Load:
    """What was asked, and what was wrong with the answers."""

    urls: Sequence[str]
    per_second: float
    requests: int = 0
    streams: int = 0
    failures: list[str] = field(default_factory=list)
    # The gateways through which an engine has answered.
    answers_at: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask for as long as the context lasts, and wait for the last answers."""
        is_over = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._ask(session, tasks, is_over))
            try:
                yield
            finally:
                is_over.set()

    async def _ask(
        self, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup, is_over: asyncio.Event
    ) -> None:
        due = time.monotonic()
        for number, url in enumerate(itertools.cycle(self.urls)):
            if is_over.is_set():
                return
            is_stream = number % STREAM_EVERY == 0
            tasks.create_task(self._one(session, url, is_stream=is_stream))
            due += 1 / self.per_second
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _one(self, session: aiohttp.ClientSession, url: str, *, is_stream: bool) -> None:
        self.requests += 1
        self.streams += is_stream
        body: dict[str, Any] = {"model": "bot", "stream": is_stream, **QUESTION}
        limit = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with session.post(
                f"{url}/v1/chat/completions", json=body, timeout=limit
            ) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        if answer.status != 200:
            self.failures.append(f"{answer.status}: {text[:200]}")
            return
        self.answers_at.add(url)
        if is_stream and not _is_whole(text):
            version = answer.headers.get("x-trimtab-version", "")
            self.failures.append(f"a stream of {version} ended early: {text[-200:]}")


def _is_whole(text: str) -> bool:
    """A stream that ends where it began: every piece, the end, and no error on the way."""
    return text.count('"choices"') == PIECES and text.rstrip().endswith("data: [DONE]")
