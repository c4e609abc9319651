"""What the tests of upgrades look with: callers that see every failure, and histories of pods."""

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.e2e.callers import PLAIN, STREAM, fault_of
from tests.e2e.upgrading import History, Moment, documents

from trimtab_api import names

WHOLE = b'data: {"choices": []}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    ("how", "status", "text", "said"),
    [
        pytest.param(PLAIN, 200, b'{"choices": [1]}', None, id="an answer"),
        pytest.param(STREAM, 200, WHOLE, None, id="a whole stream"),
        pytest.param(PLAIN, 503, b'{"error": {}}', "503", id="a refusal"),
        pytest.param(STREAM, 200, WHOLE[:20], "no end", id="a stream without its end"),
        pytest.param(
            STREAM, 200, WHOLE + b'data: {"error": 1}', "no end", id="an error at its end"
        ),
        pytest.param(PLAIN, 200, b'{"choices": [', "no end", id="half an answer"),
        pytest.param(PLAIN, 200, b"[]", "no end", id="an answer of another kind"),
    ],
)
async def test_a_caller_tells_what_is_wrong(
    how: str, status: int, text: bytes, said: str | None
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=text)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        told = await fault_of(session, str(server.make_url("")).rstrip("/"), "bot", how)
    assert told is None if said is None else said in (told or "")


async def test_a_caller_tells_that_nobody_is_there() -> None:
    async with aiohttp.ClientSession() as session:
        assert "Connect" in (await fault_of(session, "http://127.0.0.1:9", "bot", PLAIN) or "")


def event(kind: str, uid: str, *, ready: bool, going: bool = False) -> dict[str, Any]:
    metadata = {"uid": uid, "labels": {names.LABEL_COMPONENT: names.ENGINE}}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"type": kind, "object": {"metadata": metadata, "status": {"conditions": conditions}}}


def test_a_history_counts_from_the_moment_at_which_all_are_there() -> None:
    happened = [
        event("ADDED", "old-1", ready=True),
        event("ADDED", "old-2", ready=True),
        event("ADDED", "new-1", ready=False),
        event("MODIFIED", "old-1", ready=True, going=True),
        event("MODIFIED", "new-1", ready=True),
        event("DELETED", "old-1", ready=False, going=True),
    ]
    text = "\n".join(json.dumps(each, indent=2) for each in happened) + '\n{"type": "MOD'
    found = History(documents(text))
    assert found.events == happened
    assert found.of(names.ENGINE, 2) == [
        Moment(available=2, starting=0),
        Moment(available=2, starting=1),
        Moment(available=1, starting=1),
        Moment(available=2, starting=0),
        Moment(available=2, starting=0),
    ]
