"""Wiring: the only module that sees everything.

kopf begins and ends it; then

reflectors ──► store ──► dispatcher ──► one queue per kind ──► reconcilers ──► fence ──► cluster
                 ▲                                                                         │
                 └──────────────────────── answers to own writes ◄─────────────────────────┘

A standby runs the reflectors only; everything behind them begins with leadership.
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import aiohttp

from trimtab_api import names
from trimtab_operator.adapters import telemetry as metrics
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.cluster import ApiCluster
from trimtab_operator.adapters.fence import Fence
from trimtab_operator.adapters.kinds import FINALIZED, OURS, Kind, abandoned, watched
from trimtab_operator.adapters.lease import Election, Leadership, Unopposed
from trimtab_operator.adapters.leftovers import LeftoverLister
from trimtab_operator.adapters.namespaces import NamespaceLister
from trimtab_operator.adapters.pods import HttpPods
from trimtab_operator.adapters.prometheus import Credentials, Prometheus
from trimtab_operator.adapters.reflector import Lister, Reflector
from trimtab_operator.adapters.registry import OciRegistry
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import Gone
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.handlers import process
from trimtab_operator.handlers.dispatch import Dispatcher
from trimtab_operator.handlers.resync import Resync
from trimtab_operator.reconcilers import (
    dataset,
    decision,
    finetunejob,
    inferenceservice,
    modelversion,
)
from trimtab_operator.reconcilers.ports import Key, World
from trimtab_operator.settings import Settings
from trimtab_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)
Reconciler = Callable[[Key, World], Awaitable[Outcome]]

RECONCILERS: Final[dict[str, Reconciler]] = {
    "Dataset": dataset.reconcile,
    "FineTuneJob": finetunejob.reconcile,
    "ModelVersion": modelversion.reconcile,
    "InferenceService": inferenceservice.reconcile,
    "Decision": decision.reconcile,
}
SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
# What is on its way when SIGTERM comes has this long to be answered.
DRAIN_SECONDS: Final = 5.0
# Allocations between two collections until the observed world is complete.
LOADING_THRESHOLD: Final = 200_000


@dataclass(frozen=True)
class _Parts:
    """What a leader works with."""

    api: Api
    cluster: ApiCluster
    pods: HttpPods
    queues: Mapping[str, WorkQueue]


class Operator:
    """One operator process. Nothing in it outlives `run`; all state is in the cluster."""

    def __init__(
        self,
        settings: Settings,
        *,
        port: int = names.PORT_OPERATOR_METRICS,
        clock: SystemClock | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._port = port
        self._telemetry = Telemetry()
        self._store = Store()
        for kind in (*OURS, *_children(settings)):
            self._telemetry.objects.labels(kind.name).set_function(
                partial(self._store.count, kind.name)
            )
        self._scopes: Sequence[str | None] = settings.watch_namespaces or [None]
        self._fence = Fence()
        self._ready = False
        self._stack = AsyncExitStack()
        self._lead: Leadership = Unopposed(self._fence)
        self._work: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM; raises LeadershipLost (in a group) when another replica may lead."""
        await process.run(self._begin, self._end, self._over)
        if self._work is not None and not self._work.cancelled():
            self._work.result()

    async def _begin(self) -> None:
        parts = await self._open()
        self._lead = self._leadership(parts.api)
        self._telemetry.ready_when(lambda: self._ready and self._lead.has_looked)
        self._work = asyncio.create_task(self._stand_by_and_lead(parts))
        self._work.add_done_callback(lambda _: self._over.set())

    async def _end(self) -> None:
        self._ready = False
        # Nothing new is written, and the next leader waits for what is on its way. Where that
        # takes too long the lease lapses instead: then the writes have had time to end.
        self._fence.close()
        if self._work is not None:
            if not self._work.done() and await self._fence.idle(DRAIN_SECONDS):
                await self._lead.give_back()
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._stack.aclose()

    async def _open(self) -> "_Parts":
        """The connections, each closed again at the end."""
        stack, settings = self._stack, self._settings
        runner = await metrics.serve(self._telemetry, self._port, profiling=settings.profiling)
        stack.push_async_callback(runner.cleanup)
        api = await Api.connect()
        stack.push_async_callback(api.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        registry = await stack.enter_async_context(
            OciRegistry(plain_http=settings.registry.plain_http)
        )
        pods = HttpPods(session)
        stack.push_async_callback(pods.close)
        cluster = ApiCluster(api.fenced(self._fence), self._store, self._telemetry, self._clock)
        world = World(
            cluster=cluster,
            registry=registry,
            pods=pods,
            agents=pods,
            metrics=Prometheus(
                session, settings.prometheus.url, Credentials.of(settings.prometheus)
            ),
            tally=self._telemetry,
            clock=self._clock,
            settings=settings,
        )
        queues = {
            kind: WorkQueue(kind, partial(_reconcile, reconcile, world), self._telemetry)
            for kind, reconcile in RECONCILERS.items()
        }
        return _Parts(api, cluster, pods, queues)

    async def _stand_by_and_lead(self, parts: "_Parts") -> None:
        """Follow the world, so that there is little to do when the lease becomes ours."""
        # Ten thousand objects are a million pieces and hardly a cycle: while they come, the collector
        # would look through them again and again.
        usual = gc.get_threshold()
        gc.set_threshold(LOADING_THRESHOLD)
        listers = self._listers(parts.api)
        reflectors = [Reflector(parts.api, each, self._telemetry) for each in listers]
        async with asyncio.TaskGroup() as tasks:
            for reflector in reflectors:
                tasks.create_task(reflector.run())
            # Nothing is decided before the observed world is complete: absence must mean absence.
            for reflector in reflectors:
                await reflector.synced.wait()
            log.info("the observed world is complete")
            # What is there now stays for long, and is not looked through later either.
            gc.freeze()
            gc.set_threshold(*usual)
            self._ready = True
            await self._lead.win()
            tasks.create_task(self._lead.keep())
            dispatcher = Dispatcher(self._store, parts.queues)
            parts.pods.on_change(dispatcher.wake)
            dispatcher.all_again(timedelta(0))
            queues = parts.queues.values()
            for queue in queues:
                tasks.create_task(queue.run())
            events = parts.cluster.recorder.run(lambda: any(each.is_crowded for each in queues))
            tasks.create_task(events)
            seconds = self._settings.resync_seconds
            leftovers = self._leftovers(parts.api)
            await Resync(listers, leftovers, dispatcher, seconds=seconds).run()

    def _leadership(self, api: Api) -> Leadership:
        wanted = self._settings.leader_election
        if not wanted.enabled:
            return Unopposed(self._fence)
        return Election(
            api, self._fence, self._telemetry, namespace=wanted.namespace, name=wanted.lease
        )

    def _leftovers(self, api: Api) -> list[Lister]:
        return [
            LeftoverLister(api, kind, self._store, scope, SELECTOR)
            for kind in abandoned(self._settings.exposure.kind)
            for scope in self._scopes
        ]

    def _listers(self, api: Api) -> list[Lister]:
        """What is followed: all of our kinds, what we have made of others, and namespaces."""
        children = [(kind, SELECTOR) for kind in _children(self._settings)]
        followed: list[Lister] = [
            Lister(api, kind, self._store, scope, selector)
            for kind, selector in (*((kind, "") for kind in OURS), *children)
            for scope in self._scopes
        ]
        return [*followed, *(NamespaceLister(api, self._store, each) for each in self._scopes)]


def _children(settings: Settings) -> tuple[Kind, ...]:
    return watched(settings.exposure.kind, ray=settings.ray.enabled)


async def _reconcile(reconcile: Reconciler, world: World, key: Key) -> Outcome:
    return await reconcile(key, world)


async def release_finalizers(settings: Settings) -> int:
    """Take our finalizers off all objects, so that none is stranded when the operator leaves.

    Returns how many objects were let go.
    """
    api = await Api.connect()
    store = Store()
    cluster = ApiCluster(api, store, Telemetry(), SystemClock())
    released = 0
    try:
        scopes: Sequence[str | None] = settings.watch_namespaces or [None]
        for scope in scopes:
            for kind in FINALIZED:
                with suppress(Gone):  # its CRD was deleted, and its objects with it
                    await Lister(api, kind, store, scope, "").list()
        for kind in FINALIZED:
            for manifest in store.all(kind.name):
                released += await cluster.release(kind, manifest)
    finally:
        await api.close()
    return released
