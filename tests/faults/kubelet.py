"""A node that runs nothing: what our pods' programs would do, as far as the rest of the cluster sees.

It reads the document that a pod is given and answers with the one that the real program would leave,
on addresses of the loopback net, so that the operator's own HTTP client finds agents and gateways.
What comes out follows from names alone: two runs of one scenario can be compared.
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from tests.builders import Manifest
from tests.operatorkit import IMAGE_ID

from trimtab_api import names
from trimtab_api.documents import (
    EvaluationResult,
    EvaluationRun,
    PrepareResult,
    PrepareRun,
    RunFailure,
    SigningResult,
    SigningRun,
    TrainingResult,
    TrainingRun,
)
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.model import ApiModel
from trimtab_api.routing import AdapterState, AgentReport, ProbeAnswer, RoutingTable
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.finetunejob import Progress
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import RegistryClient
from trimtab_operator.adapters.api import MERGE, Api
from trimtab_operator.domain.errors import ClusterError, Gone

PORTS = {
    names.TRAIN: names.PORT_TRAINER,
    names.ENGINE: names.PORT_AGENT,
    names.GATEWAY: names.PORT_GATEWAY_ADMIN,
}
TABLE = names.ROUTING_TABLE_KEY
TRAINING_SECONDS = 0.3
LOOKED_EVERY_SECONDS = 0.05
RANK = 8
RESULT_TYPE = "application/vnd.trimtab.result.v1+json"


def digest_of(*parts: str) -> str:
    """A digest that follows from names."""
    return "sha256:" + hashlib.sha256("/".join(parts).encode()).hexdigest()


def numbers() -> Iterator[int]:
    """Of addresses, from a place that follows from the process: benches that run at once seldom meet."""
    begin = os.getpid() % 255 * 250
    return (number % (256 * 250) for number in itertools.count(begin))


class Kubelet:
    """All pods of one namespace. Jobs in `held` train on; those in `hopeless` fail for good.

    Engines of services in `joining` are ready only once the routing table names them; while their
    service is in `held` they have not loaded yet what they need for that.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self.held: set[str] = set()
        self.hopeless: set[str] = set()
        self.joining: set[str] = set()
        self._api = api
        self._namespace = namespace
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._addresses = (f"127.83.{n // 250}.{n % 250 + 1}" for n in numbers())
        self._services: dict[str, str] = {}
        self._tables: dict[str, RoutingTable] = {}
        self._reports: dict[str, AgentReport] = {}
        app = web.Application()
        app.add_routes(
            [
                web.get("/progress", self._progress),
                web.get("/adapters", self._adapters),
                web.get("/probe/{model}", self._probe),
            ]
        )
        self._programs = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def run(self) -> None:
        """Look after pods until cancelled."""
        await self._programs.setup()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow("pods", self._see))
                tasks.create_task(self._follow("configmaps", self._read_table))
        finally:
            for life in self._lives.values():
                life.cancel()
            await asyncio.gather(*self._lives.values(), return_exceptions=True)
            await self._programs.cleanup()

    async def _follow(self, plural: str, tell: Callable[[Manifest, bool], None]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/{plural}"
        while True:
            with suppress(ClusterError):
                listed = await self._api.request("GET", path)
                for item in listed["items"]:
                    tell(item, False)
                version = listed["metadata"]["resourceVersion"]
                async for event in self._api.watch(path, {"resourceVersion": version}):
                    if event["type"] != "BOOKMARK":
                        tell(event["object"], event["type"] == "DELETED")

    def _see(self, pod: Manifest, is_gone: bool) -> None:
        uid = pod["metadata"]["uid"]
        if is_gone:
            if life := self._lives.pop(uid, None):
                life.cancel()
        elif uid not in self._lives:
            self._lives[uid] = asyncio.create_task(self._live(pod))

    def _read_table(self, config_map: Manifest, is_gone: bool) -> None:
        name, text = config_map["metadata"]["name"], config_map.get("data", {}).get(TABLE)
        if (
            text is not None and not is_gone
        ):  # else agents and gateways go on with what they saw last
            self._tables[name] = RoutingTable.model_validate_json(text)

    async def _live(self, pod: Manifest) -> None:
        """Until it is deleted; what a busy API server did not answer is done again."""
        while True:
            try:
                return await self._live_once(pod)
            except Gone:
                return None
            except ClusterError:
                await asyncio.sleep(LOOKED_EVERY_SECONDS)

    async def _live_once(self, pod: Manifest) -> None:
        component = pod["metadata"]["labels"][names.LABEL_COMPONENT]
        if component in _STAGES:
            await self._stage(pod, component)
            return
        async with self._listening(pod, component) as address:
            state = {"running": {"startedAt": _now()}}
            if component == names.ENGINE and self._services[address] in self.joining:
                await self._say(pod, "Running", state, address, is_ready=False)
                while not self._is_named(address):
                    await asyncio.sleep(LOOKED_EVERY_SECONDS)
            await self._say(pod, "Running", state, address)
            await asyncio.Event().wait()

    def _is_named(self, address: str) -> bool:
        table = self._table(address)
        return any(e.address.startswith(f"{address}:") for e in (table.engines if table else []))

    async def _stage(self, pod: Manifest, component: str) -> None:
        job = pod["metadata"]["ownerReferences"][0]["name"]
        path = f"/api/v1/namespaces/{self._namespace}/configmaps/{job}"
        document = (await self._api.request("GET", path))["data"]["run.json"]
        run = _RUNS[component].model_validate_json(document)
        owner: str = run.owner.name
        if component == names.TRAIN:
            await self._train(pod, owner)
        code, result = 0, _STAGES[component](run)
        if component == names.TRAIN and owner in self.hopeless:
            told = RunFailure(reason="LossNotFinite", message="loss is nan")
            code, result = names.EXIT_USER_ERROR, TrainingResult(failure=told)
        ended = {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": result.model_dump_json(by_alias=True, exclude_none=True),
            "finishedAt": _now(),
        }
        # Pushed first, as the programs do: whoever sees the Job's end before the pod's finds it there.
        await self._push(run, component, result)
        await self._say(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    async def _push(self, run: Any, component: str, result: ApiModel) -> None:
        output = (run.data or run.base).output if component == names.PREPARE else run.output
        async with RegistryClient(plain_http=True) as registry:
            await registry.push_document(
                output.repository,
                result.model_dump_json(by_alias=True, exclude_none=True).encode(),
                artifact_type=RESULT_TYPE,
                tag=output.result_tag,
            )

    async def _train(self, pod: Manifest, owner: str) -> None:
        async with self._listening(pod, names.TRAIN) as address:
            await self._say(pod, "Running", {"running": {"startedAt": _now()}}, address)
            await asyncio.sleep(TRAINING_SECONDS)
            while owner in self.held:
                await asyncio.sleep(LOOKED_EVERY_SECONDS)

    @asynccontextmanager
    async def _listening(self, pod: Manifest, component: str) -> AsyncIterator[str]:
        address, site = await self._listener(PORTS[component])
        self._services[address] = pod["metadata"]["labels"].get(names.LABEL_SERVICE, "")
        try:
            yield address
        finally:
            await site.stop()

    async def _listener(self, port: int) -> tuple[str, web.TCPSite]:
        while True:
            address = next(self._addresses)
            site = web.TCPSite(self._programs, address, port)
            try:
                await site.start()
            except OSError:  # another bench's node is on this machine, too
                await site.stop()
            else:
                return address, site

    async def _say(
        self,
        pod: Manifest,
        phase: str,
        state: Manifest,
        address: str = "",
        *,
        is_ready: bool | None = None,
    ) -> None:
        is_ready = phase == "Running" if is_ready is None else is_ready
        status: Manifest = {
            "phase": phase,
            "conditions": [
                {
                    "type": "Ready",
                    "status": str(is_ready),
                    "lastTransitionTime": _now(),
                }
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": IMAGE_ID,
                    "ready": is_ready,
                    "restartCount": 0,
                    "state": state,
                }
                for container in pod["spec"]["containers"]
            ],
        }
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/status"
        await self._api.request("PATCH", path, body={"status": status}, content_type=MERGE)

    # --- the programs that answer over HTTP ---

    async def _progress(self, request: web.Request) -> web.Response:
        return _document(Progress(percent=50, step=5, steps=10))

    async def _adapters(self, request: web.Request) -> web.Response:
        """An agent that loads whatever the table names, at once."""
        address = _address(request)
        after = int(request.query.get("after", "-1"))
        deadline = asyncio.get_running_loop().time() + float(request.query.get("wait", "0"))
        while True:
            report = self._report(address, self._table(address))
            if report.sequence > after or asyncio.get_running_loop().time() > deadline:
                return _document(report)
            await asyncio.sleep(LOOKED_EVERY_SECONDS)

    def _report(self, address: str, table: RoutingTable | None) -> AgentReport:
        held = {
            (v.version, v.digest)
            for model in (table.models if table else [])
            for v in model.versions
            if v.kind is ArtifactKind.ADAPTER
        }
        adapters = [
            AdapterState(version=version, digest=digest, state="Loaded", engine_name=version)
            for version, digest in sorted(held)
        ]
        service = self._services[address]
        joins = table is not None and service in self.joining and service not in self.held
        before = self._reports.get(address)
        if before is None or (before.adapters, before.joins) != (adapters, joins):
            self._reports[address] = AgentReport(
                sequence=before.sequence + 1 if before else 1,
                verifies_signatures=True,
                knows_pools=True,
                engine_ready=True,
                joins=joins,
                adapters=adapters,
            )
        return self._reports[address]

    async def _probe(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        table = self._table(_address(request))
        routed = [m for m in (table.models if table else []) if m.name == model]
        version = next((v.version for m in routed for v in m.versions if v.weight), None)
        return _document(ProbeAnswer(model=model, version=version, ok=version is not None))

    def _table(self, address: str) -> RoutingTable | None:
        return self._tables.get(f"{self._services[address]}-routing")


# --- what each program makes of its task ---


def _prepare(run: PrepareRun) -> PrepareResult:
    base = data = records = None
    if run.base:
        base = _prepared(run.base.output.repository, run.owner.name, "base")
    if run.data:
        data = _prepared(run.data.output.repository, run.owner.name, "data")
        records = PreparedRecords(read=10, kept=10, train=8, validation=1, test=1)
    return PrepareResult(base=base, data=data, records=records)


def _prepared(repository: str, *parts: str) -> PreparedArtifact:
    digest = digest_of(*parts)
    return PreparedArtifact(uri=f"oci://{repository}@{digest}", digest=digest)


def _train(run: TrainingRun) -> TrainingResult:
    digest = digest_of(run.owner.name, "trained")
    artifact = TrainedArtifact(
        uri=f"oci://{run.output.repository}@{digest}",
        digest=digest,
        kind=ArtifactKind.ADAPTER,
        rank=RANK,
        size_bytes=42,
    )
    return TrainingResult(artifact=artifact, progress=Progress(percent=100, step=10, steps=10))


def _evaluate(run: EvaluationRun) -> EvaluationResult:
    digest = digest_of(run.owner.name, "report")
    return EvaluationResult(
        report_uri=f"oci://{run.output.repository}@{digest}",
        examples=10,
        metrics=[MetricValue(metric=Metric.ROUGE_L, value=0.4, base=0.1)],
        rank=run.rank,
        size_bytes=42,
    )


def _sign(run: SigningRun) -> SigningResult:
    digest = digest_of(run.owner.name, "bundle")
    return SigningResult(
        bundle_uri=f"oci://{run.output.repository}@{digest}",
        signer=run.source,
        is_report_covered=True,
    )


_RUNS: dict[str, Any] = {
    names.PREPARE: PrepareRun,
    names.TRAIN: TrainingRun,
    names.EVALUATE: EvaluationRun,
    names.SIGN: SigningRun,
}
_STAGES: dict[str, Callable[[Any], ApiModel]] = {
    names.PREPARE: _prepare,
    names.TRAIN: _train,
    names.EVALUATE: _evaluate,
    names.SIGN: _sign,
}


def _address(request: web.Request) -> str:
    assert request.transport is not None
    return str(request.transport.get_extra_info("sockname")[0])


def _document(document: ApiModel) -> web.Response:
    return web.Response(
        text=document.model_dump_json(by_alias=True), content_type="application/json"
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
