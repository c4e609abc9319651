"""Small pieces of raw ASGI that the hot paths of both programs share."""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

# A client that never ends its body must not hold memory for ever.
BODY_SECONDS: Final = 60.0
# What is read and thrown away of a body that is too large, so that its sender gets to read why.
DISCARD_BYTES: Final = 64 * 1024 * 1024


class BodyTooLarge(Exception):
    """The body is above the limit."""


class BodyIncomplete(Exception):
    """The client went away, or was too slow, before its body was there."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request."""
    if declared_length(scope) > limit:
        await _discard(receive)
        raise BodyTooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        raise BodyIncomplete
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _rest(body, message, receive, limit)
    except TimeoutError as fault:
        raise BodyIncomplete from fault


async def _rest(body: bytes, message: Message, receive: Receive, limit: int) -> bytes:
    pieces = [body]
    size = len(body)
    while True:
        if size > limit:
            if message.get("more_body", False):
                await _discard(receive)
            raise BodyTooLarge
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])


async def _discard(receive: Receive) -> None:
    left = DISCARD_BYTES
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return


def declared_length(scope: Scope) -> int:
    value = header(scope, b"content-length")
    return int(value) if value is not None and value.isdigit() else 0


def header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def answer(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    """A whole response; its length is added."""
    wire = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": wire})
    await send({"type": "http.response.body", "body": body})


class ClientWatch:
    """Cancels the request's task when its client goes away.

    Whatever the task waits for then ends, and with it the connection to the engine, which is how an
    engine learns to stop generating. `gone` tells this cancellation from any other.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._request: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> Self:
        self._request = asyncio.current_task()
        self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        request, self._request = self._request, None
        if self._watch is not None and not self._watch.done():
            self._watch.cancel()
        if self.gone and request is not None:
            request.uncancel()
            return kind is asyncio.CancelledError
        return False

    async def _wait(self) -> None:
        message: Mapping[str, Any] = {}
        while message.get("type") != "http.disconnect":
            message = await self._receive()
        if self._request is not None:
            self.gone = True
            self._request.cancel()
