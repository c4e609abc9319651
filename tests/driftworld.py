"""A service whose traffic is watched: what its gateways count, scrape by scrape, and what follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.builders import dataset, fine_tune_job
from tests.fakes import FakeWorld
from tests.servicelife import KEY, answers, loaded, run, seen, world_of
from tests.servingbuilders import NAMESPACE, a_ready_version, a_service

from trimtab_api.v1alpha1.drift import DriftStatus
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.reconcilers.inferenceservice import reconcile

SCRAPE = 15
USUAL = {"en": 0.9, "de": 0.1}
MOVED = {"en": 0.5, "de": 0.1, "fr": 0.4}
TEMPLATE = "nightly"


@dataclass
class Gateways:
    """The counters of the service's gateway pods, by their labels."""

    fake: FakeWorld
    pods: tuple[str, ...] = ("chat-gateway-5d-a",)
    counts: dict[tuple[str, str, str], float] = field(default_factory=dict)
    samples: dict[tuple[str, str, str], list[Sample]] = field(default_factory=dict)

    def serve(self, shares: Mapping[str, float], each: int = 50, version: str = "bot-1") -> None:
        """So many openings at each gateway until the next scrape."""
        self.fake.clock.advance(seconds=SCRAPE)
        now = self.fake.clock.now().timestamp()
        for pod in self.pods:
            for language, share in shares.items():
                key = (pod, version, language)
                self.counts[key] = self.counts.get(key, 0.0) + round(each * share)
            for key, value in self.counts.items():
                if key[0] == pod:
                    self.samples.setdefault(key, []).append(Sample(now, value))
        self.fake.metrics.series = [
            RawSeries(
                {"pod": pod, "version": by, "signal": "Languages", "bucket": bucket}, tuple(found)
            )
            for (pod, by, bucket), found in self.samples.items()
            if by == version
        ]

    def restart(self) -> None:
        """The pods begin to count anew."""
        self.counts = dict.fromkeys(self.counts, 0.0)


def watched_model(**changes: Any) -> dict[str, Any]:
    model: dict[str, Any] = {
        "name": "bot",
        "version": {"name": "bot-1"},
        "drift": {"signals": ["Languages"]},
    }
    return {**model, **changes}


def following(
    on_drift: str, retrain: Mapping[str, Any] | None = None, **drift: Any
) -> dict[str, Any]:
    """A model that follows the newest version and is retrained by the template."""
    return watched_model(
        version={"latestOf": "bot"},
        drift={"signals": ["Languages"], "onDrift": on_drift, **drift},
        retrain={"template": {"name": TEMPLATE}, **(retrain or {})},
    )


def a_template(**spec: Any) -> dict[str, Any]:
    """A job that was made to be copied; it learns from the Dataset `tickets`."""
    given = {"dataset": {"name": "tickets"}, "output": {"model": "bot"}, "suspend": True, **spec}
    made = fine_tune_job(TEMPLATE, NAMESPACE)
    made["spec"] = {**made["spec"], **given}
    return made


async def watching(*objects: Any, **model: Any) -> tuple[FakeWorld, Gateways]:
    """A service that answers, with one model that is watched."""
    wanted = model or watched_model()
    service = a_service(models={})
    spec = service.to_wire() | {"kind": "InferenceService"}
    spec["spec"]["models"] = [wanted]  # type: ignore[index]
    fake = world_of(spec, a_ready_version("bot-1"), *objects)
    fake.settings = fake.settings.model_copy(
        update={"prometheus": fake.settings.prometheus.model_copy(update={"url": "http://p"})}
    )
    await reconcile(KEY, fake.world)
    run(fake, "chat-engine", ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake, "bot-1")
    answers(fake, bot="bot-1")
    for _ in range(4):
        await reconcile(KEY, fake.world)
    return fake, Gateways(fake)


async def go_on(
    fake: FakeWorld,
    gateways: Gateways,
    shares: Mapping[str, float],
    minutes: int,
    each: int = 50,
    version: str = "bot-1",
) -> Outcome | None:
    """Minutes of traffic; the operator looks once in each."""
    outcome = None
    for _ in range(minutes):
        for _ in range(60 // SCRAPE):
            gateways.serve(shares, each, version)
        fake.clock.time += timedelta(seconds=7)  # not just at a scrape
        outcome = await reconcile(KEY, fake.world)
        fake.clock.time -= timedelta(seconds=7)
    return outcome


async def drifted(*objects: Any, **model: Any) -> tuple[FakeWorld, Gateways]:
    """The same, after its traffic has moved."""
    fake, gateways = await watching(*objects, **model)
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 12)
    return fake, gateways


def drift(fake: FakeWorld) -> DriftStatus:
    (bot,) = (m for m in seen(fake).status.models if m.name == "bot")
    assert bot.drift is not None
    return bot.drift


def the_data(**changes: Any) -> dict[str, Any]:
    return dataset("tickets", NAMESPACE, **changes)
