"""The way of users' requests into the engine: two paths, and nothing else of vLLM's API.

vLLM's own server would let everybody load adapters, read files and stop it; it listens inside the
pod only. The gateway names the engine's model in a header, so that nothing is parsed here.
"""

import logging
from collections.abc import Callable

from pydantic_core import from_json
from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab_serving import asgi, openai, wire
from trimtab_serving.agent.use import Use
from trimtab_serving.openai import ApiError
from trimtab_serving.upstream import Broken, Connection, Unreachable, Upstream

logger = logging.getLogger(__name__)

ELSEWHERE = (wire.ELSEWHERE_HEADER, b"1")


class Proxy:
    """ASGI application of the paths that generate."""

    def __init__(
        self,
        engine: Upstream,
        use: Use,
        *,
        serves: Callable[[str], bool],
        doubt: Callable[[], None],
        max_body_bytes: int,
    ) -> None:
        self._engine = engine
        self._use = use
        self._serves = serves
        self._doubt = doubt
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await asgi.read_body(scope, receive, self._max_body_bytes)
            name = _name(asgi.header(scope, wire.ENGINE_NAME_HEADER), body)
            if not self._serves(name):
                raise _elsewhere(f"This engine does not serve `{name}` right now.")
            self._use.enter(name)
            try:
                await self._pass_on(scope, receive, send, body)
            finally:
                self._use.leave(name)
        except ApiError as refusal:
            await asgi.answer(send, refusal.status, refusal.wire_headers(), refusal.body())
        except asgi.BodyTooLarge:
            too_large = openai.body_too_large(self._max_body_bytes)
            await asgi.answer(send, too_large.status, too_large.wire_headers(), too_large.body())
        except asgi.BodyIncomplete:
            logger.info("a client went away before its request was complete")

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        with asgi.ClientWatch(receive):
            try:
                headers = wire.forwarded(scope["headers"])
                connection = await self._engine.post(scope["path"].encode(), headers, body)
            except Unreachable as fault:
                self._doubt()
                raise _elsewhere(f"The engine cannot be reached: {fault}.") from fault
            except Broken as fault:
                raise openai.engine_failed(f"The engine failed: {fault}.") from fault
            try:
                await self._relay(connection, send)
            except Broken as fault:
                # The answer has begun: cutting the connection is how the gateway learns of it.
                logger.warning("the engine's answer broke off: %s", fault)
            finally:
                connection.close()

    async def _relay(self, connection: Connection, send: Send) -> None:
        headers = wire.returned(connection.headers)
        status = connection.status
        if status == 404 or status >= 500:
            # A name that we vouch for and the engine does not know: it is not the engine we knew.
            self._doubt()
            if status == 404:
                headers.append(ELSEWHERE)
        if not connection.is_complete and connection.header(b"content-length") is None:
            start = {"type": "http.response.start", "status": status, "headers": headers}
            await send(start)
            while piece := await connection.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        await asgi.answer(send, status, headers, await connection.read_all())


def _name(header: bytes | None, body: bytes) -> str:
    """The engine's model name: from the gateway's header, or from the body of anybody else."""
    if header is not None:
        return header.decode("latin-1")
    try:
        fields = from_json(body)
    except ValueError as fault:
        raise openai.no_json(str(fault)) from fault
    model = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(model, str):
        raise openai.missing_field("model")
    return model


def _elsewhere(message: str) -> ApiError:
    error = openai.no_engine(message)
    error.headers.append(ELSEWHERE)
    return error


class AllowList:
    """Decides by path who answers: the proxy, the agent's own API, or nobody."""

    def __init__(
        self, proxy: Proxy, own: ASGIApp, own_paths: frozenset[str], own_prefix: str
    ) -> None:
        self._proxy = proxy
        self._own = own
        self._own_paths = own_paths
        self._own_prefix = own_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path in wire.CONTENT_FIELD and method == "POST":
            await self._proxy(scope, receive, send)
        elif method in ("GET", "HEAD") and (
            path in self._own_paths or path.startswith(self._own_prefix)
        ):
            await self._own(scope, receive, send)
        else:
            refusal = openai.unknown_path(method, path)
            await asgi.answer(send, refusal.status, refusal.wire_headers(), refusal.body())
