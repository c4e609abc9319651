"""Wiring: the only module that sees everything.

kopf ─────────► store ──► dispatcher ──► one queue per kind ──► reconcilers ──► fence ──► cluster
reflectors ───►   ▲                                                                         │
                  └──────────────────────── answers to own writes ◄─────────────────────────┘

A standby runs the reflectors only, for our kinds too; everything else begins with leadership.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
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
from trimtab_operator.adapters.kinds import OURS, Kind, abandoned, watched
from trimtab_operator.adapters.lease import Election, Leadership, Unopposed
from trimtab_operator.adapters.leftovers import LeftoverLister
from trimtab_operator.adapters.pods import HttpPods
from trimtab_operator.adapters.reflector import Lister, Reflector
from trimtab_operator.adapters.registry import OciRegistry
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import Gone
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.handlers import feed
from trimtab_operator.handlers.dispatch import Dispatcher
from trimtab_operator.handlers.resync import Resync
from trimtab_operator.reconcilers import finetunejob, inferenceservice, modelversion
from trimtab_operator.reconcilers.ports import Key, World
from trimtab_operator.settings import Settings
from trimtab_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)
Reconciler = Callable[[Key, World], Awaitable[Outcome]]

RECONCILERS: Final[dict[str, Reconciler]] = {
    "FineTuneJob": finetunejob.reconcile,
    "ModelVersion": modelversion.reconcile,
    "InferenceService": inferenceservice.reconcile,
}
SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
# What is on its way when SIGTERM comes has this long to be answered.
DRAIN_SECONDS: Final = 5.0


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
        self._scopes: Sequence[str | None] = settings.watch_namespaces or [None]
        self._fence = Fence()
        self._ready = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM; raises LeadershipLost (in a group) when another replica may lead."""
        self._hear_signals()
        async with AsyncExitStack() as stack:
            runner = await metrics.serve(self._telemetry, self._port)
            stack.push_async_callback(runner.cleanup)
            api = await Api.connect()
            stack.push_async_callback(api.close)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            registry = await stack.enter_async_context(
                OciRegistry(plain_http=self._settings.registry.plain_http)
            )
            pods = HttpPods(session)
            stack.push_async_callback(pods.close)
            cluster = ApiCluster(api.fenced(self._fence), self._store, self._telemetry, self._clock)
            world = World(
                cluster=cluster,
                registry=registry,
                pods=pods,
                agents=pods,
                clock=self._clock,
                settings=self._settings,
            )
            queues = {
                kind: WorkQueue(kind, partial(_reconcile, reconcile, world), self._telemetry)
                for kind, reconcile in RECONCILERS.items()
            }
            await self._until_stopped(api, queues, pods)

    async def _until_stopped(
        self, api: Api, queues: Mapping[str, WorkQueue], pods: HttpPods
    ) -> None:
        leadership = self._leadership(api)
        self._telemetry.ready_when(lambda: self._ready and leadership.has_looked)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._stand_by_and_lead(api, leadership, queues, pods))
            await self._stop.wait()
            self._ready = False
            # Nothing new is written, and the next leader waits for what is on its way. Where that
            # takes too long the lease lapses instead: then the writes have had time to end.
            self._fence.close()
            if await self._fence.idle(DRAIN_SECONDS):
                await leadership.give_back()
            work.cancel()

    async def _stand_by_and_lead(
        self,
        api: Api,
        leadership: Leadership,
        queues: Mapping[str, WorkQueue],
        pods: HttpPods,
    ) -> None:
        """Follow the world, so that there is little to do when the lease becomes ours."""
        followed = [
            self._lister(api, kind, scope, SELECTOR)
            for kind in watched(self._settings.exposure.kind)
            for scope in self._scopes
        ]
        children = [Reflector(api, each, self._telemetry, SELECTOR) for each in followed]
        listers = [self._lister(api, kind, scope, "") for kind in OURS for scope in self._scopes]
        ours = [Reflector(api, lister, self._telemetry, "") for lister in listers]
        async with asyncio.TaskGroup() as tasks:
            for reflector in children:
                tasks.create_task(reflector.run())
            until_kopf = [tasks.create_task(reflector.run()) for reflector in ours]
            # Nothing is decided before the observed world is complete: absence must mean absence.
            for reflector in (*children, *ours):
                await reflector.synced.wait()
            log.info("the observed world is complete")
            self._ready = True
            await leadership.win()
            tasks.create_task(leadership.keep())
            dispatcher = Dispatcher(self._store, queues)
            pods.on_change(dispatcher.wake)
            dispatcher.all_again(timedelta(0))
            for queue in queues.values():
                tasks.create_task(queue.run())
            unwatched = [*listers, *self._leftovers(api)]
            seconds = self._settings.resync_seconds
            resync = Resync(unwatched, followed, dispatcher, seconds=seconds)
            tasks.create_task(resync.run())
            for task in until_kopf:
                task.cancel()
            # What changes before kopf has listed, the first resync finds.
            resync.soon()
            await feed.run(self._store, resync.soon, self._settings.watch_namespaces)

    def _hear_signals(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._stop.set)

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

    def _lister(self, api: Api, kind: Kind, scope: str | None, selector: str) -> Lister:
        return Lister(api, kind, self._store, scope, selector)


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
            for kind in OURS:
                with suppress(Gone):  # its CRD was deleted, and its objects with it
                    await Lister(api, kind, store, scope, "").list()
        for kind in OURS:
            for manifest in store.all(kind.name):
                released += await cluster.release(kind, manifest)
    finally:
        await api.close()
    return released
