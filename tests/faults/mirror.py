"""What is in a namespace now, as watches tell it: lanes look here instead of asking again and again.

All objects of one lane have names that begin with its token. An object that came and went between
two looks has left its mark here.
"""

import asyncio
import json
import time
from collections import defaultdict
from contextlib import suppress
from typing import Final

from tests.builders import Manifest
from tests.faults.surroundings import GIVEN

from trimtab_api import names
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import BY_NAME, CHILDREN, OURS, Kind
from trimtab_operator.domain.errors import ClusterError

FOLLOWED: Final = (*OURS, *CHILDREN)
POD: Final = "Pod"
ROUTING: Final = "-routing"
Answering = dict[str, str | None]  # public name: the version that has the requests


def token_of(name: str) -> str:
    """The lane that an object belongs to."""
    return name.partition("-")[0]


class Mirror:
    """The objects, and by lane: when something last happened, what went, who answered meanwhile."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._objects: dict[str, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        self._moved: dict[str, float] = {}
        self._moves: dict[str, int] = defaultdict(int)
        self.gone: dict[str, list[str]] = defaultdict(list)
        self.answered: dict[str, list[Answering]] = defaultdict(list)

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in FOLLOWED:
                tasks.create_task(self._follow(kind))

    def find(self, kind: str, name: str) -> Manifest | None:
        """One object."""
        return self._objects[token_of(name)].get((kind, name))

    def of(self, token: str) -> list[Manifest]:
        """All that a lane has; pods come and go under names that the cluster draws."""
        return [o for (kind, _), o in self._objects[token].items() if kind != POD]

    def holds(self, token: str) -> list[str]:
        """Kinds and names, pods among them."""
        return [f"{kind}/{name}" for kind, name in self._objects[token]]

    def moves(self, token: str) -> int:
        """How often something of the lane has changed."""
        return self._moves[token]

    def quiet_seconds(self, token: str) -> float:
        """How long nothing of the lane has changed."""
        return time.monotonic() - self._moved.get(token, 0.0)

    async def _follow(self, kind: Kind) -> None:
        path = kind.path(self._namespace)
        while True:
            with suppress(ClusterError):
                listed = await self._api.request("GET", path)
                self._replace(kind.name, listed["items"])
                version = {"resourceVersion": listed["metadata"]["resourceVersion"]}
                async for event in self._api.watch(path, version):
                    if event["type"] != "BOOKMARK":
                        self._take(kind.name, event["object"], event["type"] == "DELETED")

    def _replace(self, kind: str, items: list[Manifest]) -> None:
        there = {item["metadata"]["name"] for item in items}
        known = [(k, n) for held in self._objects.values() for k, n in held if k == kind]
        for _, name in known:
            if name not in there:
                self._take(kind, {"metadata": {"name": name}}, is_gone=True)
        for item in items:
            self._take(kind, item, is_gone=False)

    def _take(self, kind: str, item: Manifest, is_gone: bool) -> None:
        name = item["metadata"]["name"]
        if name in GIVEN:
            return
        token = token_of(name)
        self._moved[token] = time.monotonic()
        self._moves[token] += 1
        if is_gone:
            self._objects[token].pop((kind, name), None)
            self.gone[token].append(f"{kind}/{name}")
            return
        # Items of a list do not say what they are; those that a watch tells do.
        what = {"apiVersion": BY_NAME[kind].api_version, "kind": kind}
        self._objects[token][kind, name] = item | what
        if kind == "ConfigMap" and name.endswith(ROUTING):
            self.answered[token].append(answering(item))


def answering(routing: Manifest) -> Answering:
    """Who answers by this routing table."""
    return {
        model["name"]: next((v["version"] for v in model["versions"] if v["weight"]), None)
        for model in _table(routing)
    }


def digest_routed(routing: Manifest, model: str) -> str | None:
    """The artifact that has the requests for this name."""
    entries = (m for m in _table(routing) if m["name"] == model)
    return next((v["digest"] for m in entries for v in m["versions"] if v["weight"]), None)


def _table(routing: Manifest) -> list[Manifest]:
    """Its models; none where somebody has emptied it."""
    text = routing.get("data", {}).get(names.ROUTING_TABLE_KEY)
    models: list[Manifest] = json.loads(text)["models"] if text else []
    return models
