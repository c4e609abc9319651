"""One HTTP conversation with the API server; its refusals become our errors.

Where to and as whom is said by `credentials`, the connection is `wire`; bodies stay plain
dictionaries, because turning each into typed objects and back costs more than the request.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from trimtab_api import names
from trimtab_operator.adapters import credentials
from trimtab_operator.adapters.credentials import Credentials
from trimtab_operator.adapters.fence import Fence
from trimtab_operator.adapters.wire import Answer, Broken, Guard, Wire
from trimtab_operator.domain.errors import (
    ClusterError,
    ClusterUnreachable,
    Conflict,
    Forbidden,
    Gone,
    Refused,
)
from trimtab_operator.domain.manifests import Manifest, get

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
REQUEST_SECONDS: Final = 30.0
LARGE_BYTES: Final = 100_000
# Longer than bookmarks are apart where they come; for a kind without changes they may stay away.
WATCH_SILENCE_SECONDS: Final = 100.0


class AlreadyThere(Conflict):
    """An object of that name exists."""


class FieldsTaken(Conflict):
    """Somebody else manages fields that were applied."""


class Expired(ClusterError):
    """The resource version is too old: list again."""


class Api:
    """A connection to the API server."""

    def __init__(self, known: Credentials, wire: Wire, fence: Fence | None = None) -> None:
        self._credentials = known
        self._wire = wire
        self._fence = fence

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> "Api":
        """Inside a pod by its service account, else by kubeconfig."""
        known = await credentials.found(kubeconfig)
        return cls(known, Wire(known.place))

    def fenced(self, fence: Fence) -> "Api":
        """The same connection, over which writes go only while the fence is open."""
        return Api(self._credentials, self._wire, fence)

    async def close(self) -> None:
        """End all conversations."""
        await self._wire.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        """One request and its answer; raises NotLeader in place of a write behind the fence."""
        asked = (method, path, query, body, content_type)
        if method == "GET" or self._fence is None:
            return await self._request(*asked)
        async with self._fence.write():
            return await self._request(*asked, self._fence.check)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
        guard: Guard | None = None,
    ) -> Manifest:
        headers = await self._headers()
        sent = b""
        if body is not None:
            headers["Content-Type"] = content_type
            sent = orjson.dumps(body)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._wire.ask(method, _target(path, query), headers, sent, guard)
            if answer.status >= 300:
                raise _error(method, path, answer, answer.body)
            return _content(answer.body)
        except (Broken, TimeoutError, ValueError) as error:
            message = f"{method} {path}: {str(error) or 'no answer in time'}"
            raise ClusterUnreachable(message) from error

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Manifest]:
        """Events of a watch until the server ends it.

        Silence ends it too: nobody can tell a quiet kind from a server that has gone away.
        """
        target = _target(path, {**query, "watch": "1", "allowWatchBookmarks": "true"})
        headers = await self._headers()
        try:
            async with self._wire.stream(target, headers, WATCH_SILENCE_SECONDS) as (answer, more):
                if answer.status >= 300:
                    raise _error("WATCH", path, answer, await more())
                async for line in _lines(more):
                    event: Manifest = orjson.loads(line)
                    if event.get("type") == "ERROR":
                        raise _watch_error(path, event.get("object", {}))
                    yield event
        except TimeoutError:
            return
        except (Broken, ValueError) as error:
            raise ClusterUnreachable(f"WATCH {path}: {error}") from error

    async def _headers(self) -> dict[str, str]:
        """What every request carries; the token may be another one each time."""
        headers = {"Accept": JSON, "User-Agent": names.FIELD_MANAGER}
        authorization = await self._credentials.authorization()
        if authorization:
            headers["Authorization"] = authorization
        return headers


def _content(text: bytes) -> Manifest:
    content: Manifest
    if len(text) < LARGE_BYTES:
        content = orjson.loads(text)
        return content
    # A page of a list is tens of thousands of dictionaries and not one cycle: the collector would
    # look through all of them again and again while they are being made.
    gc.disable()
    try:
        content = orjson.loads(text)
    finally:
        gc.enable()
    return content


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{_encoded(tuple(query.items()))}" if query else path


@lru_cache(maxsize=64)  # writes always say the same
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)


async def _lines(more: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """The body's lines; a last one that was not ended, too."""
    begun: list[bytes] = []
    while piece := await more():
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield b"".join((*begun, line))
            begun.clear()
        if rest:
            begun.append(rest)
    if begun:
        yield b"".join(begun)


def _watch_error(path: str, status: Manifest) -> ClusterError:
    message = f"WATCH {path}: {status.get('message', 'ended by an error')}"
    return Expired(message) if status.get("code") == 410 else ClusterUnreachable(message)


def _error(method: str, path: str, answer: Answer, text: bytes) -> ClusterError:
    try:
        content: Any = orjson.loads(text)
    except ValueError:
        content = text[:512].decode(errors="replace")
    status: dict[str, Any] = content if isinstance(content, dict) else {"message": str(content)}
    message = f"{method} {path}: {status.get('message') or answer.reason}"
    reason = status.get("reason", "")
    causes = {cause.get("reason") for cause in get(status, "details", "causes", default=[])}
    if answer.status == 404 or "NamespaceTerminating" in causes:
        return Gone(message)
    if answer.status == 409:
        if reason == "AlreadyExists":
            return AlreadyThere(message)
        return FieldsTaken(message) if "FieldManagerConflict" in causes else Conflict(message)
    if answer.status == 410:
        return Expired(message)
    if answer.status == 403:
        return Forbidden(message)
    if answer.status in {400, 405, 413, 415, 422}:
        return Refused(message)
    return ClusterUnreachable(message, after=_retry_after(answer))


def _retry_after(answer: Answer) -> timedelta | None:
    value = answer.headers.get("retry-after", "")
    return timedelta(seconds=min(int(value), 300)) if value.isdigit() else None
