"""The gateway's wiring; the only module here that sees everything."""

import os
import time
from collections.abc import Awaitable, Callable

from trimtab_api.routing import RoutingTable
from trimtab_serving.gateway.admin import admin_app
from trimtab_serving.gateway.app import GatewayApp, PublicRest
from trimtab_serving.gateway.callers import Callers
from trimtab_serving.gateway.capture import Capture
from trimtab_serving.gateway.capturefiles import CaptureFiles
from trimtab_serving.gateway.feedback import Feedback, Limits
from trimtab_serving.gateway.fleet import Fleet
from trimtab_serving.gateway.forward import Forwarder
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.gateway.observer import Observer
from trimtab_serving.gateway.responseids import ResponseIds
from trimtab_serving.gateway.topics import TopicModels
from trimtab_serving.gateway.watching import Watching
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
        self.topics = TopicModels(self.fleet.profile, time.monotonic)
        self.capture = self._capture()
        self.callers = self._known_callers()
        self.observer = Observer(self.metrics.signals, self.topics, self.capture, self.callers)
        self.ids = self._response_ids()
        self.watching = Watching(
            self.metrics.signals,
            self.observer,
            time.monotonic,
            ids=self.ids,
            is_chosen=self.capture.is_chosen if self.capture else lambda: False,
        )
        self.public = GatewayApp(
            self.forwarder,
            self.keys,
            self.metrics,
            self.watching,
            PublicRest(
                self.forwarder, self.keys, created=int(time.time()), feedback=self._feedback()
            ),
            callers=self.callers,
            max_body_bytes=settings.max_body_bytes,
            is_draining=lambda: self.lifecycle.is_draining,
        )
        self.admin = admin_app(self.forwarder, self.metrics, self.lifecycle.told(self.unready))
        self._watch_gauges()

    def on_table(self, table: RoutingTable) -> None:
        self.fleet.update(table.engines)
        self.forwarder.update(table)
        self.watching.follow(table, self.forwarder.routes)

    def _capture(self) -> Capture | None:
        settings = self.settings.capture
        if settings is None:
            return None
        files = CaptureFiles(
            settings.directory,
            self.settings.pod,
            retention_seconds=settings.retention_seconds,
            max_bytes=settings.max_bytes,
            wall=time.time,
        )
        return Capture(files, self.metrics.signals, settings.percent)

    def _known_callers(self) -> Callers | None:
        if self.settings.abuse is None:
            return None
        callers = Callers(self.settings.abuse, self.metrics.callers, time.monotonic)
        self.metrics.before_scrapes(callers.tell)
        return callers

    def _response_ids(self) -> ResponseIds | None:
        settings = self.settings
        if settings.feedback is None:
            return None
        service = f"{settings.table.namespace}/{settings.service}"
        return ResponseIds(service, settings.feedback.secret, time.monotonic, time.time)

    def _feedback(self) -> Feedback | None:
        settings = self.settings.feedback
        if settings is None or self.ids is None:
            return None
        limits = Limits(settings.per_minute, settings.within_seconds)
        return Feedback(
            self.keys,
            self.ids,
            self.watching.tags,
            self.metrics.signals,
            self.capture,
            limits,
            time.monotonic,
        )

    @property
    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """What goes on for as long as the gateway lives."""
        beside = [self.observer.run, self.topics.run]
        return [self.watch.run, *beside, *([self.capture.run] if self.capture else [])]

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
        self.metrics.watch(
            "exchanges_waiting",
            "Exchanges that were answered and wait to be looked at.",
            lambda: self.observer.waiting,
        )
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
                self.background,
                self.lifecycle,
                settings.stopping,
            )
        finally:
            await self.fleet.close()


async def _main() -> None:
    await Gateway(GatewaySettings.of(os.environ)).serve()


def main() -> None:
    run(_main)
