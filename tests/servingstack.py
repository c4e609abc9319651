"""The whole data plane in one process: real gateway, real agents, fakes at the edges only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.ociserver import FakeRegistry
from tests.servingkit import (
    BASE,
    FakeApiServer,
    FakeEngine,
    eventually,
    naming,
    publish,
    serving,
    table_of,
)

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.names import GATEWAY_TABLE_KEY, ROUTING_TABLE_KEY
from trimtab_api.routing import AdapterState, RoutedVersion
from trimtab_serving.agent.main import Agent
from trimtab_serving.gateway.main import Gateway
from trimtab_serving.settings import (
    AbuseSettings,
    AgentSettings,
    CaptureSettings,
    FeedbackSettings,
    GatewaySettings,
    Stopping,
)

STOPPING = Stopping(notice_seconds=0, finish_seconds=5)


@dataclass
class EnginePod:
    """An engine and the agent beside it."""

    engine: FakeEngine
    agent: Agent
    address: str

    def states(self) -> dict[str, AdapterState]:
        return {adapter.version: adapter for adapter in self.agent.board.report.adapters}

    def state(self, version: str) -> str | None:
        found = self.states().get(version)
        return found.state if found else None


@dataclass
class Stack:
    """Everything, and short ways to the questions that tests ask."""

    directory: Path
    registry: FakeRegistry
    api: FakeApiServer
    pods: list[EnginePod]
    gateway: Gateway
    public: httpx.AsyncClient
    admin: httpx.AsyncClient
    models: dict[str, list[RoutedVersion]] = field(default_factory=dict)

    @property
    def pod(self) -> EnginePod:
        return self.pods[0]

    @property
    def engine(self) -> FakeEngine:
        return self.pods[0].engine

    async def publish(
        self, voice: str, weight: int = 100, profile: ReferenceProfile | None = None
    ) -> RoutedVersion:
        place = self.directory / "source"
        return await publish(self.registry, place, voice, weight=weight, profile=profile)

    def route(self, **models: list[RoutedVersion]) -> None:
        """Write the table, as the operator does."""
        self.models = models
        self.api.put(table_of(models, tuple(pod.address for pod in self.pods)))

    async def loaded(self, *versions: RoutedVersion) -> None:
        """Until the gateway would send requests for these versions to every engine."""

        def everywhere() -> bool:
            engines = list(self.gateway.fleet.engines)
            held = all(e.name_of(v.digest) for e in engines for v in versions)
            return len(engines) == len(self.pods) and held

        await eventually(everywhere)

    async def ask(self, model: str, **more: object) -> httpx.Response:
        return await self.public.post(
            "/v1/completions", json={"model": model, "prompt": "a", **more}
        )

    async def metrics(self) -> str:
        return (await self.admin.get("/metrics")).text

    async def counted(self, name: str, **labels: str) -> float:
        """The value of one series of the gateway; 0 where there is none."""
        families = text_string_to_metric_families(await self.metrics())
        samples = [s for family in families for s in family.samples]
        found = [s.value for s in samples if s.name == name and s.labels.items() >= labels.items()]
        return sum(found)


@asynccontextmanager
async def engine_pod(
    directory: Path,
    api: FakeApiServer,
    engine: FakeEngine | None = None,
    recheck_seconds: float = 0,
    trust: Path | None = None,
    signed_base: Path | None = None,
    table_key: str = ROUTING_TABLE_KEY,
) -> AsyncIterator[EnginePod]:
    directory.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        engine = engine or FakeEngine()
        await stack.enter_async_context(engine.running())
        settings = AgentSettings(
            table=replace(api.source(directory), keys=(table_key,)),
            service="svc",
            pod="pod",
            engine_url=f"http://{engine.address}",
            base_name=BASE,
            adapter_directory=directory / "adapters",
            registry_credentials=directory / "nothing",
            trust=trust,
            max_body_bytes=1 << 20,
            host="127.0.0.1",
            port=0,
            answer_seconds=10,
            recheck_seconds=recheck_seconds,
            stopping=STOPPING,
            signed_base=signed_base,
        )
        agent = Agent(settings)
        await stack.enter_async_context(agent.engine)
        stack.push_async_callback(agent.artifacts.close)
        await stack.enter_async_context(working(*agent.background))
        pod = EnginePod(engine, agent, await stack.enter_async_context(serving(agent.app)))
        try:
            yield pod
        finally:
            agent.lifecycle.drain()


@asynccontextmanager
async def working(*work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Background work for the time of a block; what it raises is the test's failure."""

    async def one(what: Callable[[], Awaitable[None]]) -> None:
        await what()

    tasks = [asyncio.create_task(one(what)) for what in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [e for e in ended if isinstance(e, Exception)]
        assert not faults, faults


@asynccontextmanager
async def data_plane(
    directory: Path,
    *,
    engines: int = 1,
    keys: Path | None = None,
    max_body_bytes: int = 1 << 20,
    feedback: FeedbackSettings | None = None,
    capture: CaptureSettings | None = None,
    abuse: AbuseSettings | None = None,
) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(FakeRegistry().running())
        api = await stack.enter_async_context(FakeApiServer().running())
        pods = [
            await stack.enter_async_context(engine_pod(directory / f"engine-{n}", api))
            for n in range(engines)
        ]
        settings = GatewaySettings(
            table=replace(api.source(directory), keys=(GATEWAY_TABLE_KEY, ROUTING_TABLE_KEY)),
            service="svc",
            pod="gateway",
            api_keys=keys,
            max_body_bytes=max_body_bytes,
            host="127.0.0.1",
            port=0,
            admin_port=0,
            answer_seconds=10,
            stopping=STOPPING,
            feedback=feedback,
            capture=capture,
            abuse=abuse,
        )
        gateway = Gateway(settings)
        stack.push_async_callback(gateway.fleet.close)
        await stack.enter_async_context(working(*gateway.background))
        public = await stack.enter_async_context(serving(gateway.public))
        admin = await stack.enter_async_context(serving(gateway.admin))
        front, back = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{a}", timeout=30))
            for a in (public, admin)
        ]
        yield Stack(directory, registry, api, pods, gateway, front, back)


class AgentWorld:
    """One engine pod, a registry and a table."""

    def __init__(
        self, directory: Path, registry: FakeRegistry, api: FakeApiServer, pod: EnginePod
    ) -> None:
        self.directory, self.registry, self.api, self.pod = directory, registry, api, pod
        self.engine, self.agent = pod.engine, pod.agent

    def route(self, *versions: RoutedVersion) -> None:
        self.api.put(naming(table_of({v.version: [v] for v in versions})))

    async def publish(self, voice: str, **more: object) -> RoutedVersion:
        return await publish(self.registry, self.directory / "source", voice, **more)  # type: ignore[arg-type]

    async def loaded(self, *versions: RoutedVersion) -> None:
        await eventually(lambda: all(self.pod.state(v.version) == "Loaded" for v in versions))

    async def failed(self, version: RoutedVersion) -> tuple[str | None, str | None]:
        await eventually(lambda: self.pod.state(version.version) == "Failed")
        found = self.pod.states()[version.version]
        return found.reason, found.message

    @property
    def files(self) -> Path:
        return self.directory / "pod" / "adapters"

    def directories(self) -> list[Path]:
        return [p for p in self.files.iterdir() if len(p.name) == 64]


@asynccontextmanager
async def agent_world(
    directory: Path, trust: Path | None = None, signed_base: Path | None = None
) -> AsyncIterator[AgentWorld]:
    """An agent beside a fake engine, ready and with nothing to serve."""
    async with (
        FakeRegistry().running() as registry,
        FakeApiServer().running() as api,
        engine_pod(directory / "pod", api, trust=trust, signed_base=signed_base) as pod,
    ):
        world = AgentWorld(directory, registry, api, pod)
        world.route()
        await eventually(lambda: pod.agent.board.report.engine_ready)
        yield world
