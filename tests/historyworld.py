"""A service that has seen what a history tells of, and its objects as kubectl would list them."""

from datetime import timedelta
from typing import Any

from tests.fakes import FakeWorld
from tests.rolloutworld import bot, flows, in_rollout, visits
from tests.servicelife import answers, loaded
from tests.servingbuilders import NAMESPACE, a_ready_version, digest_of, metadata_of

from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.history.courses import Courses
from trimtab_operator.domain.history.entries import Sources, entries
from trimtab_operator.domain.history.page import History
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.history import gathered

ALIKE: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 5)}
BAD: dict[str, Any] = {"stable": (100, 5), "candidate": (100, 60)}


class Story:
    """The world of a rollout, with the times at which Events were said."""

    def __init__(self, fake: FakeWorld) -> None:
        self.fake = fake
        self.events: dict[str, Manifest] = {}

    def heard(self) -> None:
        """What was said until now was said now."""
        for event in self.fake.cluster.events.values():
            self.events.setdefault(
                event.name,
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": event.name, "namespace": event.namespace},
                    "involvedObject": {"kind": event.kind, "name": event.object_name},
                    "reason": event.reason,
                    "message": event.message,
                    "type": event.type,
                    "lastTimestamp": timestamp(self.fake.clock.now()),
                },
            )

    def decided(self, action: str, why: str = "it is well") -> None:
        """Alice decides about the model."""
        target = {"kind": "InferenceService", "name": "chat", "model": "bot"}
        now = timestamp(self.fake.clock.now())
        made = {
            "kind": "Decision",
            "metadata": metadata_of(action.lower(), creationTimestamp=now),
            "spec": {
                "action": action,
                "target": target,
                "by": "alice",
                "reason": why,
            },
        }
        self.fake.cluster.add(made)

    def came(self, name: str) -> None:
        """A version comes, by its own content, and every engine loads it."""
        now = timestamp(self.fake.clock.now())
        version = a_ready_version(name, creationTimestamp=now).to_wire()
        version["spec"]["lineage"] = {  # type: ignore[index]
            "dataset": {"name": "tickets", "digest": digest_of("tickets")}
        }
        version["status"]["producers"] = [  # type: ignore[index]
            {"fineTuneJob": f"tune-{name}", "uid": "u", "author": "bob"}
        ]
        self.fake.cluster.add(version, "ModelVersion")

    @property
    def objects(self) -> list[Manifest]:
        """Everything in the namespace."""
        return [*self.fake.cluster.objects.values(), *self.events.values()]


async def story(long: str = "") -> Story:
    """bot-2 is paused, resumed and promoted; bot-3 is rolled back; Alice looks at it all."""
    fake, traffic = await in_rollout()
    told = Story(fake)
    told.heard()
    told.decided("Pause", why=f"a look at <it> first {long}".strip())
    await flows(fake, traffic, 60, **ALIKE)
    told.decided("Resume")
    for _ in range(40):
        await flows(fake, traffic, 10, **ALIKE)
        told.heard()
    assert bot(fake).rollout is not None
    answers(fake, bot="bot-2")
    fake.clock.time += timedelta(minutes=20)
    traffic.scrape()
    await visits(fake)
    told.came("bot-3")
    loaded(fake, "bot-2", "bot-3")
    await visits(fake)
    told.heard()
    for _ in range(4):
        fake.clock.advance(seconds=5)
        traffic.served("bot-2", 100, 5)
        traffic.served("bot-3", 100, 60)
        traffic.scrape()
        await visits(fake, 2)
    assert bot(fake).last_rollback is not None
    told.heard()
    return told


def sources_of(told: Story) -> Sources:
    """What the command makes of the objects."""
    return gathered(told.objects, "chat", NAMESPACE)


def drawn_history(told: Story, curves: Courses | None = None) -> History:
    """The page's input."""
    sources = sources_of(told)
    return History(
        service=sources.service,
        made=told.fake.clock.now(),
        entries=entries(sources),
        versions=tuple(sources.versions),
        courses=curves or {},
        remarks=("what was not seen",),
    )
