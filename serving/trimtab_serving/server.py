"""Runs ASGI apps on ports until the pod is told to stop, and then lets answers finish.

On SIGTERM the program says at once that it is not ready, goes on answering for a moment because
others learn late that it is going, then stops listening and waits for what it has begun.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from trimtab_serving.settings import Stopping

logger = logging.getLogger(__name__)

# Longer than a client, a load balancer or a gateway keeps an unused connection: who closes first
# must be the side that sends requests, or one of them meets a closing connection.
KEEP_ALIVE_SECONDS = 120


class Lifecycle:
    """Whether this program is on its way out; whoever answers readiness looks here."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._was_ready = False

    def told(self, unready: Callable[[], str | None]) -> Callable[[], str | None]:
        """What readiness is answered, noted: whoever hears "ready" may send requests from then on."""

        def answer() -> str | None:
            reason = unready()
            self._was_ready = self._was_ready or reason is None
            return reason

        return answer

    @property
    def was_ready(self) -> bool:
        """Whether anybody was ever told that this program is ready."""
        return self._was_ready

    @property
    def is_draining(self) -> bool:
        return self._stop.is_set()

    def on_drain(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def drain(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            for listener in self._listeners:
                listener()

    async def draining(self) -> None:
        await self._stop.wait()


@dataclass(frozen=True, slots=True)
class Listener:
    app: ASGIApp
    host: str
    port: int


class _Server(uvicorn.Server):
    """A server that leaves signals to us: several of them share one program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def server_of(listener: Listener, finish_seconds: float) -> uvicorn.Server:
    """The server of one port; signals are not its business."""
    config = uvicorn.Config(
        listener.app,
        host=listener.host,
        port=listener.port,
        http="httptools",
        ws="none",
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(finish_seconds)),
        backlog=2048,
    )
    return _Server(config)


async def serve(
    public: Sequence[Listener],
    admin: Sequence[Listener],
    background: Sequence[Callable[[], Awaitable[None]]],
    lifecycle: Lifecycle,
    stopping: Stopping,
) -> None:
    """Run until told to stop. The admin ports answer to the end, so that the end can be watched.

    A program that was never ready is nobody's address yet, and owes no notice.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifecycle.drain)
    doors = [server_of(listener, stopping.finish_seconds) for listener in public]
    windows = [server_of(listener, 2) for listener in admin]
    servers = [asyncio.create_task(server.serve()) for server in (*doors, *windows)]
    helpers = [asyncio.create_task(_watched(work)) for work in background]
    _quiet_collector()
    try:
        await _until(lifecycle.draining(), [*servers, *helpers])
        notice_seconds = stopping.notice_seconds if lifecycle.was_ready else 0.0
        logger.info("told to stop: unready now, deaf in %.0f s", notice_seconds)
        await asyncio.sleep(notice_seconds)
    finally:
        for server in doors:
            server.should_exit = True
        await asyncio.gather(*servers[: len(doors)], return_exceptions=True)
        for server in windows:
            server.should_exit = True
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*servers, *helpers, return_exceptions=True)


async def _watched(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _until(told: Awaitable[None], tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for the word to stop; a part that ends by itself ends the program with its error."""
    word = asyncio.ensure_future(told)
    done, _ = await asyncio.wait([word, *tasks], return_when=asyncio.FIRST_COMPLETED)
    word.cancel()
    for task in done:
        if task is not word:
            task.result()
            raise RuntimeError("a part of the program ended by itself")


def _quiet_collector() -> None:
    """Collections in the middle of a request are what its slowest percent waits for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """The program's event loop, with logs on stderr in one line each."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    import uvloop  # noqa: PLC0415 - programs only: tests run on the standard loop as well

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(main))


async def _main(main: Callable[[], Awaitable[None]]) -> None:
    await main()
