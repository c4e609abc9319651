"""An engine and its agent in one: it holds what it is told to hold, and notes when it was asked for it.

A bad version answers every request, with 200 and without a word: nothing fails that a caller could
see, so that a failed request would be the rollback's own fault.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from trimtab_api.routing import AdapterState, AgentReport
from trimtab_serving import wire

PIECES: Final = 20
PIECE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 0.02
GOOD_WORD: Final = "word "


class Engine:
    """What it holds, by version, and what it was asked."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._bad: set[str] = set()
        self._sequence = 1
        self._changed = asyncio.Event()
        self.asked_last: dict[str, float] = defaultdict(float)
        self.first_bad_answer: dict[str, float] = {}
        self.last_bad_answer: dict[str, float] = {}

    def hold(self, versions: Mapping[str, str], *, bad: bool = False) -> None:
        """From now on it answers for these versions too, each named with its digest."""
        self._digests |= versions
        if bad:
            self._bad |= versions.keys()
        self._sequence += 1
        self._changed.set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[None]:
        """Listen for as long as the context lasts."""
        app = web.Application()
        app.add_routes(
            [web.get("/adapters", self._adapters), web.post(wire.CHAT_COMPLETIONS, self._complete)]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _adapters(self, request: web.Request) -> web.Response:
        if int(request.query.get("after", -1)) >= self._sequence:
            changed, seconds = self._changed, float(request.query.get("wait", 0))
            with suppress(TimeoutError):  # then the same report again, as agents do
                await asyncio.wait_for(changed.wait(), seconds)
        held = [
            AdapterState(version=version, digest=digest, state="Loaded", engine_name=version)
            for version, digest in self._digests.items()
        ]
        report = AgentReport(sequence=self._sequence, engine_ready=True, joins=True, adapters=held)
        return web.json_response(report.to_wire())

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        version = request.headers[wire.ENGINE_NAME_HEADER.decode()]
        self.asked_last[version] = time.time()
        word = "" if version in self._bad else GOOD_WORD
        body = await request.json()
        if body.get("stream"):
            answer = await self._stream(request, version, word)
        else:
            await asyncio.sleep(ANSWER_SECONDS)
            answer = web.json_response(_whole(version, word))
        if version in self._bad:
            self.last_bad_answer[version] = time.time()
            self.first_bad_answer.setdefault(version, time.time())
        return answer

    async def _stream(self, request: web.Request, version: str, word: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(PIECES):
            await response.write(_event(version, word, is_last=number == PIECES - 1))
            await asyncio.sleep(PIECE_SECONDS)
        await response.write(b"data: [DONE]\n\n")
        return response


def _whole(version: str, word: str) -> dict[str, object]:
    message = {"role": "assistant", "content": word}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": version}
    return {**head, "choices": [choice], "usage": usage}


def _event(version: str, word: str, *, is_last: bool) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": "stop" if is_last else None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": version}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"
