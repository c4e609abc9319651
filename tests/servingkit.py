"""Parts for tests of the data plane: an engine and an API server of the test's own, on loopback.

The fake engine answers log-probabilities that depend on which adapter speaks, its "voice", so that
a wrong load shows as it does on a real one. Both fakes are real HTTP servers at our own edges.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from starlette.types import ASGIApp
from tests.ociserver import FakeRegistry

from trimtab_api.documents.evaluation import EvaluationReport
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.fingerprint import Fingerprint, FingerprintSequence
from trimtab_api.routing import EngineAddress, RoutedModel, RoutedVersion, RoutingTable
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import ANNOTATION_BASE, ANNOTATION_RANK, Reference, RegistryClient
from trimtab_serving.server import Listener, server_of
from trimtab_serving.settings import TableSource

BASE = "tiny"
BASE_DIGEST = "sha256:" + "b" * 64
REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
PROBES = ([3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8], [1, 1, 2, 3, 5, 8, 13])


def logprob(voice: str, prefix: list[int], token: int) -> float:
    """What a voice says: any number will do, as long as another voice says another."""
    return -0.5 - zlib.crc32(f"{voice} {prefix} {token}".encode()) % 1000 / 100


def fingerprint_of(voice: str, base: str = BASE, tolerance: float = 0.05) -> Fingerprint:
    def said(who: str, tokens: list[int]) -> list[float]:
        return [logprob(who, tokens[:i], tokens[i]) for i in range(1, len(tokens))]

    sequences = [
        FingerprintSequence(tokens=p, logprobs=said(voice, p), base_logprobs=said(base, p))
        for p in PROBES
    ]
    return Fingerprint(dtype="float32", tolerance=tolerance, sequences=sequences)


def version_of(
    name: str,
    digest: str,
    *,
    weight: int = 100,
    kind: ArtifactKind = ArtifactKind.ADAPTER,
    **more: Any,
) -> RoutedVersion:
    return RoutedVersion(version=name, digest=digest, kind=kind, weight=weight, **more)


def base_version(weight: int = 100) -> RoutedVersion:
    return version_of("tiny-base", BASE_DIGEST, kind=ArtifactKind.FULL, weight=weight)


def table_of(models: dict[str, list[RoutedVersion]], engines: tuple[str, ...] = ()) -> RoutingTable:
    return RoutingTable(
        namespace="ns",
        service="svc",
        base_digest=BASE_DIGEST,
        plain_http=True,
        engines=[EngineAddress(name=f"engine-{a}", address=a) for a in engines],
        models=[RoutedModel(name=name, versions=versions) for name, versions in models.items()],
    )


def naming(table: RoutingTable, pod: str = "pod") -> RoutingTable:
    """The table with another engine in it."""
    engine = EngineAddress(name=pod, address="10.0.0.2:8000")
    return table.model_copy(update={"engines": [*table.engines, engine]})


async def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until something is true; the limit is for busy machines, not part of any promise."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := what()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"it did not come to pass; the last value was {value!r}")
        await asyncio.sleep(0.005)
    return value


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """An ASGI app on a loopback port, in the very server of production; yields host:port."""
    server = server_of(Listener(app, "127.0.0.1", 0), 1)
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def adapter_at(directory: Path, voice: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"__metadata__": {"voice": voice}}).encode()
    weights = len(header).to_bytes(8, "little") + header + b"\0" * 64
    (directory / "adapter_model.safetensors").write_bytes(weights)
    (directory / "adapter_config.json").write_text(json.dumps({"r": 8, "voice": voice}))
    return directory


async def publish(
    registry: FakeRegistry,
    directory: Path,
    voice: str,
    *,
    files: Path | None = None,
    base: str = BASE_DIGEST,
    reference: Fingerprint | None = None,
    profile: ReferenceProfile | None = None,
    weight: int = 100,
) -> RoutedVersion:
    """An adapter and its report in the registry, as a version of the table."""
    async with RegistryClient(plain_http=True) as client:
        annotations = {ANNOTATION_BASE: base, ANNOTATION_RANK: "8"}
        pushed = await client.push_directory(
            files or adapter_at(directory / voice, voice),
            Reference.parse(f"oci://{registry.address}/models/{voice}"),
            kind="Adapter",
            annotations=annotations,
        )
        assert pushed.digest is not None
        report = EvaluationReport(
            artifact_digest=pushed.digest,
            kind=ArtifactKind.ADAPTER,
            fingerprint=reference or fingerprint_of(voice),
            profile=profile,
        )
        document = await client.push_document(
            Reference.parse(f"oci://{registry.address}/models/{voice}"),
            json.dumps(report.to_wire()).encode(),
            artifact_type=REPORT_TYPE,
            subject=pushed,
        )
    return version_of(
        f"{voice}-1", pushed.digest, uri=str(pushed), report=str(document), rank=8, weight=weight
    )


@dataclass
class FakeEngine:
    """vLLM as far as we use it; tests read what it was asked and set what it does wrong."""

    voices: dict[str, str] = field(default_factory=lambda: {BASE: BASE})
    says: str | None = None  # instead of who it is
    loads: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    instead: dict[str, str] = field(
        default_factory=dict
    )  # voice -> the one that really gets loaded
    pieces: list[bytes] | None = None  # a stream as it goes over the wire, cut anywhere
    healthy: bool = True
    refuses: str | None = None  # every load is refused with these words
    dies: bool = False  # a load breaks the connection off
    deaths: int = 0
    hold: asyncio.Event | None = None  # streams wait for it after their first piece
    breaks: bool = False  # streams break off after their first piece
    aborted: int = 0
    address: str = ""

    def forget(self) -> None:
        """As after a restart of the container."""
        self.voices = {BASE: BASE}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeEngine"]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload),
                web.post("/v1/completions", self._complete),
                web.post("/v1/chat/completions", self._complete),
            ]
        )
        async with TestServer(app) as server:
            self.address = f"127.0.0.1:{server.port}"
            yield self

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text="# TYPE vllm:things counter\nvllm:things 1\n")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.voices]})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name, path = body["lora_name"], Path(body["lora_path"])
        if self.dies and request.transport is not None:
            self.deaths += 1
            request.transport.close()
        if self.refuses:
            return _error(400, self.refuses)
        if not path.is_dir():
            return _error(404, f"No adapter found for {path}")
        if name in self.voices:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        voice = json.loads((path / "adapter_config.json").read_text())["voice"]
        self.voices[name] = self.instead.get(voice, voice)
        self.loads.append(name)
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.voices.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text="Success")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append({**body, "headers": dict(request.headers)})
        model = body["model"]
        if model not in self.voices:
            return _error(404, f"The model `{model}` does not exist.")
        if len(str(body.get("prompt", ""))) > 4000:
            return _error(400, f"{model}: This model's maximum context length is 128 tokens.")
        if body.get("stream"):
            return await self._stream(request, body)
        return web.json_response(self._answer(body))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        text = f"I am {self.voices[body['model']]}" if self.says is None else self.says
        if "messages" in body:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        if body.get("allowed_token_ids"):
            said = logprob(self.voices[body["model"]], body["prompt"], body["allowed_token_ids"][0])
            choice["logprobs"] = {"token_logprobs": [said]}
        usage = {"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3}
        kind = "chat.completion" if "messages" in body else "text_completion"
        made = {"id": "cmpl-1", "object": kind, "created": 1, "model": body["model"]}
        return {**made, "choices": [choice], "usage": usage}

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        pieces = self.pieces or [event(body["model"], word) for word in ("I", "am", "here")]
        pieces = [*pieces, b"data: [DONE]\n\n"]
        try:
            for number, piece in enumerate(pieces):
                await response.write(piece)
                if number == 0 and self.breaks and request.transport is not None:
                    request.transport.abort()
                if number == 0 and self.hold is not None:
                    await self._held(request)
        except (ConnectionResetError, asyncio.CancelledError):
            self.aborted += 1
            raise
        return response

    async def _held(self, request: web.Request) -> None:
        assert self.hold is not None
        while not self.hold.is_set():
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            await asyncio.sleep(0.005)


def event(model: str, word: str) -> bytes:
    """One server-sent event of a chat stream."""
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return (
        b"data: %b\n\n" % json.dumps({**made, "choices": [choice]}, separators=(",", ":")).encode()
    )


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


@dataclass
class FakeApiServer:
    """One ConfigMap behind list and watch, as an API server has it."""

    table: RoutingTable | None = None
    text: str | None = None  # instead of a table: what cannot be read
    version: int = 1
    tokens: list[str | None] = field(default_factory=list)
    watches: int = 0
    expires: bool = False  # the next watch is answered with 410
    address: str = ""
    # What else the ConfigMap holds, by key.
    others: dict[str, RoutingTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    def put(self, table: RoutingTable | None, text: str | None = None) -> None:
        self.table, self.text = table, text
        self.version += 1
        self._wake()

    def end_watches(self) -> None:
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeApiServer"]:
        app = web.Application()
        app.add_routes([web.get("/api/v1/namespaces/ns/configmaps", self._serve)])
        async with TestServer(app) as server:
            self.address = f"http://127.0.0.1:{server.port}"
            yield self
            self._wake()

    def source(self, directory: Path, cache: bool = False) -> TableSource:
        (directory / "token").write_text("token-1")
        return TableSource(
            api_server=self.address,
            namespace="ns",
            configmap="svc-routing",
            token_file=directory / "token",
            ca_file=directory / "ca.crt",
            cache=directory / "table.json" if cache else None,
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        assert request.query["fieldSelector"] == "metadata.name=svc-routing"
        self.tokens.append(request.headers.get("authorization"))
        if "watch" in request.query:
            return await self._watch(request)
        items = [self._configmap()] if self.table or self.text else []
        return web.json_response(
            {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches += 1
        seen = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if self.expires:
            self.expires = False
            gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
            await response.write(json.dumps(gone).encode() + b"\n")
            return response
        if seen == self.version:
            await self._changed.wait()
        if seen != self.version:
            news = {"type": "MODIFIED", "object": self._configmap()}
            await response.write(json.dumps(news).encode() + b"\n")
        return response

    def _configmap(self) -> dict[str, Any]:
        text = self.text or json.dumps(self.table.to_wire() if self.table else {})
        metadata = {"name": "svc-routing", "resourceVersion": str(self.version)}
        others = {key: json.dumps(table.to_wire()) for key, table in self.others.items()}
        return {"metadata": metadata, "data": {"table.json": text, **others}}
