"""Many lanes against one live operator, and what is looked at when all are over.

lanes, kubelet ───────────────► API server ◄── TLS, the chart's roles ── proxy ◄── operator
  └── look at ◄── watches ──────────┘                                      └── keeps a record
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.bench import installed, operator_kubeconfig
from tests.faults.changes import Course, Subject
from tests.faults.controlplane import ControlPlane
from tests.faults.lanes import Ground, Lane
from tests.faults.mirror import Mirror
from tests.faults.operators import Replica
from tests.faults.proxy import Call, Proxy
from tests.faults.scenario import Models
from tests.faults.subjects import shared, subjects, world
from tests.faults.surroundings import Surroundings, surroundings
from tests.operatorkit import Server, eventually

from trimtab_operator.adapters.api import Api

LANES: Final = 16
READY_WITHIN_SECONDS: Final = 60.0
GONE_WITHIN_SECONDS: Final = 90.0
# The record of a long run would fill the memory; what is this old has been looked at.
LOOKED_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Violation:
    """What was wrong, and with whose changes, where that is known."""

    told: str
    course: Course | None = None


@dataclass
class Report:
    """How a run ended."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        made = self.counts["changes"]
        return (
            f"{made} changes ({self.counts['accepted']} accepted, {self.counts['refused']} refused) "
            f"in {self.seconds:.0f} s, {made / max(self.seconds, 1):.1f} per second: "
            f"{len(self.violations)} violations"
        )


class Record:
    """What the operator asked for, looked at while it goes on, and then let go of."""

    def __init__(self, proxy: Proxy) -> None:
        self.faults: list[str] = []
        self._proxy = proxy
        self._fresh: list[Call] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOKED_EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Judge what was answered before the last look: by now nobody writes to it any more."""
        answered = [c for c in self._fresh if c.status]
        self.faults += [*oracles.not_allowed(answered), *written_for_nothing(answered)]
        # The proxy adds to it meanwhile, on a thread of its own.
        calls = self._proxy.calls
        count = len(calls)
        self._fresh = [c for c in self._fresh if not c.status] + calls[:count]
        del calls[:count]


def written_for_nothing(calls: Iterable[Call]) -> list[str]:
    """Writes after which the object was at the version that the write was decided on."""
    return [
        f"{call} has changed nothing: {json.dumps(call.body)[:2000]}"
        for call in calls
        if call.verb == "patch" and call.status == 200
        if _version(call.body) and _version(call.body) == _version(call.answer)
        # Whoever takes the last finalizer off is answered by the object as it was.
        if "deletionTimestamp" not in call.answer["metadata"]
    ]


class ChangeBench:
    """A control plane with the chart's roles, and a registry with a few models."""

    def __init__(
        self, plane: ControlPlane, registry: str, models: Models, chart: Sequence[Manifest]
    ) -> None:
        self.subjects: Mapping[str, Subject] = {s.name: s for s in subjects(models)}
        self._plane = plane
        self._registry = registry
        self._models = models
        self._token, self._settings = installed(plane, chart)

    def run(self, courses: Sequence[Course], folder: Path) -> Report:
        """All courses, a few at a time."""
        folder.mkdir()
        server = Server(str(self._plane.kubeconfig))
        try:
            with surroundings(self._plane, server.namespace) as around:
                operator = self._operator(server.namespace, folder, around)
                operator.start()
                try:
                    self._share(server)
                    return asyncio.run(self._drive(courses, around, operator))
                finally:
                    operator.stop()
                    around.let_go()
        finally:
            server.close()

    def _operator(self, namespace: str, folder: Path, around: Surroundings) -> Replica:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(operator_kubeconfig(around.address, self._token))
        # Resyncs are the fault bench's subject; here each would look at hundreds of objects anew.
        settings = self._settings | {"watchNamespaces": [namespace], "resyncSeconds": 600}
        settings["leaderElection"] = settings["leaderElection"] | {"enabled": False}
        return Replica(folder, "only", kubeconfig, settings)

    def _share(self, server: Server) -> None:
        for manifest in shared(self._models):
            server.create(manifest)
            name = manifest["metadata"]["name"]
            # One after the other: the newest is known by its time of creation, in whole seconds.
            eventually(
                partial(server.is_true, "ModelVersion", name, "Ready"),
                READY_WITHIN_SECONDS,
                f"{name} never became Ready",
            )

    async def _drive(
        self, courses: Sequence[Course], around: Surroundings, operator: Replica
    ) -> Report:
        api = await Api.connect(str(self._plane.kubeconfig))
        mirror = Mirror(api, around.namespace)
        ground = Ground(
            api=api,
            namespace=around.namespace,
            registry=self._registry,
            mirror=mirror,
            kubelet=around.kubelet,
            world=world(self._models),
            # Of one length, with a letter that no digest has: one never stands in another.
            tokens=(f"q{number:06}" for number in itertools.count()),
        )
        record = Record(around.proxy)
        watching = [asyncio.create_task(mirror.run()), asyncio.create_task(record.run())]
        began = time.monotonic()
        try:
            violations = await self._all(courses, ground)
            seconds = time.monotonic() - began
            violations += [Violation(told) for told in await _left_behind(ground)]
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await api.close()
        for _ in range(2):  # what was asked last is judged too
            record.look()
        violations += _of_lanes(record.faults, ground)
        violations += _of_lanes(_complaints(operator), ground)
        return Report(ground.counts, seconds, violations)

    async def _all(self, courses: Sequence[Course], ground: Ground) -> list[Violation]:
        room = asyncio.Semaphore(LANES)

        async def go(course: Course) -> list[Violation]:
            async with room:
                told = await Lane(ground, self.subjects[course.subject], course).run()
                return [Violation("\n".join(told[:20]), course)] if told else []

        found = await asyncio.gather(*map(go, courses))
        return [violation for each in found for violation in each]


def _complaints(operator: Replica) -> list[str]:
    lines = [line for line in operator.log if line.get("object") or oracles.complaints([line])]
    told = [
        f"{line.get('object', '')}: {complaint}"
        for line in lines
        for complaint in oracles.complaints([line])
    ]
    return [*told, *(f"the operator ended with code {code}" for code in operator.crashes)]


def _of_lanes(faults: Iterable[str], ground: Ground) -> list[Violation]:
    """Each fault with the lane whose token it names; many of one lane are told once."""
    found: dict[str, Violation] = {}
    for fault in faults:
        token = next((t for t in ground.owners if t in fault), fault)
        found.setdefault(token, Violation(fault[:4000], ground.owners.get(token)))
    return list(found.values())


async def _left_behind(ground: Ground) -> list[str]:
    """What still is there of lanes that are over."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while True:
        left = {token: held for token in ground.owners if (held := ground.mirror.holds(token))}
        if not left or time.monotonic() > deadline:
            return [f"left behind: {held}" for held in left.values()]
        await asyncio.sleep(LOOKED_EVERY_SECONDS)


def _version(content: Manifest) -> str:
    with suppress(AttributeError):
        return str(content.get("metadata", {}).get("resourceVersion", ""))
    return ""
