"""A server whose answers are written down byte for byte, for tests of what reads them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int  # which of the server's connections it came by, from 1


Answering = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What was asked of it, and by how many connections."""

    answering: Answering
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # a connection, by the other side
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        number = self.connections
        with suppress(ConnectionError):
            while not writer.is_closing():
                request = await _request(reader, number)
                if request is None:
                    break
                self.requests.append(request)
                await self.answering(request, writer)
        self.ended.set()
        writer.close()


async def _request(reader: asyncio.StreamReader, connection: int) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode().split("\r\n")[:-2]
    headers = dict(each.split(": ", 1) for each in rest)
    body = await reader.readexactly(int(headers.get("Content-Length", "0")))
    return Request(line, headers, body, connection)


@asynccontextmanager
async def serving(answering: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    found = Server(answering)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for writer in found.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def says(*parts: bytes, ends: bool = False) -> Answering:
    """The same answer to everybody, in parts that arrive one by one; then, if wanted, the end."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if ends:
            writer.close()

    return answer
