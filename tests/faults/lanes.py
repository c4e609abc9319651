"""One object and what is done to it: change, wait for rest, judge, and the next change.

Many lanes go on at once, against one operator; each has objects of its own, whose names begin with
its token. Nothing is waited for by the clock: a lane is at rest when nothing of it moves any more
and all that is expected of it holds, and a lane that does not get there has found something.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.changes import TOKEN, Change, Course, Subject, with_token
from tests.faults.dataexpectations import dataset_faults
from tests.faults.expectations import (
    Family,
    World,
    is_over,
    job_faults,
    observed,
    service_faults,
    version_faults,
    went_dark,
)
from tests.faults.history import comparable
from tests.faults.kubelet import Kubelet
from tests.faults.mirror import Answering, Mirror, answering
from tests.faults.neighbours import Neighbours
from tests.faults.oracles import State

from trimtab_api import names
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.domain.errors import Conflict, Gone, Refused

QUIET_SECONDS: Final = 0.4
# Much longer than it takes: on a machine that is busy with other things nothing is late by itself.
AT_REST_WITHIN_SECONDS: Final = 60.0
LOOKED_EVERY_SECONDS: Final = 0.1
LIFETIME: Final = "ttlSecondsAfterFinished"
DEADLINE: Final = "activeDeadlineSeconds"
SOON_SECONDS: Final = 60  # may pass while a lane goes on
# Jobs, claims and versions go by other rules; these never go while their service is there.
LASTING: Final = ("Deployment", "Service", "ServiceAccount", "ConfigMap")
# Deeds after which everything has to be as it was.
MEDDLING: Final = ("take ", "bend ", "strip ", "forget owner")


@dataclass
class Ground:
    """What all lanes stand on."""

    api: Api
    namespace: str
    registry: str
    mirror: Mirror
    kubelet: Kubelet
    world: World
    tokens: Iterator[str]
    counts: Counter[str] = field(default_factory=Counter)
    owners: dict[str, Course] = field(default_factory=dict)  # by token


@dataclass(frozen=True)
class Moment:
    """A spec and what it came to."""

    spec: Manifest
    state: State


class Lane:
    """One course on its way."""

    def __init__(self, ground: Ground, subject: Subject, course: Course) -> None:
        self._ground = ground
        self._subject = subject
        self._course = course
        self._kind = BY_NAME[subject.kind]
        self._token = ""
        self._sent: Manifest = {}
        self._is_risky = False
        self._generation = 0
        self._past: list[Moment] = []
        self._answered: Answering = {}
        self._neighbours = self._own_neighbours()

    async def run(self) -> list[str]:
        """What was wrong; nothing is done after the first change that something was wrong with."""
        if self._subject.is_anew:
            return await self._each_anew()
        found = await self._begin()
        for number, change in enumerate(self._course.changes):
            found = found or await self._renewed()
            if not found:
                told = await self._changed(change)
                found = [f"change {number}, {change}: {line}" for line in told]
        found = found or await self._reached_directly()
        await self._end()
        return found

    async def _each_anew(self) -> list[str]:
        for number, change in enumerate(self._course.changes):
            self._ground.counts["changes"] += 1
            self._past = []
            spec = change.of(self._subject.start)
            if not await self._created(spec):
                self._ground.counts["refused"] += 1
                continue
            self._ground.counts["accepted"] += 1
            found = ["nonsense was accepted"] if change.is_nonsense else await self._rests()
            await self._end()
            if found:
                return [f"object {number}, {change}: {line}" for line in found]
        return []

    # --- the steps ---

    async def _begin(self) -> list[str]:
        assert await self._created(self._subject.start), "what is good was refused"
        self._past = []
        found = await self._rests()
        self._remember()
        return [f"at the start: {line}" for line in found]

    async def _renewed(self) -> list[str]:
        """Another object, where this one is over: there is nothing left in it to change."""
        owner = self._owner()
        if owner is not None and not (self._subject.is_held and is_over(owner)):
            return []
        await self._end()
        return await self._begin()

    async def _changed(self, change: Change) -> list[str]:
        self._ground.counts["changes"] += 1
        try:
            return await self._change(change)
        except Gone:
            return [] if _within(self._sent, LIFETIME, SOON_SECONDS) else ["it is gone"]

    async def _change(self, change: Change) -> list[str]:
        if change.deed:
            return await self._done(change.deed)
        if change.undo:
            self._past = self._past[: -min(change.undo, len(self._past) - 1) or None]
            wanted: Moment | None = self._past[-1]
            spec = self._past[-1].spec
        else:
            wanted, spec = None, change.of(self._past[-1].spec)
        before = await self._read()
        if not await self._updated(spec):
            self._ground.counts["refused"] += 1
            after = await self._read()
            if change.undo:
                return ["going back was refused"]
            is_same = after["spec"] == before["spec"]
            return [] if is_same else ["it was refused, but something changed"]
        self._ground.counts["accepted"] += 1
        if change.is_nonsense:
            return ["nonsense was accepted"]
        found = await self._rests(wanted)
        if not change.undo and not found:
            self._remember()
        return found

    async def _done(self, deed: str) -> list[str]:
        """What others do to children and to what the spec refers to; here only they are put right."""
        self._ground.counts["accepted"] += 1
        owner = self._owner()
        family = self._family() if owner else None
        wanted = None
        if family and (deed.startswith(MEDDLING)):
            if not self._is_at_its_best(family):
                return []  # what holds the state of what is broken is not there twice
            wanted = Moment(family.spec, self._state())
        await self._neighbours.do(deed, family)
        return await self._rests(wanted)

    def _is_at_its_best(self, family: Family) -> bool:
        said = {name: family.says(name)[0] for name in ("Ready", "Complete", "Started")}
        return "True" in said.values()

    async def _reached_directly(self) -> list[str]:
        """Another object with the same spec is in the same state."""
        owner = self._owner()
        if owner is None or is_over(owner) or owner["spec"].get("suspend"):
            return []  # what a job has done before it was suspended stays done
        if self._subject.neighbours:
            return []  # the other one would have other neighbours
        wanted = Moment(owner["spec"], self._state())
        spec = json.loads(json.dumps(owner["spec"]).replace(self._token, TOKEN))
        await self._end()
        if not await self._created(spec):
            return ["the spec is accepted as a change, but not at once"]
        return [f"by another way: {line}" for line in await self._rests(wanted)]

    def _remember(self) -> None:
        if (owner := self._owner()) is not None:
            self._past.append(Moment(owner["spec"], self._state()))

    # --- what the API server is asked ---

    async def _created(self, spec: Manifest) -> bool:
        self._token = next(self._ground.tokens)
        self._ground.owners[self._token] = self._course
        self._answered, self._is_risky = {}, False
        self._neighbours = self._own_neighbours()
        if self._subject.is_held:
            self._ground.kubelet.held.add(self._token)
        body = {
            "apiVersion": names.API_VERSION,
            "kind": self._subject.kind,
            "metadata": {"name": self._token},
            "spec": with_token(spec, self._token),
        }
        with suppress(Refused):
            path = self._kind.path(self._ground.namespace)
            self._note_sent(await self._ground.api.request("POST", path, body=body))
            return True
        return False

    async def _updated(self, spec: Manifest) -> bool:
        while True:
            try:
                body = {**await self._read(), "spec": with_token(spec, self._token)}
                self._note_sent(await self._ground.api.request("PUT", self._path(), body=body))
            except Conflict:  # the operator has written its status meanwhile
                continue
            except Refused:
                return False
            return True

    def _note_sent(self, answer: Manifest) -> None:
        self._sent = answer["spec"]
        self._generation = answer["metadata"]["generation"]
        self._is_risky = self._is_risky or _within(self._sent, DEADLINE, SOON_SECONDS)

    async def _read(self) -> Manifest:
        return await self._ground.api.request("GET", self._path())

    async def _end(self) -> None:
        """Delete it, and what it has left on purpose."""
        self._ground.kubelet.held.discard(self._token)
        made = [o for o in self._ground.mirror.of(self._token) if o["kind"] == "ModelVersion"]
        version = (self._owner() or {}).get("status", {}).get("modelVersion")
        left = {o["metadata"]["name"] for o in made} | ({version} if version else set())
        with suppress(Gone):
            await self._ground.api.request("DELETE", self._path())
        for name in left - {self._token}:
            path = BY_NAME["ModelVersion"].path(self._ground.namespace, name)
            with suppress(Gone):
                await self._ground.api.request("DELETE", path)

    def _path(self) -> str:
        return self._kind.path(self._ground.namespace, self._token)

    # --- rest and verdict ---

    async def _rests(self, wanted: Moment | None = None) -> list[str]:
        """What is still wrong when there was time enough to become right."""
        mirror, token = self._ground.mirror, self._token
        deadline = time.monotonic() + AT_REST_WITHIN_SECONDS
        judged, found = -1, ["it never came to rest"]
        while time.monotonic() < deadline:
            await asyncio.sleep(LOOKED_EVERY_SECONDS)
            is_news = mirror.moves(token) != judged
            if is_news and mirror.quiet_seconds(token) > QUIET_SECONDS:
                judged = mirror.moves(token)
                found = self._wrong(wanted)
                if not found:
                    break
        lasting = [*found, *self._lost()]
        self._note_answers()
        return lasting

    def _wrong(self, wanted: Moment | None) -> list[str]:
        owner = self._owner()
        if owner is None:
            return [] if _within(self._sent, LIFETIME, SOON_SECONDS) else ["it is gone"]
        if owner["metadata"]["generation"] < self._generation:
            return ["its watch is silent"]
        if self._is_risky and is_over(owner):
            return observed(self._family())  # a verdict is final, whatever the spec is now
        shared = self._ground.world
        found = self._neighbours.faults(shared, owner)
        found += self._judge()(self._family(), self._neighbours.world(shared, owner))
        if is_over(owner) and _within(owner["spec"], LIFETIME, 1):
            found.append("it is over, and not gone")
        is_a_race = self._subject.kind == "Dataset" and _within(
            owner["spec"], DEADLINE, SOON_SECONDS
        )
        if wanted is not None and not is_a_race:
            found += oracles.differences(wanted.state, self._state())
        return found

    def _judge(self) -> Callable[[Family, World], list[str]]:
        if self._subject.kind == "InferenceService":
            return service_faults
        if self._subject.kind == "ModelVersion":
            return version_faults
        if self._subject.kind == "Dataset":
            return dataset_faults
        is_held = self._subject.is_held
        return lambda family, world: job_faults(family, world, is_held=is_held)

    def _lost(self) -> list[str]:
        """What was good before and was taken down on the way."""
        mirror = self._ground.mirror
        if self._subject.kind != "InferenceService":
            return []
        gone = [e for e in mirror.gone[self._token] if e not in self._neighbours.taken]
        lost = [f"{e} was deleted" for e in gone if _lasts(e) and not self._neighbours.has(e)]
        return [*lost, *went_dark(self._answered, mirror.answered[self._token])]

    def _note_answers(self) -> None:
        mirror = self._ground.mirror
        mirror.answered[self._token].clear()
        routing = mirror.find("ConfigMap", f"{self._token}-routing")
        self._answered = answering(routing) if routing else {}

    def _owner(self) -> Manifest | None:
        return self._ground.mirror.find(self._subject.kind, self._token)

    def _family(self) -> Family:
        owner = self._owner()
        assert owner is not None
        others = [
            o
            for o in self._ground.mirror.of(self._token)
            if o is not owner and not self._neighbours.is_one(o)
        ]
        return Family(owner, others)

    def _own_neighbours(self) -> Neighbours:
        ground = self._ground
        return Neighbours(
            ground.api, ground.namespace, ground.mirror, self._token, self._subject.neighbours
        )

    def _state(self) -> State:
        ground = self._ground
        world = self._neighbours.world(ground.world, self._owner())
        return comparable(self._family(), world, ground.namespace, ground.registry)


def _within(spec: Manifest, name: str, seconds: int) -> bool:
    value = spec.get(name)
    return value is not None and value <= seconds


def _lasts(what: str) -> bool:
    # What was learned of a model's traffic goes with the wish to watch it.
    is_learned = re.fullmatch(r"ConfigMap/.*-drift-[0-9a-f]{8}", what) is not None
    return not is_learned and what.startswith(tuple(f"{kind}/" for kind in LASTING))
