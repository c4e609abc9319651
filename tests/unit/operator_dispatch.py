"""Who is looked at when something changes: those whom it concerns, and nobody else."""

from datetime import timedelta

import pytest
from tests import builders

from trimtab_operator.adapters.store import Key, Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import ANNOTATION_OWNER
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.handlers.dispatch import Dispatcher
from trimtab_operator.workqueue import WorkQueue

JOB, VERSION, SERVICE = "FineTuneJob", "ModelVersion", "InferenceService"


class Noted(WorkQueue):
    """Notes who was put in."""

    def __init__(self, kind: str, seen: list[tuple[str, str, bool]]) -> None:
        super().__init__(kind, _nothing, Telemetry())
        self._seen = seen

    def add(self, key: Key, *, urgent: bool = False) -> None:
        self._seen.append((self.kind, key[1], urgent))

    def add_after(self, key: Key, delay: timedelta) -> None:
        raise NotImplementedError


async def _nothing(_: Key) -> Outcome:
    return Done()


@pytest.fixture
def world() -> tuple[Store, list[tuple[str, str, bool]]]:
    """A base, two versions of a model on it, and a service that follows the model."""
    store, seen = Store(), list[tuple[str, str, bool]]()
    Dispatcher(store, {kind: Noted(kind, seen) for kind in (JOB, VERSION, SERVICE)})
    store.put(VERSION, version("base", "base", 1))
    for name in ("bot-1", "bot-2"):
        store.put(VERSION, version(name, "bot", 2))
    models = [{"name": "bot", "version": {"latestOf": "bot"}}]
    service = builders.inference_service("chat", models=models)
    store.put(SERVICE, builders.with_metadata(service, resourceVersion="3", uid="s"))
    seen.clear()
    return store, seen


def version(name: str, model: str, number: int, **metadata: str) -> Manifest:
    on: Manifest = {} if model == "base" else {"baseModel": {"modelVersion": {"name": "base"}}}
    made = builders.model_version(name, model=model, **on)
    return builders.with_metadata(
        {**made, "status": {"conditions": []}},
        resourceVersion=str(number),
        uid=name,
        generation=number,
        **metadata,
    )


World = tuple[Store, list[tuple[str, str, bool]]]


def test_a_version_concerns_who_follows_its_model_and_no_sibling(world: World) -> None:
    store, seen = world
    store.put(VERSION, version("bot-1", "bot", 4))
    woken = {(kind, name) for kind, name, _ in seen}
    assert (SERVICE, "chat") in woken
    assert (VERSION, "bot-1") in woken
    assert (VERSION, "bot-2") not in woken


def test_a_base_concerns_the_versions_on_it(world: World) -> None:
    store, seen = world
    store.put(VERSION, version("base", "base", 4))
    woken = {(kind, name) for kind, name, _ in seen}
    assert {(VERSION, "bot-1"), (VERSION, "bot-2")} <= woken


def test_only_what_is_being_deleted_itself_is_urgent(world: World) -> None:
    store, seen = world
    store.put(VERSION, version("bot-1", "bot", 4, deletionTimestamp="2026-01-01T00:00:00Z"))
    assert {name for _, name, urgent in seen if urgent} == {"bot-1"}


def test_a_child_concerns_its_owner_alone(world: World) -> None:
    store, seen = world
    annotations = {ANNOTATION_OWNER: f"{SERVICE}/chat"}
    metadata = {"name": "c", "namespace": "default", "resourceVersion": "9"}
    store.put("ConfigMap", {"metadata": {**metadata, "annotations": annotations}})
    assert seen == [(SERVICE, "chat", False)]


async def test_whoever_has_something_due_goes_first_when_all_are_looked_at() -> None:
    store, seen = Store(), list[str]()

    class Dated(Noted):
        def add_after(self, key: Key, delay: timedelta) -> None:
            seen.append(key[1])

    dispatcher = Dispatcher(store, {JOB: Dated(JOB, [])})
    observed = {"done": 2, "changed": 1, "done-too": 2}
    for number, (name, generation) in enumerate(observed.items(), start=1):
        job = {**builders.fine_tune_job(name), "status": {"observedGeneration": generation}}
        store.put(JOB, builders.with_metadata(job, resourceVersion=str(number), generation=2))
    fresh = builders.fine_tune_job("fresh")
    store.put(JOB, builders.with_metadata(fresh, resourceVersion="9", generation=1))
    dispatcher.all_again(timedelta(0))
    assert seen == ["changed", "fresh", "done", "done-too"]
