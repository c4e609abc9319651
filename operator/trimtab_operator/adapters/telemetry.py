"""Metrics about the operator itself, and the three addresses under which it can be asked.

/metrics for Prometheus; /healthz fails when a watch has gone silent, so that the kubelet starts us
anew; /readyz fails until the observed world is complete and the lease could be read, in a standby
as in the leader: a roll-out waits for replicas that could lead, not for those that do.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from trimtab_operator.adapters.profiling import Profiler

M = TypeVar("M", Counter, Histogram)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Bookmarks come about once a minute; a watch that is silent for that long is broken.
SILENCE_SECONDS = 300.0


class Telemetry:
    """Counters of one operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "trimtab_operator"
        self.reconciles = Counter(
            f"{prefix}_reconciles",
            "Reconciles by kind and outcome.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.errors = Counter(
            f"{prefix}_errors",
            "Reconciles that ended by an error, by class.",
            ["kind", "error"],
            registry=self.registry,
        )
        self.durations = Histogram(
            f"{prefix}_reconcile_seconds",
            "Duration of a reconcile.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waits = Histogram(
            f"{prefix}_queue_wait_seconds",
            "Time that a key waits in the queue.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reactions = Histogram(
            f"{prefix}_change_to_write_seconds",
            "Time from the moment that a key came into the queue to the first write for it.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.age = Gauge(
            f"{prefix}_queue_age_seconds",
            "How long the key that has waited longest has waited; 0 where none waits.",
            ["kind"],
            registry=self.registry,
        )
        self.depth = Gauge(
            f"{prefix}_queue_depth",
            "Keys that wait for a worker.",
            ["kind"],
            registry=self.registry,
        )
        self.writes = Counter(
            f"{prefix}_writes",
            "Requests that change the cluster, by kind and verb.",
            ["kind", "verb"],
            registry=self.registry,
        )
        self.objects = Gauge(
            f"{prefix}_objects", "Objects in the store.", ["kind"], registry=self.registry
        )
        self.watch_restarts = Counter(
            f"{prefix}_watch_restarts",
            "Watches that had to begin anew, by cause.",
            ["kind", "cause"],
            registry=self.registry,
        )
        self.watch_age = Gauge(
            f"{prefix}_watch_age_seconds",
            "Time since a watch has said something, be it a bookmark.",
            ["watch"],
            registry=self.registry,
        )
        self.leads = Gauge(
            f"{prefix}_leader",
            "1 in the replica that leads, 0 in the others.",
            registry=self.registry,
        )
        self.renewal_failures = Counter(
            f"{prefix}_lease_renewal_failures",
            "Attempts of the leader to renew its lease that failed.",
            registry=self.registry,
        )
        self.promotions = Counter(
            f"{prefix}_promotions",
            "Candidates that have got all requests of a model.",
            ["namespace", "service", "model"],
            registry=self.registry,
        )
        self.rollbacks = Counter(
            f"{prefix}_rollbacks",
            "Versions that have lost their requests.",
            ["namespace", "service", "model"],
            registry=self.registry,
        )
        self.rollback_seconds = Histogram(
            f"{prefix}_rollback_seconds",
            "Time from the decision to roll back until the routing table was written.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._watches: dict[str, float] = {}
        self._ready: Callable[[], bool] = lambda: False

    def written(self, kind: str, verb: str) -> None:
        """A request that changes the cluster is sent."""
        _of(self.writes, kind, verb).inc()

    def reacted(self, kind: str, seconds: float) -> None:
        """The first write for a key is sent, so long after the key came into the queue."""
        _of(self.reactions, kind).observe(seconds)

    def visited(self, kind: str, outcome: str) -> None:
        """A reconcile has ended."""
        _of(self.reconciles, kind, outcome).inc()

    def promoted(self, namespace: str, service: str, model: str) -> None:
        """A candidate has got all requests."""
        self.promotions.labels(namespace, service, model).inc()

    def rolled_back(self, namespace: str, service: str, model: str, seconds: float) -> None:
        """A version has lost its requests, so long after that was decided."""
        self.rollbacks.labels(namespace, service, model).inc()
        self.rollback_seconds.observe(seconds)

    def heard(self, watch: str) -> None:
        """A watch has said something, be it a bookmark."""
        self._watches[watch] = time.monotonic()

    def ended(self, watch: str) -> None:
        """A watch that was ended on purpose is not silent."""
        self._watches.pop(watch, None)

    def silent_watches(self) -> list[str]:
        """Watches that have said nothing for too long."""
        limit = time.monotonic() - SILENCE_SECONDS
        return sorted(watch for watch, moment in self._watches.items() if moment < limit)

    def ready_when(self, ready: Callable[[], bool]) -> None:
        """Who knows whether we are ready."""
        self._ready = ready

    def application(self, *, profiling: bool = False) -> web.Application:
        """The HTTP side."""
        app = web.Application()
        if profiling:
            Profiler().add_to(app)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        now = time.monotonic()
        self.watch_age.clear()
        for watch, moment in self._watches.items():
            self.watch_age.labels(watch).set(now - moment)
        body = generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        silent = self.silent_watches()
        if silent:
            return web.Response(status=503, text=f"silent watches: {', '.join(silent)}\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self._ready():
            return web.Response(status=503, text="not able to lead yet\n")
        return web.Response(text="ok\n")


@cache  # prometheus-client searches for them under a lock
def _of(metric: M, *labels: str) -> M:
    return metric.labels(*labels)


async def serve(telemetry: Telemetry, port: int, *, profiling: bool = False) -> web.AppRunner:
    """Start the HTTP side; the caller cleans the runner up."""
    runner = web.AppRunner(telemetry.application(profiling=profiling), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
