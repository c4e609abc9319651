"""What a lane's spec refers to, and what others do to that: the spec stays, the reference breaks.

Neighbours are versions of the lane's own, whose names begin with its token. Others delete them, take
them away by force, put others in their place, and restore objects from copies that lack a status;
they delete and bend children, too. A deed that has nothing to do it to does nothing, so that any part
of a course can be left out.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.builders import Manifest
from tests.faults.changes import Change, Course, Subject, with_token
from tests.faults.expectations import Family, World, version_faults
from tests.faults.mirror import Mirror

from trimtab_api import names
from trimtab_operator.adapters.api import MERGE, Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.domain.errors import ClusterError, Gone

VERSION: Final = "ModelVersion"
BASE: Final = "base"
OWNER: Final = "owner"  # the object whose spec refers to them
CREATED: Final = "create"
MENDED_SHARE: Final = 0.6
# What somebody else writes into a child; each touches a field that the spec decides.
BENT: Final[Mapping[str, Manifest]] = {
    "ConfigMap": {"data": None},
    "Deployment": {"spec": {"replicas": 0}},
    "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": {"nobody": "has"}}}},
    "Role": {"rules": []},
    "RoleBinding": {"subjects": []},
    "Service": {"spec": {"selector": {"nobody": "has"}}},  # one more: a merge keeps the others
    "ServiceAccount": {"automountServiceAccountToken": True},
}
WITH_CHILDREN: Final = {"propagationPolicy": "Background"}  # as kubectl; a Job's pods would stay
UNLABELLED: Final = {"metadata": {"labels": {names.LABEL_MANAGED_BY: None}}}


def wandered(subject: Subject, seed: int, length: int) -> list[Course]:
    """Each deed of the subject once, in an order that follows from the seed; most are mended soon."""
    chance = random.Random(f"{seed} {subject.name} deeds")  # noqa: S311 - repeatable, not secret
    deeds = [Change(deed=deed) for deed in subject.deeds] + list(subject.edits)
    chance.shuffle(deeds)
    made = [Change(deed=f"{CREATED} {part}") for part in subject.neighbours]
    courses = []
    for at in range(0, len(deeds), length):
        chance.shuffle(made)
        changes = list(made)
        for deed in deeds[at : at + length]:
            changes.append(deed)
            if chance.random() < MENDED_SHARE:
                changes += made
        courses.append(Course(subject.name, tuple(changes)))
    return courses


@dataclass
class Neighbours:
    """Those of one lane. `contents` are specs by name: the usual one, then the one in its place."""

    api: Api
    namespace: str
    mirror: Mirror
    token: str
    contents: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    uids: dict[str, str] = field(default_factory=dict)
    asked_to_go: set[str] = field(default_factory=set)

    # --- deeds ---

    async def do(self, deed: str, family: Family | None) -> None:
        """One deed: a verb and what it is done to."""
        verb, _, what = deed.partition(" ")
        match verb:
            case "create":
                await self._create(what, self.contents[what][0])
            case "delete":
                await self._delete(what)
            case "vanish":
                await self._vanish(what)
            case "replace":
                if await self._vanish(what):
                    await self._create(what, self.contents[what][1])
            case "forget":
                await self._forget(what, family)
            case _:
                for child in _named(family, what):
                    await self._meddle(verb, child)

    async def _create(self, part: str, spec: Manifest) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": VERSION,
            "metadata": {"name": f"{self.token}-{part}"},
            "spec": with_token(spec, self.token),
        }
        with suppress(ClusterError):  # it is there, or still on its way out
            made = await self.api.request("POST", self._path(), body=body)
            self.uids[part] = made["metadata"]["uid"]
            self.asked_to_go.discard(part)

    async def _delete(self, part: str) -> None:
        with suppress(Gone):
            await self.api.request("DELETE", self._path(part))
            self.asked_to_go.add(part)

    async def _vanish(self, part: str) -> bool:
        """Somebody has had enough of a finalizer."""
        was_there = part in self.uids
        await self._delete(part)
        with suppress(Gone):
            await self._merge(self._path(part), {"metadata": {"finalizers": None}})
        self.uids.pop(part, None)
        return was_there

    async def _forget(self, part: str, family: Family | None) -> None:
        """As it comes back from a copy: tools for that leave the status out."""
        path = self._path(part)
        if part == OWNER and family is not None:
            path = BY_NAME[family.owner["kind"]].path(self.namespace, self.token)
        with suppress(Gone):
            await self._merge(f"{path}/status", {"status": None})

    async def _meddle(self, verb: str, child: Manifest) -> None:
        kind, name = child["kind"], child["metadata"]["name"]
        path = BY_NAME[kind].path(self.namespace, name)
        with suppress(Gone):
            if verb in {"take", "lose"}:  # what is lost is so at any time, not only at its best
                self.taken.add(f"{kind}/{name}")
                await self.api.request("DELETE", path, body=WITH_CHILDREN)
            else:
                await self._merge(path, BENT[kind] if verb == "bend" else UNLABELLED)

    async def _merge(self, path: str, body: Manifest) -> None:
        await self.api.request("PATCH", path, body=body, content_type=MERGE)

    def _path(self, part: str = "") -> str:
        return BY_NAME[VERSION].path(self.namespace, f"{self.token}-{part}" if part else None)

    # --- what is there now ---

    def find(self, part: str) -> Manifest | None:
        """The neighbour, as far as it is known."""
        return self.mirror.find(VERSION, f"{self.token}-{part}")

    def is_one(self, each: Manifest) -> bool:
        """Whether an object of the lane is a neighbour, or a child of one."""
        return self.has(each["metadata"]["name"])

    def has(self, named: str) -> bool:
        """The same by its name, or by kind and name."""
        name = named.rpartition("/")[2]
        return name.removeprefix(f"{self.token}-").partition("-")[0] in self.contents

    def world(self, shared: World, owner: Manifest | None) -> World:
        """What the spec can refer to now; what was resolved once stays what it is."""
        if not self.contents:
            return shared
        adapters = [v for part in self.contents if part != BASE and (v := self._usable(part))]
        newest = max(adapters, key=_age, default=None)
        return World(
            base=f"{self.token}-{BASE}" if self._usable(BASE) or _has_base(owner) else "",
            base_uri=shared.base_uri,
            ranks={v["metadata"]["name"]: v["spec"]["artifact"]["rank"] for v in adapters},
            latest={self.token: newest["metadata"]["name"]} if newest else {},
            artifacts=shared.artifacts,
            digests={
                v["metadata"]["name"]: v["spec"]["artifact"]["uri"].rpartition("@")[2]
                for v in adapters
            },
        )

    def _usable(self, part: str) -> Manifest | None:
        found = self.find(part)
        return found if found and _is_ready(found) and not _is_leaving(found, part) else None

    # --- the oracles ---

    def faults(self, shared: World, owner: Manifest) -> list[str]:
        """What is wrong with them: there, Ready and held exactly while they should be."""
        return [
            f"{part}: {line}" for part in self.contents for line in self._wrong(part, shared, owner)
        ]

    def _wrong(self, part: str, shared: World, owner: Manifest) -> list[str]:
        found, users = self.find(part), self._users(part, owner)
        if found is None:
            if part in self.asked_to_go and not users:
                self.uids.pop(part, None)
            return ["it is gone, and should not be"] if part in self.uids else []
        if found["metadata"]["uid"] != self.uids.get(part):
            return ["its watch is silent"]
        held = names.FINALIZER_IN_USE in found["metadata"].get("finalizers", [])
        is_leaving = "deletionTimestamp" in found["metadata"]
        if is_leaving and not users:
            return ["nobody uses it, and it does not go"]
        told = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", [])}
        wrong = version_faults(Family(found), self.world(shared, found))
        if held != bool(users):
            wrong.append(f"used by {users}, but its finalizers are {found['metadata']}")
        if told.get("InUse") != str(bool(users)):
            wrong.append(f"used by {users}, but InUse is {told.get('InUse')}")
        return wrong

    def _users(self, part: str, owner: Manifest) -> list[str]:
        """Who needs it, by what the owner and the other neighbours say."""
        name = f"{self.token}-{part}"
        others = [o for o in self.mirror.of(self.token) if o["kind"] == VERSION]
        refers = [o for o in (owner, *others) if not _is_over(o) and _base_of(o) == name]
        refers = [o for o in refers if "deletionTimestamp" not in o["metadata"]]
        users = [o["metadata"]["name"] for o in refers]
        wanted = {m["name"]: m["version"] for m in owner["spec"].get("models", [])}
        serving = {m["name"]: m for m in owner.get("status", {}).get("models", [])}
        for model, version in wanted.items():
            said = serving.get(model, {})
            if name in {
                version.get("name"),
                said.get("activeVersion"),
                said.get("candidateVersion"),
            }:
                users.append(model)
        return users


def _named(family: Family | None, what: str) -> list[Manifest]:
    """Children of a kind; those of a part, where one is named."""
    kind, _, part = what.partition("/")
    children = family.children if family else ()
    return [
        c
        for c in children
        if c["kind"] == kind and part in {"", c["metadata"]["labels"].get(names.LABEL_COMPONENT)}
    ]


def _has_base(owner: Manifest | None) -> bool:
    status: Manifest = (owner or {}).get("status", {})
    return bool(status.get("baseDigest") or status.get("resolved"))


def _base_of(each: Manifest) -> Any:
    return each["spec"].get("baseModel", {}).get("modelVersion", {}).get("name")


def _is_over(each: Manifest) -> bool:
    conditions = each.get("status", {}).get("conditions", [])
    verdicts = {c["type"] for c in conditions if c["status"] == "True"}
    return each["kind"] == "FineTuneJob" and bool(verdicts & {"Complete", "Failed"})


def _is_ready(version: Manifest) -> bool:
    conditions = version.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_leaving(version: Manifest, part: str) -> bool:
    # A base that is on its way out is one until it is gone.
    return part != BASE and "deletionTimestamp" in version["metadata"]


def _age(version: Manifest) -> tuple[str, str]:
    return version["metadata"]["creationTimestamp"], version["metadata"]["name"]
