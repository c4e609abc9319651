"""The agent's wiring; the only module here that sees everything."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.routing import RoutingTable
from trimtab_serving.agent.app import OWN_PATHS, PROFILES, agent_app
from trimtab_serving.agent.artifacts import Artifacts
from trimtab_serving.agent.board import Board
from trimtab_serving.agent.engine import EngineClient
from trimtab_serving.agent.keeper import Keeper
from trimtab_serving.agent.loader import Loader
from trimtab_serving.agent.metrics import AgentMetrics
from trimtab_serving.agent.proxy import AllowList, Proxy
from trimtab_serving.agent.signatures import Signatures
from trimtab_serving.agent.store import AdapterStore
from trimtab_serving.agent.supervisor import Supervisor
from trimtab_serving.agent.use import Use
from trimtab_serving.server import Lifecycle, Listener, run, serve
from trimtab_serving.settings import AgentSettings
from trimtab_serving.tablewatch import TableWatch
from trimtab_serving.upstream import Upstream

# vLLM drops an unused connection after 5 s; whoever sends must be the first to let go.
ENGINE_IDLE_SECONDS = 3.0


class Agent:
    """All parts of an agent, put together; made inside a running loop."""

    def __init__(self, settings: AgentSettings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.metrics = AgentMetrics()
        self.board = Board(
            first_sequence=int(time.time() * 1000),
            verifies_signatures=settings.trust is not None,
            verifies_base=settings.signed_base is not None,
        )
        self.use = Use()
        self.engine = EngineClient(settings.engine_url)
        self.artifacts = Artifacts(settings.registry_credentials)
        self.store = AdapterStore(settings.adapter_directory, self.artifacts)
        self.signatures = Signatures(
            settings.trust,
            self.store,
            self.artifacts,
            settings.trusted_subjects,
            settings.signed_base,
        )
        loader = Loader(
            self.engine,
            self.store,
            self.signatures,
            settings.base_name,
            stamp=f"{int(time.time()):x}",
        )
        self.keeper = Keeper(loader, self.board, self.use, self.metrics, settings.pod)
        self.supervisor = Supervisor(self.engine, self.keeper, settings.base_name)
        self.watch = TableWatch(settings.table, self.on_table)
        self.app = AllowList(
            self._proxy(),
            agent_app(
                self.board,
                self.engine,
                self.metrics,
                self.lifecycle.told(lambda: self.keeper.unready),
                self._profile,
            ),
            OWN_PATHS,
            PROFILES,
        )
        self.lifecycle.on_drain(self.keeper.drain)
        self.lifecycle.on_drain(self.board.finish)
        self._swept = False
        self._table: RoutingTable | None = None
        self._watch_gauges()

    def _proxy(self) -> Proxy:
        where = urlsplit(self.settings.engine_url)
        self.upstream = Upstream(
            where.hostname or "127.0.0.1",
            where.port or 80,
            idle_seconds=ENGINE_IDLE_SECONDS,
            answer_seconds=self.settings.answer_seconds,
        )
        return Proxy(
            self.upstream,
            self.use,
            serves=self.keeper.serves,
            doubt=self.supervisor.doubt,
            max_body_bytes=self.settings.max_body_bytes,
        )

    def _watch_gauges(self) -> None:
        self.metrics.watch(
            "engine_ready",
            "1 while the engine can take requests, with every version that has some.",
            lambda: float(self.keeper.unready is None),
        )
        self.metrics.watch("requests_in_flight", "Requests in the engine.", lambda: self.use.total)
        self.metrics.watch(
            "table_watch_connected",
            "1 while the API server is watched; without it the last table stays in force.",
            lambda: float(self.watch.is_connected),
        )

    def on_table(self, table: RoutingTable) -> None:
        if not self._swept:  # what an earlier process left and nobody wants any more
            self._swept = True
            self.store.sweep({version.digest for m in table.models for version in m.versions})
        self._table = table
        self.keeper.on_table(table)

    async def _profile(self, digest: str) -> ReferenceProfile | None:
        table = self._table
        versions = [v for m in table.models for v in m.versions] if table else []
        version = next((v for v in versions if v.digest == digest), None)
        if table is None or version is None:
            return None
        return await self.store.profile(version, plain_http=table.plain_http)

    async def _recheck(self) -> None:
        if self.settings.recheck_seconds > 0:
            await self.keeper.recheck(self.settings.recheck_seconds)
        await asyncio.Event().wait()

    async def _prepare(self) -> None:
        await self.signatures.prepare()
        await asyncio.Event().wait()

    @property
    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """What goes on for as long as the agent lives."""
        return [self.watch.run, self.keeper.run, self.supervisor.run, self._recheck, self._prepare]

    async def serve(self) -> None:
        settings = self.settings
        async with self.engine:
            try:
                await serve(
                    [Listener(self.app, settings.host, settings.port)],
                    [],
                    self.background,
                    self.lifecycle,
                    settings.stopping,
                )
            finally:
                await self.artifacts.close()


async def _main() -> None:
    await Agent(AgentSettings.of(os.environ)).serve()


def main() -> None:
    run(_main)
