"""The conversation with the API server: which way it takes, as whom, and what answers mean."""

import asyncio
import gc
import json
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.websites import make_authority
from tests.wireserver import OK, Answering, Request, Server, says, serving

from trimtab_operator.adapters import api as apis
from trimtab_operator.adapters.api import AlreadyThere, Api, Expired, FieldsTaken
from trimtab_operator.adapters.fence import Fence, boot_seconds
from trimtab_operator.domain.errors import (
    ClusterError,
    ClusterUnreachable,
    Conflict,
    Forbidden,
    Gone,
    NotLeader,
    Refused,
)
from trimtab_operator.domain.manifests import Manifest

ELSEWHERE = "http://api.example:6443"


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and the URLs that it was asked for: whole ones by those who take it for a proxy."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.raw_path)
        return web.json_response({"kind": "Status"})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, address: str, user: Manifest | None = None, **cluster: str) -> str:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": address, **cluster}}],
        "users": [{"name": "me", "user": user or {"token": "secret"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(content))
    return str(folder / "kubeconfig")


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_proxy_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server() as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        api = await Api.connect(kubeconfig(tmp_path, ELSEWHERE))
        try:
            await api.request("GET", "/version")
        finally:
            await api.close()
    assert asked == [f"{ELSEWHERE}/version"]


async def test_no_proxy_is_used_for_an_address_that_is_excepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server() as (address, asked):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        api = await Api.connect(kubeconfig(tmp_path, address))
        try:
            await api.request("GET", "/version")
        finally:
            await api.close()
    assert asked == ["/version"]


@asynccontextmanager
async def answered(folder: Path, answering: Answering) -> AsyncIterator[tuple[Api, Server]]:
    async with serving(answering) as found, asyncio.timeout(20):
        api = await Api.connect(kubeconfig(folder, f"http://127.0.0.1:{found.port}/k8s"))
        try:
            yield api, found
        finally:
            await api.close()


async def test_what_a_write_says(tmp_path: Path) -> None:
    async with answered(tmp_path, says(OK)) as (api, found):
        query = {"fieldManager": "trimtab", "force": "true"}
        body = {"metadata": {"name": "größer"}}
        assert await api.request("PATCH", "/api/v1/x", query=query, body=body) == {}
    (request,) = found.requests
    assert request.line == "PATCH /k8s/api/v1/x?fieldManager=trimtab&force=true HTTP/1.1"
    assert request.headers["Authorization"] == "Bearer secret"
    assert (request.headers["Accept"], request.headers["Content-Type"]) == (apis.JSON, apis.JSON)
    assert request.headers["Accept-Encoding"] == "identity"
    assert json.loads(request.body) == body


def status(code: int, **content: Any) -> bytes:
    text = json.dumps({"kind": "Status", "message": "no", "code": code, **content}).encode()
    head = f"HTTP/1.1 {code} Some\r\nRetry-After: 7\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


TERMINATING = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}
TAKEN = {"details": {"causes": [{"reason": "FieldManagerConflict"}]}}
REFUSALS: list[tuple[bytes, type[ClusterError]]] = [
    (status(302), ClusterUnreachable),
    (status(400), Refused),
    (status(401), ClusterUnreachable),
    (status(403), Forbidden),
    (status(403, **TERMINATING), Gone),
    (status(404), Gone),
    (status(409, reason="AlreadyExists"), AlreadyThere),
    (status(409, **TAKEN), FieldsTaken),
    (status(409, reason="Conflict"), Conflict),
    (status(410), Expired),
    (status(413), Refused),
    (status(422), Refused),
    (status(429), ClusterUnreachable),
    (status(500), ClusterUnreachable),
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n<html", ClusterUnreachable),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", ClusterUnreachable),
]


@pytest.mark.parametrize(("said", "error"), REFUSALS)
async def test_a_refusal_is_an_error_of_ours(
    tmp_path: Path, said: bytes, error: type[ClusterError]
) -> None:
    async with answered(tmp_path, says(said)) as (api, _):
        with pytest.raises(ClusterError, match="GET /x: ") as caught:
            await api.request("GET", "/x")
        assert type(caught.value) is error
        with pytest.raises(error):
            await anext(aiter(api.watch("/x", {})))


async def test_who_says_when_to_come_back_is_believed(tmp_path: Path) -> None:
    async with answered(tmp_path, says(status(429))) as (api, _):
        with pytest.raises(ClusterUnreachable) as caught:
            await api.request("POST", "/x", body={})
    assert caught.value.after == timedelta(seconds=7)


async def test_no_answer_in_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "REQUEST_SECONDS", 0.05)
    async with answered(tmp_path, says()) as (api, _):
        with pytest.raises(ClusterUnreachable, match="POST /x: no answer in time"):
            await api.request("POST", "/x", body={})


async def test_a_write_is_cut_off_where_the_right_to_write_ends(tmp_path: Path) -> None:
    fence, asked = Fence(), asyncio.Event()
    fence.open_until(boot_seconds() + 60)

    async def answer(_request: Request, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with answered(tmp_path, answer) as (api, found):
        write = asyncio.create_task(api.fenced(fence).request("POST", "/x", body={}))
        await asked.wait()
        fence.cut()
        with pytest.raises(NotLeader):
            await write
        await found.ended.wait()


def watched(*lines: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(line), line.encode()) for line in lines)


async def seen(api: Api) -> list[Any]:
    return [event["object"] async for event in api.watch("/x", {"resourceVersion": "5"})]


LINE = '{"type":"ADDED","object":%d}\n'


async def test_a_watch_yields_its_lines_however_they_are_cut(tmp_path: Path) -> None:
    text = LINE % 1 + LINE % 2 + LINE % 3 + LINE.strip() % 4
    pieces = [text[i : i + 7] for i in range(0, len(text), 7)]
    async with answered(tmp_path, says(watched(*pieces), b"0\r\n\r\n")) as (api, found):
        assert await seen(api) == [1, 2, 3, 4]
    query = "resourceVersion=5&watch=1&allowWatchBookmarks=true"
    assert found.requests[0].line == f"GET /k8s/x?{query} HTTP/1.1"


async def test_a_watch_that_has_gone_silent_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "WATCH_SILENCE_SECONDS", 1)
    async with answered(tmp_path, says(watched(LINE % 1))) as (api, _):
        assert await seen(api) == [1]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"type":"AD', ClusterUnreachable),
        ('{"type":"ERROR","object":{"code":410,"message":"too old"}}\n', Expired),
        ('{"type":"ERROR","object":{"code":500}}\n', ClusterUnreachable),
    ],
    ids=["cut in a line", "too old", "error"],
)
async def test_a_watch_that_fails_says_so_after_what_it_has_seen(
    tmp_path: Path, line: str, error: type[ClusterError]
) -> None:
    async with answered(tmp_path, says(watched(LINE % 1, line), ends=True)) as (api, _):
        events = aiter(api.watch("/x", {}))
        assert (await anext(events))["object"] == 1
        with pytest.raises(error):
            await anext(events)


PLUGIN = """#!/bin/sh
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"made"}}'
"""


async def test_a_plugin_of_the_kubeconfig_makes_the_token(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(PLUGIN)
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    async with serving(says(OK)) as found:
        path = kubeconfig(tmp_path, f"http://127.0.0.1:{found.port}", {"exec": command})
        api = await Api.connect(path)
        await api.request("GET", "/x")
        await api.close()
    assert found.requests[0].headers["Authorization"] == "Bearer made"


async def test_certificates_and_the_server_s_name_are_those_of_the_kubeconfig(
    tmp_path: Path,
) -> None:
    made = make_authority(tmp_path)
    context = made.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(made.ca)
    users: list[Any] = []

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        users.append(writer.get_extra_info("peercert")["subject"])
        writer.write(OK)

    user = {"client-certificate": str(made.certificate), "client-key": str(made.key)}
    cluster = {"certificate-authority": str(made.ca), "tls-server-name": "127.0.0.1"}
    async with serving(answer, context) as found:
        path = kubeconfig(tmp_path, f"https://localhost:{found.port}", user, **cluster)
        api = await Api.connect(path)
        await api.request("GET", "/x")
        await api.close()
    assert users == [((("commonName", "127.0.0.1"),),)]
    assert "Authorization" not in found.requests[0].headers


@pytest.mark.parametrize("end", [b"]}", b""], ids=["whole", "cut"])
async def test_a_large_answer_leaves_the_collector_at_work(tmp_path: Path, end: bytes) -> None:
    text = b'{"items":[' + b"{}," * apis.LARGE_BYTES + b"{}" + end
    said = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    async with answered(tmp_path, says(said)) as (api, _):
        with suppress(ClusterUnreachable):
            page = await api.request("GET", "/x")
            assert len(page["items"]) == apis.LARGE_BYTES + 1
    assert gc.isenabled()
