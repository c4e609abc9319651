"""Fakes of our own edges (`trimtab_operator.reconcilers.ports`), shared by all operator tests.

`FakeCluster` is an API server in memory: it checks rights and resource versions, keeps generations, takes
children away with their owner, and can die after any write. Reading goes through the operator's
real store. `state` is what a test compares: everything but versions and times.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tests import grants

from trimtab_api.documents.training import ProgressReport
from trimtab_api.model import ApiModel
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.adapters.store import Store, StoreReader, key_of, version_of
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactMissing,
    Conflict,
    Gone,
    MetricsError,
    MetricsRefused,
    NameTaken,
    PodError,
)
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.manifests import Manifest, get, is_owned_by
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.domain.sameness import includes, merge_patch, merged
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.reconcilers.ports import Key, World
from trimtab_operator.settings import Images, RegistrySettings, Settings

R = TypeVar("R", bound=AnyResource)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class Crash(Exception):
    """The operator was killed right after a write."""


def settings(**changes: Any) -> Settings:
    """Settings as the chart writes them on the local cluster."""
    defaults: dict[str, Any] = {
        "images": Images(
            pipelines="trimtab/pipelines:dev",
            serving="trimtab/serving:dev",
            engine="trimtab/engine-cpu:dev",
        ),
        "registry": RegistrySettings(prefix="registry.internal:5000/trimtab", plain_http=True),
    }
    return Settings(**(defaults | changes))


class FakeClock:
    """A clock that moves when told."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def advance(self, **parts: float) -> None:
        self.time += timedelta(**parts)


class FakeCluster(StoreReader):
    """An API server in memory; `dies_after` writes it raises Crash, until revived."""

    def __init__(self, dies_after: int | None = None) -> None:
        super().__init__(Store())
        self.objects: dict[tuple[str, Key], Manifest] = {}
        self.events: dict[str, Event] = {}
        self.writes = 0
        self.policies: dict[str, NamespacePolicy] = {}
        self.fails: Callable[[str, Manifest], Exception | None] = lambda verb, manifest: None
        self._dies_after = dies_after
        self._version = 0

    # --- for tests: the world outside of the operator ---

    def add(self, resource: AnyResource | Manifest, kind: str | None = None) -> None:
        """A user, or a controller of Kubernetes, creates an object."""
        manifest = resource if isinstance(resource, dict) else resource.to_wire()
        kind = kind or (resource["kind"] if isinstance(resource, dict) else type(resource).__name__)
        self._store(kind, _copied(manifest))

    def edit(self, kind: str, key: Key, changes: Manifest) -> None:
        """Somebody merges changes into an object; a change of spec makes a new generation."""
        self._store(kind, merged(self.objects[kind, key], changes))

    def take_away(self, kind: str, key: Key) -> None:
        """Somebody deletes an object; what it owned goes with it."""
        gone = self.objects.pop((kind, key))
        self._version += 1
        self.store.remove(kind, key, self._version)
        uid = gone["metadata"]["uid"]
        for (child_kind, child_key), manifest in list(self.objects.items()):
            if is_owned_by(manifest, uid) and (child_kind, child_key) in self.objects:
                self.take_away(child_kind, child_key)

    def of_kind(self, kind: str) -> list[Manifest]:
        """All objects of a kind, by name."""
        return [m for (k, _), m in sorted(self.objects.items(), key=lambda i: i[0]) if k == kind]

    def one(self, kind: str) -> Manifest:
        """The only object of a kind."""
        (found,) = self.of_kind(kind)
        return found

    def dies_in(self, writes: int) -> None:
        """The operator will be killed after so many more writes."""
        self._dies_after = self.writes + writes

    def revive(self) -> None:
        """The operator starts again: nothing is left of its memory but what the server has."""
        self._dies_after = None
        self.store = Store()
        for (kind, _), manifest in self.objects.items():
            self.store.put(kind, manifest)

    @property
    def state(self) -> dict[str, Any]:
        """Everything that users see, without versions and times."""
        objects = {f"{kind} {key[1]}": _timeless(m) for (kind, key), m in self.objects.items()}
        return {"objects": objects, "events": sorted(self.events)}

    def policy(self, namespace: str) -> NamespacePolicy:
        return self.policies.get(namespace, NamespacePolicy())

    # --- the port's writing half ---

    async def apply(self, manifest: Manifest, owner: AnyResource) -> Manifest:
        wanted = self._owned(manifest, owner)
        kind = wanted["kind"]
        there = self.objects.get((kind, key_of(wanted)))
        if there is not None:
            self._check_owner(there, owner)
            # Server-side apply takes away what is not applied any more; of data all is ours.
            is_left = wanted.get("data", {}).keys() != there.get("data", {}).keys()
            if includes(there, wanted) and not is_left:
                return there
            data = {"data": wanted["data"]} if "data" in wanted else {}
            wanted = merged(there, wanted) | data
        return self._write("apply", kind, wanted)

    async def create(self, manifest: Manifest, owner: AnyResource | None) -> bool:
        wanted = _copied(manifest) if owner is None else self._owned(manifest, owner)
        there = self.objects.get((wanted["kind"], key_of(wanted)))
        if there is not None:
            if owner is not None:
                self._check_owner(there, owner)
            return False
        self._write("create", wanted["kind"], wanted)
        return True

    async def patch(self, child: Manifest, changes: Manifest) -> Manifest:
        there = self._current(child["kind"], child)
        return self._write("patch", child["kind"], merged(there, changes))

    async def delete(self, child: Manifest) -> None:
        self._delete(child["kind"], child)

    async def delete_resource(self, resource: AnyResource) -> None:
        self._delete(type(resource).__name__, resource.to_wire())

    async def write_status(self, resource: R, status: ApiModel) -> R:
        if not merge_patch(resource.status.to_wire(), status.to_wire()):
            return resource
        there = self._current(type(resource).__name__, resource.to_wire())
        written = self._write(
            "status", type(resource).__name__, {**there, "status": status.to_wire()}
        )
        return type(resource).model_validate(written)

    async def write_finalizers(self, resource: R, finalizers: Sequence[str]) -> R:
        if list(finalizers) == resource.metadata.finalizers:
            return resource
        there = self._current(type(resource).__name__, resource.to_wire())
        changed = merged(there, {"metadata": {"finalizers": list(finalizers)}})
        if get(there, "metadata", "deletionTimestamp") and not finalizers:
            self.take_away(type(resource).__name__, key_of(there))
            return type(resource).model_validate(changed)
        return type(resource).model_validate(
            self._write("finalizers", type(resource).__name__, changed)
        )

    async def emit(self, event: Event) -> None:
        if event.name not in self.events:
            self._count("emit", {})
            self.events[event.name] = event
            self._maybe_die()

    # --- inside ---

    def _owned(self, manifest: Manifest, owner: AnyResource) -> Manifest:
        result: Manifest = _copied(manifest)
        result["metadata"]["ownerReferences"] = [
            {"kind": type(owner).__name__, "name": owner.metadata.name, "uid": owner.metadata.uid}
        ]
        return result

    def _check_owner(self, there: Manifest, owner: AnyResource) -> None:
        if not is_owned_by(there, owner.metadata.uid):
            raise NameTaken(f"{there['kind']} {key_of(there)[1]} belongs to somebody else")

    def _current(self, kind: str, seen: Manifest) -> Manifest:
        there = self.objects.get((kind, key_of(seen)))
        if there is None:
            raise Gone(f"{kind} {key_of(seen)[1]} is gone")
        if version_of(there) != version_of(seen):
            raise Conflict(f"{kind} {key_of(seen)[1]} has changed")
        return there

    def _delete(self, kind: str, seen: Manifest) -> None:
        there = self._current(kind, seen)
        _must_be_granted("delete", kind)
        self._count("delete", there)
        self.take_away(kind, key_of(there))
        self._maybe_die()

    def _write(self, verb: str, kind: str, manifest: Manifest) -> Manifest:
        _must_be_granted(verb, kind)
        self._count(verb, manifest)
        stored = self._store(kind, manifest)
        self._maybe_die()
        return stored

    def _count(self, verb: str, manifest: Manifest) -> None:
        if self._dies_after is not None and self.writes >= self._dies_after:
            raise Crash
        failure = self.fails(verb, manifest)
        if failure is not None:
            raise failure
        self.writes += 1

    def _maybe_die(self) -> None:
        if self._dies_after is not None and self.writes >= self._dies_after:
            raise Crash

    def _store(self, kind: str, manifest: Manifest) -> Manifest:
        self._version += 1
        key = key_of(manifest)
        before = self.objects.get((kind, key))
        manifest = _copied(manifest)
        meta = manifest.setdefault("metadata", {})
        manifest.setdefault("kind", kind)
        meta["uid"] = meta.get("uid") or f"uid-{kind}-{key[1]}".lower()
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("creationTimestamp", "2026-01-02T03:04:05Z")
        generation = int(get(before, "metadata", "generation", default=0))
        changed = before is None or before.get("spec") != manifest.get("spec")
        meta["generation"] = max(generation + changed, int(meta.get("generation", 0) or 0))
        self.objects[kind, key] = manifest
        self.store.put(kind, manifest)
        return manifest


def _copied(value: Any) -> Any:
    """As deepcopy, for what has been JSON: many times as fast, and each write of a test makes one."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value


def _must_be_granted(write: str, kind: str) -> None:
    lacking = grants.missing(write, kind)
    assert not lacking, f"{write} {kind}: the chart's role lacks {', '.join(lacking)}"


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = {"resourceVersion", "uid", "creationTimestamp"}
        return {k: _timeless(v) for k, v in value.items() if k not in dropped}
    if isinstance(value, list):
        return [_timeless(v) for v in value]
    return "<time>" if isinstance(value, str) and _TIME.match(value) else value


@dataclass
class FakeRegistry:
    """Manifests and documents by address; what is absent is missing, `error` fails everything."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    error: ArtifactError | None = None

    async def manifest(self, uri: str) -> Manifest:
        found: Manifest = self._found(self.manifests, uri)
        return found

    async def document(self, uri: str) -> bytes:
        found: bytes = self._found(self.documents, uri)
        return found

    def _found(self, where: dict[str, Any], uri: str) -> Any:
        if self.error is not None:
            raise self.error
        if uri not in where:
            raise ArtifactMissing(f"{uri} does not exist")
        return where[uri]


@dataclass
class FakePods:
    """Pods by address; who is not there does not answer."""

    trainers: dict[str, ProgressReport] = field(default_factory=dict)
    gateways: dict[str, dict[str, ProbeAnswer]] = field(default_factory=dict)

    async def progress(self, address: str) -> ProgressReport:
        if address not in self.trainers:
            raise PodError(f"{address} does not answer")
        return self.trainers[address]

    async def probe(self, address: str, model: str) -> ProbeAnswer:
        if address not in self.gateways:
            raise PodError(f"{address} does not answer")
        unknown = ProbeAnswer(model=model, ok=False, message="unknown model")
        return self.gateways[address].get(model, unknown)


@dataclass
class FakeAgents:
    """Agents by address (host:port)."""

    reports: dict[str, AgentReport] = field(default_factory=dict)
    followed: dict[tuple[str, Key], set[str]] = field(default_factory=dict)

    def follow(
        self, kind: str, key: Key, addresses: Collection[str]
    ) -> Mapping[str, AgentReport | None]:
        self.followed[kind, key] = set(addresses)
        return {address: self.reports.get(address) for address in addresses}

    async def first_words(self, addresses: Collection[str]) -> None:
        """Who has something to say has said it."""


@dataclass
class FakeMetrics:
    """A Prometheus that holds these series and numbers; `error` fails everything, `refuses` each expression."""

    series: list[RawSeries] = field(default_factory=list)
    numbers: dict[str, float | None] = field(default_factory=dict)
    error: MetricsError | None = None
    refuses: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def samples(self, selector: str, start: datetime, end: datetime) -> Sequence[RawSeries]:
        self.asked.append(selector)
        if self.error is not None:
            raise self.error
        first, last = start.timestamp(), end.timestamp()
        return [
            RawSeries(s.labels, tuple(x for x in s.samples if first < x.time <= last))
            for s in self.series
        ]

    async def scalar(self, query: str, at: datetime) -> float | None:
        self.asked.append(query)
        if self.error is not None:
            raise self.error
        if self.refuses is not None:
            raise self.refuses
        if query not in self.numbers:
            raise MetricsRefused(f"parse error in {query}")
        return self.numbers[query]


@dataclass
class FakeTally:
    """What was counted."""

    promotions: list[tuple[str, str, str]] = field(default_factory=list)
    rollbacks: list[tuple[str, str, str]] = field(default_factory=list)
    moved: dict[Key, dict[str, bool]] = field(default_factory=dict)

    def promoted(self, namespace: str, service: str, model: str) -> None:
        self.promotions.append((namespace, service, model))

    def rolled_back(self, namespace: str, service: str, model: str, seconds: float) -> None:
        self.rollbacks.append((namespace, service, model))

    def traffic(self, namespace: str, service: str, moved: Mapping[str, bool]) -> None:
        self.moved.pop((namespace, service), None)
        if moved:
            self.moved[namespace, service] = dict(moved)


@dataclass
class FakeWorld:
    """All edges at once; `world` is what a reconciler gets."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    pods: FakePods = field(default_factory=FakePods)
    agents: FakeAgents = field(default_factory=FakeAgents)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    tally: FakeTally = field(default_factory=FakeTally)
    clock: FakeClock = field(default_factory=FakeClock)
    settings: Settings = field(default_factory=settings)
    keys_asked: dict[Key, datetime] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return World(
            cluster=self.cluster,
            registry=self.registry,
            pods=self.pods,
            agents=self.agents,
            metrics=self.metrics,
            tally=self.tally,
            clock=self.clock,
            settings=self.settings,
            keys_asked=self.keys_asked,
        )


Reconciler = Callable[[Key, World], Any]


async def settle(reconcile: Reconciler, key: Key, fake: FakeWorld, limit: int = 20) -> Outcome:
    """Reconcile until a visit writes nothing; that is what the queue does in real life."""
    for _ in range(limit):
        before = fake.cluster.writes
        outcome: Outcome = await reconcile(key, fake.world)
        if fake.cluster.writes == before:
            return outcome
    message = f"{key} never comes to rest"
    raise AssertionError(message)
