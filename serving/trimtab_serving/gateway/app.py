"""The public port: keys, bodies, answers, and what is counted of them.

The two paths that generate are raw ASGI because every request pays for what stands in here.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab_serving import asgi, openai, wire
from trimtab_serving.bodies import parse, usage_of
from trimtab_serving.gateway.callers import Callers
from trimtab_serving.gateway.forward import Answer, Forwarder, Request
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.gateway.watching import CLIENT_GONE, OK, Watched, Watching
from trimtab_serving.keys import ApiKeys
from trimtab_serving.openai import ApiError
from trimtab_serving.upstream import Broken

logger = logging.getLogger(__name__)

CLOSE: Final = (b"connection", b"close")
# Events of a stream stand for tokens where the answer does not tell their number.
EVENT: Final = b"data: {"
LEAST_TOKENS: Final = 8


class GatewayApp:
    """ASGI application of the public port."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        forwarder: Forwarder,
        keys: ApiKeys,
        metrics: GatewayMetrics,
        watching: Watching,
        others: ASGIApp,
        *,
        max_body_bytes: int,
        is_draining: Callable[[], bool],
        callers: Callers | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._keys = keys
        self._metrics = metrics
        self._watching = watching
        self._others = others
        self._callers = callers
        self._max_body_bytes = max_body_bytes
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = wire.CONTENT_FIELD.get(scope["path"])
        if content is None or scope["method"] != "POST":
            await self._others(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run(content)

    async def request(
        self, scope: Scope, receive: Receive, content: str
    ) -> tuple[Request, Watched | None]:
        """Everything that must hold before an engine is asked."""
        caller = self._keys.check(asgi.header(scope, b"authorization"))
        if self._callers is not None:
            self._callers.admit(caller)
        try:
            body = await asgi.read_body(scope, receive, self._max_body_bytes)
        except asgi.BodyTooLarge as fault:
            raise openai.body_too_large(self._max_body_bytes) from fault
        ask = parse(body, content)
        headers = scope["headers"]
        session = asgi.header(scope, wire.SESSION_HEADER)
        if session is None and ask.user is not None:
            session = ask.user.encode()
        watching = self._watching
        watched = watching.begin(ask, self._forwarder.route(ask.model), caller, session)
        identify = None if watched is None else partial(watching.identify, watched)
        request = Request(scope["path"], ask, wire.forwarded(headers), session, identify=identify)
        return request, watched

    @property
    def forwarder(self) -> Forwarder:
        return self._forwarder

    @property
    def metrics(self) -> GatewayMetrics:
        return self._metrics

    @property
    def watching(self) -> Watching:
        return self._watching

    def final_headers(self, headers: asgi.Headers) -> asgi.Headers:
        return [*headers, CLOSE] if self._is_draining() else headers


class _Exchange:
    """One request on its way through, with what will be counted of it."""

    def __init__(self, app: GatewayApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._model = ""
        self._version = ""
        self._code = CLIENT_GONE
        self._first_token_seconds: float | None = None
        self._token_seconds: float | None = None
        self._usage: dict[str, int] = {}
        self._watched: Watched | None = None

    async def run(self, content: str) -> None:
        try:
            await self._answer(content)
        except ApiError as refusal:
            self._code = refusal.status
            self._version = self._version or refusal.version
            await self._refuse(refusal)
        except asgi.BodyIncomplete:
            logger.info("a client went away before its request was complete")
        finally:
            self._count()

    async def _answer(self, content: str) -> None:
        request, self._watched = await self._app.request(self._scope, self._receive, content)
        self._started = time.perf_counter()
        if self._watched is not None:
            self._model = request.ask.model
        with asgi.ClientWatch(self._receive):
            answer = await self._app.forwarder.open(request)
            self._version = answer.version
            if self._watched is not None:
                self._watched.digest = answer.digest
            try:
                await self._deliver(answer)
            finally:
                answer.close()

    async def _deliver(self, answer: Answer) -> None:
        headers = [*answer.headers, (wire.VERSION_HEADER, answer.version.encode())]
        headers = self._app.final_headers(headers)
        if answer.body is not None:
            self._usage = usage_of(answer.body)
            if self._watched is not None and answer.status == OK:
                self._watched.body = answer.body
            await asgi.answer(self._send, answer.status, headers, answer.body)
            self._code = answer.status
            return
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await self._send(start)
        await self._stream(answer)

    async def _stream(self, answer: Answer) -> None:
        heard = None if self._watched is None else self._watched.hear()
        events = 0
        try:
            while piece := await answer.connection.read():
                if self._first_token_seconds is None:
                    self._first_token_seconds = time.perf_counter() - self._started
                events += piece.count(EVENT)
                data = answer.names.piece(piece)
                if b'"usage":{' in data:
                    self._usage = usage_of(data)
                if data:
                    if heard is not None:
                        heard.add(data)
                    await self._send(
                        {"type": "http.response.body", "body": data, "more_body": True}
                    )
            await self._send({"type": "http.response.body", "body": answer.names.rest()})
            self._code = answer.status
            self._token_seconds = self._pace(self._usage.get("completion", events))
        except Broken as fault:
            # The status is out already; an event is the only way left to say that this is no end.
            self._code = 502
            error = openai.engine_failed(f"The engine failed while it answered: {fault}.")
            event = b"\n\ndata: %b\n\n" % error.body()
            await self._send({"type": "http.response.body", "body": answer.names.rest() + event})

    def _pace(self, tokens: int) -> float | None:
        """Mean time from one token to the next; of a few it would say more of the network."""
        if tokens < LEAST_TOKENS or self._first_token_seconds is None:
            return None
        seconds = time.perf_counter() - self._started - self._first_token_seconds
        return seconds / (tokens - 1)

    async def _refuse(self, refusal: ApiError) -> None:
        headers = self._app.final_headers(refusal.wire_headers())
        await asgi.answer(self._send, refusal.status, headers, refusal.body())

    def _count(self) -> None:
        metrics = self._app.metrics
        metrics.count(self._model, self._version, self._code)
        if not self._version:
            return
        if self._watched is not None:
            self._watched.first_token_seconds = self._first_token_seconds
            self._watched.token_seconds = self._token_seconds
            self._app.watching.end(self._watched, self._version, self._code)
        series = metrics.of(self._model, self._version)
        series.duration.observe(time.perf_counter() - self._started)
        if self._first_token_seconds is not None:
            series.first_token.observe(self._first_token_seconds)
        if self._usage:
            series.prompt_tokens.inc(self._usage.get("prompt", 0))
            series.completion_tokens.inc(self._usage.get("completion", 0))


class PublicRest:
    """GET /v1/models, feedback where it is taken, and the refusals of everything that does not exist."""

    def __init__(
        self,
        forwarder: Forwarder,
        keys: ApiKeys,
        created: int,
        feedback: ASGIApp | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._keys = keys
        self._created = created
        self._feedback = feedback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._feedback is not None and scope["path"] == wire.FEEDBACK:
            await self._feedback(scope, receive, send)
            return
        try:
            self._keys.check(asgi.header(scope, b"authorization"))
            body = json.dumps(self._find(scope["method"], scope["path"])).encode()
        except ApiError as refusal:
            await asgi.answer(send, refusal.status, refusal.wire_headers(), refusal.body())
            return
        await asgi.answer(send, 200, openai.JSON, body)

    def _find(self, method: str, path: str) -> dict[str, object]:
        if path in wire.CONTENT_FIELD:
            raise openai.wrong_method(method, path, "POST")
        if path != "/v1/models" and not path.startswith("/v1/models/"):
            raise openai.unknown_path(method, path)
        if method not in ("GET", "HEAD"):
            raise openai.wrong_method(method, path, "GET")
        if path == "/v1/models":
            data = [self._model(name) for name in self._forwarder.models]
            return {"object": "list", "data": data}
        name = path.removeprefix("/v1/models/")
        if not self._forwarder.knows(name):
            raise openai.unknown_model(name)
        return self._model(name)

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "trimtab"}
