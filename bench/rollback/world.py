"""Everything that a rollback goes through, as processes of their own: API server, operator, gateways, Prometheus.

Only the engine and its agent are the bench's (`engine.py`): what stands between a bad answer and
the last request to the version that gave it is all real.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from bench.operator.controlplane import LOAD, TOP, UNDER_TEST, ControlPlane
from bench.operator.load import connections
from bench.operator.processes import Process, free_ports
from bench.rollback import objects
from bench.rollback.engine import Engine
from bench.rollback.objects import NAMESPACE, SERVICE, SYSTEM_NAMESPACE, Manifest
from tests.ociserver import registry_in_thread

from trimtab_api import names
from trimtab_local import packages
from trimtab_local.layout import layout_from
from trimtab_oci import Reference, RegistryClient

# Loopback addresses of the bench's own, because the operator asks pods at fixed ports.
ENGINE_ADDRESS: Final = "127.77.1.1"
GATEWAY_ADDRESSES: Final = ("127.77.2.1", "127.77.2.2", "127.77.2.3")
SERVICES: Final = f"/apis/trimtab.dev/v1alpha1/namespaces/{NAMESPACE}/inferenceservices"
VERSIONS: Final = f"/apis/trimtab.dev/v1alpha1/namespaces/{NAMESPACE}/modelversions"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIG_MAPS: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
MERGE: Final = "application/merge-patch+json"
PATIENCE_SECONDS: Final = 60.0

Seen = Callable[[float, Manifest], None]


@dataclass(frozen=True)
class Cores:
    """Where operator and gateways run, and where everything else."""

    system: int
    rest: int


class Api:
    """The bench's own client of the API server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @asynccontextmanager
    async def of(cls, plane: ControlPlane) -> AsyncIterator[Self]:
        """With connections of its own, as long as the context lasts."""
        async with connections(plane) as session:
            yield cls(session, plane.url)

    async def send(
        self, method: str, path: str, body: Manifest, style: str = "application/json"
    ) -> Manifest:
        """One request; its answer."""
        data, headers = json.dumps(body), {"Content-Type": style}
        url = f"{self._url}{path}"
        async with self._session.request(method, url, data=data, headers=headers) as answer:
            if answer.status >= 400:
                raise RuntimeError(await answer.text())
            found: Manifest = await answer.json()
            return found

    @asynccontextmanager
    async def watching(self, path: str, name: str, seen: Seen) -> AsyncIterator[None]:
        """Tell of each change of one object, with the moment at which it was heard."""
        url = f"{self._url}{path}?watch=true&fieldSelector=metadata.name={name}"
        async with self._session.get(url) as answer:

            async def follow() -> None:
                async for line in answer.content:
                    seen(time.time(), json.loads(line)["object"])

            following = asyncio.create_task(follow())
            try:
                yield
                if following.done():
                    following.result()
            finally:
                following.cancel()


class Prometheus:
    """The real one, with a log of its queries: when it has answered, and about which moment."""

    def __init__(self, directory: Path, scrape_seconds: int) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._address = f"127.0.0.1:{port}"
        self._directory = directory
        self._scrape = scrape_seconds
        self._log = directory / "queries.log"

    def start(self, gateways: Sequence[tuple[str, str]], core: int) -> Process:
        """Scrape these gateways, each a pod's name and its address."""
        targets = [
            {
                "targets": [f"{address}:{names.PORT_GATEWAY_ADMIN}"],
                "labels": {"namespace": NAMESPACE, "pod": pod},
            }
            for pod, address in gateways
        ]
        config = {
            "global": {
                "scrape_interval": f"{self._scrape}s",
                "scrape_timeout": f"{self._scrape}s",
                "query_log_file": str(self._log),
            },
            "scrape_configs": [{"job_name": "pods", "static_configs": targets}],
        }
        file = self._directory / "prometheus.json"
        file.write_text(json.dumps(config))
        command = (
            str(packages.prometheus(layout_from(os.environ))),
            f"--config.file={file}",
            f"--storage.tsdb.path={self._directory / 'prometheus'}",
            f"--web.listen-address={self._address}",
            "--log.level=warn",
        )
        return Process(command, core, self._directory / "prometheus.log")

    def answered(self, before: float) -> tuple[float, float]:
        """When the operator's last query before this moment was answered, and what time it was about."""
        found = [json.loads(line) for line in self._log.read_text().splitlines()]
        ours = [each for each in found if "trimtab_gateway" in each["params"]["query"]]
        answers = [(_moment(each["ts"]), _moment(each["params"]["end"])) for each in ours]
        return max(answer for answer in answers if answer[0] <= before)

    async def scraped(self, at: float) -> float:
        """When the gateways were last scraped before this moment, the earliest of them."""
        query = {"query": f'min(timestamp(up{{namespace="{NAMESPACE}"}}))', "time": f"{at:.3f}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/query", params=query) as answer,
        ):
            found = await answer.json()
        return float(found["data"]["result"][0]["value"][1])


class World:
    """A service that is at work, and what is needed to give it new versions."""

    def __init__(
        self, api: Api, engine: Engine, prometheus: Prometheus, registry: str, folder: Path
    ) -> None:
        self.api, self.engine, self.prometheus = api, engine, prometheus
        self._prefix = f"{registry}/bench"
        self._folder = folder
        self.base = Reference.parse("oci://none/none")
        self.processes: list[Process] = []

    @property
    def urls(self) -> list[str]:
        """Where the gateways take requests."""
        return [f"http://{address}:{names.PORT_GATEWAY}" for address in GATEWAY_ADDRESSES]

    async def until(self, what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something is so; a program that has ended by itself ends the waiting."""
        end = time.monotonic() + seconds
        while not what():
            for process in self.processes:
                process.check()
            if time.monotonic() > end:
                raise TimeoutError(f"it did not come to pass within {seconds:g} s")
            await asyncio.sleep(0.01)

    async def prepare(self) -> None:
        """The first version, the service, and its pods."""
        for namespace in (NAMESPACE, SYSTEM_NAMESPACE):
            meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            await self.api.send("POST", "/api/v1/namespaces", meta)
        self._folder.mkdir()
        async with RegistryClient(plain_http=True) as registry:
            self.base = await objects.pushed_base(registry, self._prefix, self._folder)
        await self.release("bot-0", bad=False)
        owner = await self.api.send("POST", SERVICES, objects.service(self.base))
        await self._pod(names.ENGINE, "chat-engine-0-0", ENGINE_ADDRESS, owner)
        for number, address in enumerate(GATEWAY_ADDRESSES):
            await self._pod(names.GATEWAY, gateway_pod(number), address, owner)

    async def release(self, name: str, *, bad: bool) -> None:
        """A new version, which the engine holds before the operator hears of it."""
        async with RegistryClient(plain_http=True) as registry:
            adapter, report = await objects.pushed_adapter(
                registry, self._prefix, self._folder, name, self.base
            )
        self.engine.hold({name: adapter.digest or ""}, bad=bad)
        manifest = objects.version(name, self.base, adapter, report)
        await self.api.send("POST", VERSIONS, manifest)

    async def _pod(self, component: str, name: str, address: str, owner: Manifest) -> None:
        await self.api.send("POST", PODS, objects.pod(component, name, owner))
        status = objects.running_at(address)
        await self.api.send("PATCH", f"{PODS}/{name}/status", status, MERGE)


@asynccontextmanager
async def running(directory: Path, cores: Cores, scrape_seconds: int) -> AsyncIterator[World]:
    """All of it; nothing is left behind."""
    async with AsyncExitStack() as stack:
        plane = stack.enter_context(ControlPlane(directory, cores.rest).running())
        registry = stack.enter_context(registry_in_thread())
        api = await stack.enter_async_context(Api.of(plane))
        engine = Engine()
        await stack.enter_async_context(engine.serving(ENGINE_ADDRESS, names.PORT_AGENT))
        prometheus = Prometheus(directory, scrape_seconds)
        world = World(api, engine, prometheus, registry.address, directory / "models")
        await world.prepare()
        pods = [(gateway_pod(n), address) for n, address in enumerate(GATEWAY_ADDRESSES)]
        for start in (
            partial(_operator, plane, prometheus.url, registry.address, cores.system),
            *(partial(_gateway, plane, n, a, cores.system) for n, (_, a) in enumerate(pods)),
            partial(prometheus.start, pods, cores.rest),
        ):
            world.processes.append(start())
            stack.callback(world.processes[-1].stop)
        yield world


def gateway_pod(number: int) -> str:
    """A name as the Deployment's pods have."""
    return f"{SERVICE}-gateway-0-{number}"


def _operator(plane: ControlPlane, prometheus: str, registry: str, core: int) -> Process:
    settings = plane.directory / "operator.json"
    document = {
        "images": {"pipelines": "pipelines:1", "serving": "serving:1", "engine": "engine:1"},
        "registry": {"prefix": f"{registry}/bench", "plainHttp": True},
        "prometheus": {"url": prometheus},
        "leaderElection": {"enabled": True, "namespace": SYSTEM_NAMESPACE},
    }
    settings.write_text(json.dumps(document))
    (port,) = free_ports(1)
    command = ["-m", "trimtab_operator", "--settings", str(settings), "--port", str(port)]
    return Process(
        [sys.executable, *command],
        core,
        plane.directory / "operator.log",
        {
            "PYTHONPATH": _paths("crds", "operator"),
            "KUBECONFIG": str(plane.kubeconfig(UNDER_TEST)),
        },
    )


def _gateway(plane: ControlPlane, number: int, address: str, core: int) -> Process:
    account = plane.directory / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text(LOAD)
    (account / "ca.crt").write_bytes(plane.certificate.read_bytes())
    return Process(
        [sys.executable, "-m", "trimtab_serving", "gateway"],
        core,
        plane.directory / f"gateway-{number}.log",
        {
            "PYTHONPATH": _paths("crds", "serving"),
            "TRIMTAB_API_SERVER": plane.url,
            "TRIMTAB_SERVICE_ACCOUNT": str(account),
            "TRIMTAB_NAMESPACE": NAMESPACE,
            "TRIMTAB_SERVICE": SERVICE,
            "TRIMTAB_POD": gateway_pod(number),
            "TRIMTAB_ROUTING_CONFIGMAP": f"{SERVICE}-routing",
            "TRIMTAB_TABLE_CACHE": "",
            "TRIMTAB_HOST": address,
            "TRIMTAB_STOP_NOTICE_SECONDS": "0",
        },
    )


def _paths(*parts: str) -> str:
    return os.pathsep.join(str(TOP / part) for part in parts)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
