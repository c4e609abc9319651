"""The conversation with the API server: which way it takes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from trimtab_operator.adapters.api import Api

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


def kubeconfig(folder: Path, address: str) -> str:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
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
