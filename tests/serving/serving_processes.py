"""Both programs as they run in their containers: own processes, uvloop, signals."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.servingkit import FakeApiServer, FakeEngine, base_version, table_of

from trimtab_serving.settings import GatewaySettings

TOP = Path(__file__).resolve().parents[2]
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "who?"}]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@asynccontextmanager
async def program(
    name: str, api: FakeApiServer, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{TOP / 'crds'}:{TOP / 'serving'}",
        "TRIMTAB_API_SERVER": api.address,
        "TRIMTAB_NAMESPACE": "ns",
        "TRIMTAB_SERVICE": "svc",
        "TRIMTAB_ROUTING_CONFIGMAP": "svc-routing",
        "TRIMTAB_TABLE_CACHE": "",
        "TRIMTAB_HOST": "127.0.0.1",
        "TRIMTAB_STOP_NOTICE_SECONDS": "0.5",
        **more,
    }
    command = [sys.executable, "-m", "trimtab_serving", name]
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_answer(client: httpx.AsyncClient, path: str, status: int) -> None:
    for _ in range(1500):
        if await answers(client, path, status):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} has never answered {status}")


async def answers(client: httpx.AsyncClient, path: str, status: int) -> bool:
    try:
        return (await client.get(path)).status_code == status
    except httpx.TransportError:
        return False


async def test_a_stream_survives_the_end_of_its_gateway(tmp_path: Path) -> None:
    agent_port, port, admin_port = free_port(), free_port(), free_port()
    table = table_of({"tiny": [base_version()]}, (f"127.0.0.1:{agent_port}",))
    engine = FakeEngine(hold=asyncio.Event())
    assert engine.hold is not None
    async with (
        FakeApiServer(table).running() as api,
        engine.running(),
        program(
            "agent",
            api,
            TRIMTAB_ENGINE_URL=f"http://{engine.address}",
            TRIMTAB_BASE_NAME="tiny",
            TRIMTAB_ADAPTER_DIRECTORY=str(tmp_path / "adapters"),
            TRIMTAB_PORT=str(agent_port),
        ) as agent,
        program(
            "gateway", api, TRIMTAB_PORT=str(port), TRIMTAB_ADMIN_PORT=str(admin_port)
        ) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as public,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}", timeout=20) as admin,
    ):
        await until_answer(admin, "/probe/tiny", 200)
        await until_answer(admin, "/readyz", 200)
        body = {**CHAT, "stream": True}
        async with public.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            gateway.send_signal(signal.SIGTERM)
            await until_answer(admin, "/readyz", 503)
            late = await public.post("/v1/chat/completions", json=CHAT)
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            await asyncio.sleep(0.8)  # the notice is over: nobody new is let in
            assert await refused(public)
            engine.hold.set()
            rest = b"".join([piece async for piece in pieces])
        assert rest.endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(gateway.wait(), 10) == 0
        agent.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(agent.wait(), 10) == 0


@pytest.mark.parametrize("name", ["gateway", "agent"])
async def test_who_was_never_ready_ends_at_once(name: str, tmp_path: Path) -> None:
    port, admin_port = free_port(), free_port()
    more = {
        "TRIMTAB_ENGINE_URL": "http://127.0.0.1:9",
        "TRIMTAB_BASE_NAME": "tiny",
        "TRIMTAB_ADAPTER_DIRECTORY": str(tmp_path / "adapters"),
        "TRIMTAB_PORT": str(port),
        "TRIMTAB_ADMIN_PORT": str(admin_port),
        "TRIMTAB_STOP_NOTICE_SECONDS": "300",
    }
    probed = port if name == "agent" else admin_port
    async with (
        FakeApiServer().running() as api,
        program(name, api, **more) as started,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{probed}", timeout=20) as kubelet,
    ):
        await until_answer(kubelet, "/readyz", 503)
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), 10) == 0


async def refused(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/v1/models")
    except httpx.ConnectError:
        return True
    return False


async def test_a_missing_variable_is_named() -> None:
    command = [sys.executable, "-m", "trimtab_serving", "gateway"]
    environment = {
        "PYTHONPATH": f"{TOP / 'crds'}:{TOP / 'serving'}",
        "TRIMTAB_API_SERVER": "http://x",
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 78
    assert said.decode().strip() == "the environment variable TRIMTAB_NAMESPACE is not set"


def test_settings_come_from_the_names_that_kubernetes_gives() -> None:
    settings = GatewaySettings.of(
        {
            "KUBERNETES_SERVICE_HOST": "fd00::1",
            "KUBERNETES_SERVICE_PORT": "6443",
            "TRIMTAB_NAMESPACE": "ns",
            "TRIMTAB_SERVICE": "svc",
            "TRIMTAB_ROUTING_CONFIGMAP": "svc-routing",
            "TRIMTAB_API_KEYS": "",
        }
    )
    assert settings.table.api_server == "https://[fd00::1]:6443"
    assert settings.api_keys is None
    assert (settings.port, settings.admin_port) == (8080, 8081)


async def test_told_to_stop_while_it_starts_the_first_process_of_a_container_ends() -> None:
    for name in ("gateway", "agent"):
        code = (
            "import os, signal, sys; from trimtab_serving.__main__ import main;"
            "sys.settrace(lambda frame, *_: os.kill(os.getpid(), signal.SIGTERM)"
            " if 'trimtab_serving/settings' in frame.f_code.co_filename else None);"
            f"sys.exit(main(['{name}']))"
        )
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env={"PYTHONPATH": f"{TOP / 'crds'}:{TOP / 'serving'}"}
        )
        assert await started.wait() == 0, name
