"""An HTTP/1.1 client for one address that adds as little as it can.

Every request of a user passes it twice, in the gateway and in the agent, so it does only what that
path needs: POST with the whole body at hand, answers in pieces, kept connections. A failure says
whether anything of the answer had arrived, because only before that may a request go elsewhere.
Nothing about models or OpenAI may enter here.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, cast

import httptools

Headers = Iterable[tuple[bytes, bytes]]

# Enough to keep a fast engine busy; above it a slow reader slows the engine instead of filling memory.
HIGH_WATER_BYTES: Final = 256 * 1024
SWEEP_SECONDS: Final = 1.0


class UpstreamError(Exception):
    """The exchange did not end well."""


class Unreachable(UpstreamError):
    """No connection, or it was lost before the first byte of an answer: another one may be asked."""


class Broken(UpstreamError):
    """The answer had begun and will not end, or it was given up: asking again cannot be right."""


class _Until(IntEnum):
    HEAD = 1
    PIECE = 2
    END = 3


class Connection(asyncio.Protocol):
    """One connection and the exchange that runs on it; `close` gives it back."""

    def __init__(self, upstream: "Upstream") -> None:
        self._upstream = upstream
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._until = _Until.HEAD
        self._error: str | None = None
        self._paused = False
        self._given_up = False
        self.lost = False
        self.touched = 0.0
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.is_complete = False
        self.keeps_alive = False
        self._pieces: list[bytes] = []
        self._size = 0

    # What the exchange's owner calls.

    async def send(self, head: bytes, body: bytes) -> None:
        """Write a request and wait for the head of its answer."""
        if self.lost or self._transport is None:
            raise Unreachable(self._error or "the connection was closed")
        self._begin()
        self._transport.writelines((head, body))
        await self._wait(_Until.HEAD)

    async def read(self) -> bytes:
        """What has arrived of the body since the last call, waiting for some; empty at its end."""
        if not self._pieces and not self.is_complete:
            await self._wait(_Until.PIECE)
        return self._take()

    async def read_all(self) -> bytes:
        """The rest of the body."""
        if not self.is_complete:
            self._resume()
            await self._wait(_Until.END)
        return self._take()

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def abort(self, why: str) -> None:
        """Drop the connection; whoever waits for the answer is told so."""
        self._error = self._error or why
        self._given_up = True
        if self._transport is not None and not self.lost:
            self._transport.abort()
        self.lost = True
        self._wake()

    def close(self) -> None:
        """Keep the connection for the next request, or drop it when this one is not over."""
        if not self.lost and not (self.is_complete and self.keeps_alive):
            self.abort("the exchange was given up")
        self._upstream.release(self)

    # Waiting.

    async def _wait(self, until: _Until) -> None:
        self.touched = self._upstream.loop.time()
        while not self._reached(until):
            if self.lost:
                reason = self._error or "the connection was lost"
                raise Broken(reason) if self.has_head or self._given_up else Unreachable(reason)
            self._until = until
            self._waiter = self._upstream.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _reached(self, until: _Until) -> bool:
        if self.is_complete:
            return True
        if until is _Until.PIECE:
            return bool(self._pieces)
        return until is _Until.HEAD and self.has_head

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces = self._pieces
        self._resume()
        if not pieces:
            return b""
        self._pieces = []
        self._size = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self.lost:
            self._paused = False
            self._transport.resume_reading()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # TCP gives nothing else, but uvloop's transports do not say so by their class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.touched = self._upstream.loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self.abort(f"the answer is no HTTP: {fault}")
            return
        if self._waiter is not None and self._reached(self._until):
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._error = self._error or (str(exc) if exc else "the peer closed the connection")
        self._wake()
        self._upstream.forget(self)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER_BYTES and self._until is not _Until.END and not self._paused:
            self._paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self.has_head:  # 100 Continue and the like announce the real one
            self.headers = []
            return
        self.is_complete = True
        self.keeps_alive = self._parser.should_keep_alive()


class Upstream:
    """One address and the connections to it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        idle_seconds: float = 30.0,
        answer_seconds: float = 600.0,
        connect_seconds: float = 2.0,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._host = host
        self._port = port
        self._host_header = f"{host}:{port}".encode("ascii")
        self._idle_seconds = idle_seconds
        self._answer_seconds = answer_seconds
        self._connect_seconds = connect_seconds
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(self, path: bytes, headers: Headers, body: bytes) -> Connection:
        """Send a request; returns when the head of the answer is there. The caller must `close`."""
        lines = [b"POST ", path, b" HTTP/1.1\r\nhost: ", self._host_header]
        for name, value in headers:
            lines += (b"\r\n", name, b": ", value)
        lines.append(b"\r\ncontent-length: %d\r\n\r\n" % len(body))
        head = b"".join(lines)
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), head, body)
            except Unreachable:
                continue  # a kept connection may have been closed meanwhile: that says nothing yet
        return await self._exchange(await self._connect(), head, body)

    async def _exchange(self, connection: Connection, head: bytes, body: bytes) -> Connection:
        try:
            await connection.send(head, body)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _connect(self) -> Connection:
        connection = Connection(self)
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self.loop.create_connection(lambda: connection, self._host, self._port)
        except TimeoutError as fault:
            raise Unreachable(
                f"no connection to {self._host}:{self._port} within {self._connect_seconds:g} s"
            ) from fault
        except OSError as fault:
            raise Unreachable(f"no connection to {self._host}:{self._port}: {fault}") from fault
        self._all.add(connection)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        return connection

    def release(self, connection: Connection) -> None:
        if not connection.lost:
            connection.touched = self.loop.time()
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Drop the connections that carry nothing; the others end with their exchange."""
        while self._idle:
            self._idle.pop().abort("the pool was closed")
        self._idle_seconds = 0.0

    def _sweep(self) -> None:
        """One timer for all connections: timers of their own would cost each request."""
        now = self.loop.time()
        idle = set(self._idle)
        for connection in list(self._all):
            if connection in idle:
                if now - connection.touched >= self._idle_seconds:
                    self._idle.remove(connection)
                    connection.abort("idle for too long")
            elif now - connection.touched >= self._answer_seconds:
                connection.abort(f"nothing came for {self._answer_seconds:g} s")
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep) if self._all else None
