"""HTTP/1.1 as API servers speak it, over connections that are kept.

What a general client does for a request of one kilobyte costs more than all the rest of it. So
httptools parses, and what is here says who waits for what. Nothing is decompressed or redirected,
and only a read is ever sent twice: of a write nobody but the server knows what became of it.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Never, cast
from urllib.parse import SplitResult, unquote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Less than servers and balancers wait before they end an idle connection.
KEPT_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 10.0
# The other family of addresses is tried beside the first when that takes so long.
SECOND_ADDRESS_SECONDS: Final = 0.25
HIGH_WATER_BYTES: Final = 2**20
_PORTS: Final = {"http": 80, "https": 443}
_WITHOUT_BODY: Final = frozenset({204, 304})
More = Callable[[], Awaitable[bytes]]
# Raises where a request must not be sent any more.
Guard = Callable[[], None]


class Broken(Exception):
    """There is no whole answer, and nobody knows what became of the request."""


@dataclass(frozen=True)
class Place:
    """Where the server is, and how one gets there."""

    url: str
    tls: ssl.SSLContext
    server_name: str | None = None
    proxy: str | None = None


@dataclass
class Answer:
    """What the server said; the body may still be on its way."""

    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the end of the connection says that the body is whole."""
        is_told = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not is_told and self.status not in _WITHOUT_BODY


class Connection(asyncio.Protocol):
    """One connection: one request at a time, and its answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.idle_since = 0.0
        self.is_used = self.has_heard = False
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._trouble: Exception | None = None
        self._stays = True
        self._begin()
        self._is_whole = True  # nothing was asked yet

    def _begin(self) -> None:
        self._answer = Answer()
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_head = self._is_whole = self._in_pieces = self.has_heard = False

    # What the asking side calls.

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._is_whole and self._stays and not self.transport.is_closing()

    @property
    def transport(self) -> asyncio.Transport:
        """What it goes over."""
        return cast("asyncio.Transport", self._transport)

    def send(self, request: bytes) -> None:
        """Begin; the answer to the request before must be whole."""
        self._begin()
        self.is_used = True
        self.transport.write(request)

    async def head(self) -> Answer:
        """Status and headers; `piece` reads the body."""
        self._in_pieces = True
        while not self._has_head:
            await self._news()
        return self._answer

    async def piece(self) -> bytes:
        """More of the body, once it is there; empty at its end."""
        while not self._pieces and not self._is_whole:
            await self._news()
        found = b"".join(self._pieces)
        self._pieces.clear()
        if self._size > HIGH_WATER_BYTES:
            self.transport.resume_reading()
        self._size = 0
        return found

    async def whole(self) -> Answer:
        """The answer with its body."""
        while not self._is_whole:
            await self._news()
        self._answer.body = b"".join(self._pieces)
        return self._answer

    async def _news(self) -> None:
        if self._trouble is not None:
            raise Broken(str(self._trouble)) from self._trouble
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, trouble: Exception) -> None:
        self._stays = False
        if not self._is_whole and self._trouble is None:
            self._trouble = trouble
            self._tell()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.has_heard = True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as fault:
            self._end(fault)
            self.transport.abort()

    def eof_received(self) -> None:
        if self._has_head and self._answer.ends_with_connection:
            self.on_message_complete()
        self._end(ConnectionResetError("the server ended the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the connection was closed"))
        if not self.gone.done():
            self.gone.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._is_whole:
            raise HttpParserError("the server said more than it was asked for")

    def on_status(self, status: bytes) -> None:
        self._answer.reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._has_head = self._answer.status >= 200
        self._stays = self._parser.should_keep_alive()
        if self._has_head and self._in_pieces:
            self._tell()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        if self._in_pieces:
            self._size += len(body)
            if self._size > HIGH_WATER_BYTES:
                self.transport.pause_reading()
            self._tell()

    def on_message_complete(self) -> None:
        if not self._has_head:  # 103 Early Hints and the like announce the real one
            self._answer = Answer()
            return
        self._is_whole = True
        self._tell()


class Wire:
    """The connections to one server: kept for a while, opened where there is none."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = urlsplit(place.url)
        self._proxy = urlsplit(place.proxy) if place.proxy else None
        self._kept: list[Connection] = []
        self._all: set[Connection] = set()
        self._prefix = self._url.path.rstrip("/")
        # Said, not left out: what stands in between may ask for compression where nobody has spoken.
        self._common = {"Host": self._url.netloc, "Accept-Encoding": "identity"}
        if self._proxy is not None and self._url.scheme == "http":
            self._prefix = place.url.rstrip("/")
            self._common |= _authorization(self._proxy)

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        guard: Guard | None = None,
    ) -> Answer:
        """One request and its whole answer; with nothing between `guard` and the sending."""
        request = self._request(method, target, headers, body)
        connection, answer = await self._begun(
            request, Connection.whole, is_read=method == "GET", guard=guard
        )
        self._keep(connection)
        return answer

    @asynccontextmanager
    async def stream(
        self, target: str, headers: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[tuple[Answer, More]]:
        """An answer, and what reads more of its body; TimeoutError where nothing comes for too long."""
        request = self._request("GET", target, headers, b"")
        async with asyncio.timeout(silence_seconds):
            connection, answer = await self._begun(request, Connection.head, is_read=True)

        async def more() -> bytes:
            async with asyncio.timeout(silence_seconds):
                return await connection.piece()

        try:
            yield answer, more
        finally:
            self._keep(connection)

    async def close(self) -> None:
        """End all conversations."""
        if self._all:
            for connection in self._all:
                connection.transport.abort()
            await asyncio.wait([connection.gone for connection in self._all])

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        told = {**self._common, **headers}
        if method != "GET":
            told["Content-Length"] = str(len(body))
        return _head(method, f"{self._prefix}{target}", told) + body

    async def _begun(
        self,
        request: bytes,
        until: Callable[[Connection], Awaitable[Answer]],
        *,
        is_read: bool,
        guard: Guard | None = None,
    ) -> tuple[Connection, Answer]:
        """The request, sent, and its answer as far as the stage says."""
        while True:
            connection = self._kept_one() or await self._opened()
            was_used = connection.is_used
            try:
                if guard is not None:
                    guard()
                connection.send(request)
                return connection, await until(connection)
            except BaseException as fault:
                connection.transport.abort()
                # The server may have ended it while it was idle.
                is_stale = isinstance(fault, Broken) and was_used and not connection.has_heard
                if not (is_read and is_stale):
                    raise

    def _kept_one(self) -> Connection | None:
        """The one that was used last, so that those which are not needed grow old."""
        self._end_old_ones(asyncio.get_running_loop().time() - KEPT_SECONDS)
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open:
                return connection
            connection.transport.abort()
        return None

    def _end_old_ones(self, limit: float) -> None:
        while self._kept and self._kept[0].idle_since <= limit:
            self._kept.pop(0).transport.abort()

    def _keep(self, connection: Connection) -> None:
        if connection.is_open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._kept.append(connection)
        else:
            connection.transport.abort()

    async def _opened(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connected()
        except (OSError, TimeoutError) as error:
            message = f"no connection to {self._url.netloc}: {str(error) or 'no answer in time'}"
            raise Broken(message) from error
        self._all.add(connection)
        connection.gone.add_done_callback(lambda _: self._forget(connection))
        return connection

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._kept:
            self._kept.remove(connection)

    async def _connected(self) -> Connection:
        tls = self._place.tls if self._url.scheme == "https" else None
        name = self._place.server_name or self._url.hostname
        if self._proxy is None:
            return await _to(self._url, tls, name)
        first = await _to(
            self._proxy,
            self._place.tls if self._proxy.scheme == "https" else None,
            self._proxy.hostname,
        )
        return first if tls is None else await self._through(first, self._proxy, tls, name)

    async def _through(
        self, tunnel: Connection, proxy: SplitResult, tls: ssl.SSLContext, name: str | None
    ) -> Connection:
        """A connection to the server behind the proxy."""
        host, port = _address(self._url)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        asked = _head("CONNECT", place, {"Host": place, **_authorization(proxy)})
        connection = Connection()
        try:
            tunnel.send(asked)
            answer = await tunnel.head()
            if answer.status != 200:
                _refuse(f"the proxy answered {answer.status} {answer.reason}")
            transport = await asyncio.get_running_loop().start_tls(
                tunnel.transport, connection, tls, server_hostname=name
            )
        except BaseException:
            tunnel.transport.abort()
            raise
        if transport is None:
            _refuse("the connection ended while TLS began")
        connection.connection_made(transport)
        return connection


async def _to(url: SplitResult, tls: ssl.SSLContext | None, name: str | None) -> Connection:
    if url.scheme not in _PORTS:
        _refuse(f"{url.scheme}:// cannot be used, only http:// and https://")
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection,
        *_address(url),
        ssl=tls,
        server_hostname=name if tls else None,
        happy_eyeballs_delay=SECOND_ADDRESS_SECONDS,
    )
    return connection


def _refuse(why: str) -> Never:
    raise OSError(why)


def _address(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or _PORTS[url.scheme]


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("there is a line break in an address, a name or a token")
    return f"{text}\r\n\r\n".encode("ascii")
