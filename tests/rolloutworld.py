"""A service in a rollout, step by step: traffic as Prometheus would have scraped it, and what follows."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import FakeCluster, FakeWorld, settings
from tests.servicelife import KEY, answers, loaded, run
from tests.servingbuilders import a_ready_version, a_service

from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.rollout import RolloutStatus
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.settings import PrometheusSettings

SCRAPE = 5
PLAN: dict[str, Any] = {
    "steps": [{"weight": 10}, {"weight": 50}],
    "stepSeconds": 30,
    "stepRequests": 100,
    "rollbackWindowSeconds": 600,
}
LATEST = {"latestOf": "bot"}
POD = "chat-gateway-5d4-abcde"


@dataclass
class Traffic:
    """Counters of one gateway, scraped every few seconds of the fake's clock."""

    fake: FakeWorld
    model: str = "bot"
    totals: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    counter: str = "units_total"
    label: str = "code"

    def scrape(self) -> None:
        now = self.fake.clock.now().timestamp()
        for place, total in self.totals.items():
            self.samples[place].append(Sample(now, total))
        self.fake.metrics.series = [
            RawSeries(
                {
                    "__name__": f"trimtab_gateway_{self.counter}",
                    "namespace": "ns",
                    "pod": POD,
                    "model": self.model,
                    "version": version,
                    self.label: value,
                },
                tuple(samples),
            )
            for (version, value), samples in self.samples.items()
        ]

    def served(self, version: str, requests: int, errors: int = 0) -> None:
        self.totals[version, "200"] += requests - errors
        if errors:
            self.totals[version, "500"] += errors

    def restart(self) -> None:
        """The gateway begins anew: its counters stand at zero."""
        for place in self.totals:
            self.totals[place] = 0.0


def rolling(plan: dict[str, Any] | None = None, **selector: Any) -> InferenceService:
    service = a_service().to_wire()
    spec: Any = service["spec"]
    spec["models"] = [
        {"name": "bot", "version": selector or LATEST, "rollout": PLAN if plan is None else plan}
    ]
    return InferenceService.model_validate(service)


async def in_rollout(
    plan: dict[str, Any] | None = None, cluster: FakeCluster | None = None, **selector: Any
) -> tuple[FakeWorld, Traffic]:
    """bot-1 answers, and bot-2 has just been loaded."""
    fake = FakeWorld(
        cluster=cluster or FakeCluster(),
        settings=settings(prometheus=PrometheusSettings(url="http://prometheus:9090")),
    )
    fake.cluster.add(rolling(plan, **selector))
    fake.cluster.add(a_ready_version("bot-1"))
    await visits(fake)
    run(fake, "chat-engine", ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake, "bot-1")
    answers(fake, bot="bot-1")
    await visits(fake)
    fake.cluster.add(a_ready_version("bot-2", creationTimestamp="2026-01-02T00:00:00Z"))
    loaded(fake, "bot-1", "bot-2")
    traffic = Traffic(fake)
    traffic.served("bot-1", 1000, 50)
    traffic.scrape()
    await visits(fake)
    return fake, traffic


async def visits(fake: FakeWorld, times: int = 3) -> None:
    for _ in range(times):
        await reconcile(KEY, fake.world)


async def flows(
    fake: FakeWorld,
    traffic: Traffic,
    seconds: int,
    *,
    stable: tuple[int, int] = (0, 0),
    candidate: tuple[int, int] = (0, 0),
) -> None:
    """So much traffic (requests, errors) between two scrapes, and a visit after each."""
    for _ in range(seconds // SCRAPE):
        fake.clock.advance(seconds=SCRAPE)
        if any(stable):
            traffic.served("bot-1", *stable)
        if any(candidate):
            traffic.served("bot-2", *candidate)
        traffic.scrape()
        await visits(fake, 1)


def bot(fake: FakeWorld) -> ServedModelStatus:
    service = fake.cluster.get(InferenceService, KEY)
    assert service is not None
    return next(m for m in service.status.models if m.name == "bot")


def rollout_of(fake: FakeWorld) -> RolloutStatus:
    found = bot(fake).rollout
    assert found is not None
    return found


def reasons(fake: FakeWorld) -> list[str]:
    return [e.reason for e in fake.cluster.events.values()]
