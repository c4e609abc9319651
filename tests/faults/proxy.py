"""Between the operator and a real API server: it keeps a record, and does what a plan says.

Plain HTTP towards the operator, TLS towards the API server; whoever asks is known there by the token
that the operator sent. What is not spoiled on purpose passes through unchanged.
"""

import asyncio
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from tests.builders import Manifest
from tests.faults.plans import REFUSALS, Plan

PAGE = 2  # lists of a few objects have pages too
# Bytes of one event; the session's default would end a watch in the middle of a large object.
LONGEST_EVENT = 2**21
TOO_OLD = "too old resource version"
NO_LEADER = "etcdserver: no leader"
RETRY_AFTER_SECONDS = 1
PASSED_ON = ("Accept", "Authorization", "Content-Type", "User-Agent")
_PATH = re.compile(
    r"^/apis?(?:/(?P<group>[a-z0-9.]+\.[a-z0-9.]+|apps|batch|policy))?/v[a-z0-9]+"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>[a-z]+))?)?$"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WRITES = frozenset(_VERBS.values())


@dataclass
class Call:
    """One request, as authorisation sees it, and what became of it."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    body: Manifest = field(default_factory=dict)
    status: int = 0
    answer: Manifest = field(default_factory=dict)
    spoiled_by: str = ""
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_write(self) -> bool:
        """Whether it changes something, if it gets through."""
        return self.verb in _WRITES

    @property
    def has_created(self) -> bool:
        """Whether an object is there that was not."""
        return self.status == 201 and "/" not in self.resource

    @property
    def key(self) -> str:
        """Which object."""
        answered = self.answer.get("metadata", {}).get("name")
        named = self.name or answered or self.body.get("metadata", {}).get("name", "")
        return f"{self.resource}/{named}"

    def __str__(self) -> str:
        spoiled = f" ({self.spoiled_by})" if self.spoiled_by else ""
        return f"{self.verb} {self.key}: {self.status}{spoiled}"


class Proxy:
    """An API server with the faults of a plan. `calls` is what was asked of it, in order."""

    def __init__(self, upstream: str, authority: Path | None = None) -> None:
        self.calls: list[Call] = []
        self.writes = 0  # that took place, but for leases and Events
        self.injected: Counter[str] = Counter()  # faults by kind
        self.plan = Plan(0)
        self.after_write: Callable[[int], None] = lambda _: None
        self._upstream = upstream
        self._tls = ssl.create_default_context(cafile=authority)
        self._seen: Counter[str] = Counter()
        self._lists: dict[str, bytes] = {}

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        """On this loopback port, until the block ends."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Without it a watch of an operator that was killed would stay open for minutes.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, read_bufsize=LONGEST_EVENT
        )
        async with session:
            self._session = session
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", port).start()
                yield
            finally:
                await runner.cleanup()

    def behave(self, plan: Plan) -> None:
        """From now on only this goes wrong."""
        self.plan = plan
        self._seen.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = _call(request, await request.read())
        if call is None:
            return await self._forwarded(request, Call("get", "", "", "", ""))
        self.calls.append(call)
        if call.verb == "watch":
            return await self._watch(request, call)
        page = " next page" if "continue" in request.query else ""
        what = f"{request.method} {request.path}{page}"
        before = self._seen[what]
        self._seen[what] += 1
        if slow := self.plan.having("slow"):
            self.injected[slow.kind] += 1
            await asyncio.sleep(slow.seconds)
        call.spoiled_by = self._refused(request, call, what, before)
        if call.spoiled_by:
            self.injected[call.spoiled_by] += 1
            return _refusal(call.spoiled_by, call)
        # What was begun is done, also when the one who asked is killed meanwhile.
        answer = await asyncio.shield(asyncio.ensure_future(self._forwarded(request, call)))
        if call.is_write and call.resource != "leases":
            return await self._after(request, call, answer, f"answer to {what}")
        if call.verb == "list":
            return self._listed(request, call, answer, before)
        return answer

    def _refused(self, request: web.Request, call: Call, what: str, before: int) -> str:
        struck = (k for k in REFUSALS if self.plan.strikes(k, what, before))
        return next((k for k in struck if _concerns(k, call, request)), "")

    async def _after(
        self, request: web.Request, call: Call, answer: web.Response, what: str
    ) -> web.Response:
        before = self._seen[what]
        self._seen[what] += 1
        if call.status < 400 and call.resource != "events":
            self.writes += 1
            self.after_write(self.writes)
        if lost := self.plan.strikes("answer-lost", what, before):
            self._spoil(call, lost.kind)
            _hang_up(request)
        if late := self.plan.strikes("answer-late", what, before):
            self._spoil(call, late.kind)
            await asyncio.sleep(late.seconds)
        return answer

    def _spoil(self, call: Call, kind: str) -> None:
        call.spoiled_by = kind
        self.injected[kind] += 1

    def _listed(
        self, request: web.Request, call: Call, answer: web.Response, before: int
    ) -> web.Response:
        what = request.path_qs
        fresh = answer.body
        assert isinstance(fresh, bytes)
        earlier = self._lists.get(what)
        if call.status == 200:
            self._lists[what] = fresh
        if earlier is None or not self.plan.strikes("stale-list", what, before):
            return answer
        self._spoil(call, "stale-list")
        return web.Response(body=earlier, content_type="application/json")

    async def _forwarded(self, request: web.Request, call: Call) -> web.Response:
        query = dict(request.query)
        if call.verb == "list" and self.plan.having("page-expired"):
            query["limit"] = str(PAGE)
        async with self._session.request(
            request.method,
            self._upstream + request.path,
            params=query,
            headers=_headers(request),
            data=await request.read() or None,
        ) as answer:
            body = await answer.read()
            call.status = answer.status
            if call.is_write or call.status >= 400:
                with suppress(ValueError):
                    call.answer = json.loads(body)
            kept = {k: v for k, v in answer.headers.items() if k == "Retry-After"}
            kind = answer.content_type
            return web.Response(status=answer.status, body=body, headers=kept, content_type=kind)

    # --- watches ---

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        what = f"WATCH {request.path}"
        before = self._seen[what]
        self._seen[what] += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if self.plan.strikes("watch-expired", what, before):
            self._spoil(call, "watch-expired")
            await response.prepare(request)
            await response.write(_error_event(410, "Expired", TOO_OLD))
            return response
        no_limit = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            self._upstream + request.path,
            params=request.query,
            headers=_headers(request),
            timeout=no_limit,
        ) as answer:
            call.status = answer.status
            if answer.status != 200:
                body = await answer.read()
                with suppress(ValueError):
                    call.answer = json.loads(body)
                return web.Response(status=answer.status, body=body)
            await response.prepare(request)
            with suppress(ConnectionError):  # whoever has watched may have been killed
                await self._pass_on(request, response, answer.content, what, before)
        return response

    async def _pass_on(
        self,
        request: web.Request,
        response: web.StreamResponse,
        content: aiohttp.StreamReader,
        what: str,
        before: int,
    ) -> None:
        lines: AsyncIterator[bytes] = aiter(content)
        if late := self.plan.strikes("events-late", what, before):
            lines = _delayed(lines, late.seconds * self.plan.chance("delay", what))
        spoils = partial(self._spoils, what, before)
        number, is_silent = 0, False
        async for line in lines:
            number += 1
            # Once silent it stays so, whatever is wrong by then.
            is_silent = is_silent or spoils("watch-silent", number)
            if is_silent or self._drops(what, before, number):
                continue
            self.injected["events-late"] += late is not None
            if spoils("watch-cut", number):
                await response.write(line[: len(line) // 2])
                _hang_up(request)
                return
            if spoils("event-dropped-then-expired", number):
                await response.write(_error_event(410, "Expired", TOO_OLD))
                return
            if spoils("watch-failed", number):
                await response.write(_error_event(500, "InternalError", NO_LEADER))
                return
            doubled = self.plan.having("events-doubled") is not None
            self.injected["events-doubled"] += doubled
            await response.write(line * 2 if doubled else line)

    def _spoils(self, what: str, before: int, kind: str, number: int) -> bool:
        fault = self.plan.strikes(kind, what, before)
        is_due = fault is not None and number > fault.after
        self.injected[kind] += is_due
        return is_due

    def _drops(self, what: str, before: int, number: int) -> bool:
        fault = self.plan.having("event-dropped")
        is_due = fault is not None and self.plan.chance(what, before, number) < fault.share
        self.injected["event-dropped"] += is_due
        return is_due


def _call(request: web.Request, body: bytes) -> Call | None:
    found = _PATH.match(request.path)
    if found is None:
        return None
    parts = found.groupdict(default="")
    verb = _VERBS.get(request.method) or ("get" if parts["name"] else "list")
    if request.query.get("watch") in {"1", "true"}:
        verb = "watch"
    resource = "/".join(p for p in (parts["resource"], parts["part"]) if p)
    content: Any = {}
    with suppress(ValueError):
        content = json.loads(body) if body else {}
    return Call(verb, parts["group"], resource, parts["namespace"], parts["name"], content)


def _headers(request: web.Request) -> dict[str, str]:
    return {name: request.headers[name] for name in PASSED_ON if name in request.headers}


def _hang_up(request: web.Request) -> None:
    """End the connection in the middle of whatever it carries; what is written to it now is lost."""
    if request.transport is not None:
        request.transport.abort()


async def _delayed(lines: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """In order, each so much later."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def receive() -> None:
        async for line in lines:
            arrived.put_nowait((loop.time(), line))
        arrived.put_nowait((loop.time(), b""))

    receiving = asyncio.create_task(receive())
    try:
        while True:
            when, line = await arrived.get()
            await asyncio.sleep(when + seconds - loop.time())
            if not line:
                return
            yield line
    finally:
        receiving.cancel()


# --- what an API server says ---


def _concerns(kind: str, call: Call, request: web.Request) -> bool:
    """Whether a real API server could refuse this request in this way."""
    if kind == "page-expired":
        return call.verb == "list" and "continue" in request.query
    if kind in {"quota-denied", "webhook-down"}:
        is_new = call.verb in {"create", "patch"} and "/" not in call.resource
        return is_new and call.group != "trimtab.dev" and call.resource not in {"events", "leases"}
    return kind != "conflict" or (call.is_write and call.verb != "create")


def _refusal(kind: str, call: Call) -> web.Response:
    called = f'{call.resource}.{call.group} "{call.name}"'
    code, reason, message = {
        "conflict": (
            409,
            "Conflict",
            f"Operation cannot be fulfilled on {called}: the object has been modified",
        ),
        "too-many-requests": (429, "TooManyRequests", "too many requests, please try again later"),
        "internal-error": (500, "InternalError", f"Internal error occurred: {NO_LEADER}"),
        "unavailable": (503, "ServiceUnavailable", "the server is currently unable to handle it"),
        "quota-denied": (403, "Forbidden", f"{called} is forbidden: exceeded quota: team"),
        "webhook-down": (
            500,
            "InternalError",
            'Internal error occurred: failed calling webhook "pods.policy.example.com": refused',
        ),
        "page-expired": (410, "Expired", "The provided continue parameter is too old"),
    }[kind]
    call.status = code
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if code == 429 else {}
    return web.json_response(_status(code, reason, message), status=code, headers=headers)


def _error_event(code: int, reason: str, message: str) -> bytes:
    event = {"type": "ERROR", "object": _status(code, reason, message)}
    return json.dumps(event).encode() + b"\n"


def _status(code: int, reason: str, message: str) -> Manifest:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
