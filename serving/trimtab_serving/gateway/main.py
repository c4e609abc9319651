"""The gateway's wiring; the only module here that sees everything."""

import os
import time

from trimtab_api.routing import RoutingTable
from trimtab_serving.gateway.admin import admin_app
from trimtab_serving.gateway.app import GatewayApp, PublicRest
from trimtab_serving.gateway.fleet import Fleet
from trimtab_serving.gateway.forward import Forwarder
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.keys import ApiKeys
from trimtab_serving.server import Lifecycle, Listener, run, serve
from trimtab_serving.settings import GatewaySettings
from trimtab_serving.tablewatch import TableWatch


class Gateway:
    """All parts of a gateway, put together."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.metrics = GatewayMetrics()
        self.fleet = Fleet(time.monotonic, settings.answer_seconds)
        self.forwarder = Forwarder(self.fleet, self.metrics)
        self.keys = ApiKeys(settings.api_keys, time.monotonic)
        self.watch = TableWatch(settings.table, self.on_table)
        self.public = GatewayApp(
            self.forwarder,
            self.keys,
            self.metrics,
            PublicRest(self.forwarder, self.keys, created=int(time.time())),
            max_body_bytes=settings.max_body_bytes,
            is_draining=lambda: self.lifecycle.is_draining,
        )
        self.admin = admin_app(self.forwarder, self.metrics, self.lifecycle.told(self.unready))
        self._watch_gauges()

    def on_table(self, table: RoutingTable) -> None:
        self.fleet.update(table.engines)
        self.forwarder.update(table)

    def unready(self) -> str | None:
        if self.lifecycle.is_draining:
            return "this gateway is going away"
        if not self.watch.has_table:
            return "no routing table was seen yet"
        if not self.fleet.is_known:
            return "no engine has said yet what it holds"
        return None

    def _watch_gauges(self) -> None:
        engines = self.fleet.engines
        self.metrics.watch(
            "requests_in_flight",
            "Requests that an engine is answering now.",
            lambda: sum(engine.in_flight for engine in self.fleet.engines),
        )
        self.metrics.watch(
            "engines_ready",
            "Engines that report themselves ready.",
            lambda: sum(engine.is_ready for engine in self.fleet.engines),
        )
        self.metrics.watch("engines", "Engines in the routing table.", lambda: len(engines))
        self.metrics.watch("api_keys", "API keys that are valid now.", lambda: self.keys.count)
        self.metrics.watch(
            "table_watch_connected",
            "1 while the API server is watched; without it the last table stays in force.",
            lambda: float(self.watch.is_connected),
        )

    async def serve(self) -> None:
        settings = self.settings
        try:
            await serve(
                [Listener(self.public, settings.host, settings.port)],
                [Listener(self.admin, settings.host, settings.admin_port)],
                [self.watch.run],
                self.lifecycle,
                settings.stopping,
            )
        finally:
            await self.fleet.close()


async def _main() -> None:
    await Gateway(GatewaySettings.of(os.environ)).serve()


def main() -> None:
    run(_main)
