"""What others do to what a spec refers to: each deed once, any part of a course, and who would see it."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.builders import Manifest
from tests.faults.changes import TOKEN, Change, Course, Subject
from tests.faults.expectations import World
from tests.faults.mirror import Mirror
from tests.faults.neighbours import Neighbours, wandered
from tests.faults.scenario import Models
from tests.faults.subjects import subjects

from trimtab_api import names
from trimtab_operator.adapters.api import Api

MODELS = Models("oci://r/base@sha256:0", [("oci://r/a@sha256:1", "oci://r/a@sha256:2")] * 2)
WORLD = World("base", "oci://r/base@sha256:0", {}, {})
ADAPTER = {
    "artifact": {"uri": "oci://r/a@sha256:1", "rank": 8},
    "evaluation": {"pod": {}},
    "model": TOKEN,
}


def those_with_neighbours() -> list[Subject]:
    return [s for s in subjects(MODELS) if s.neighbours]


@pytest.mark.parametrize("subject", those_with_neighbours(), ids=lambda s: s.name)
def test_each_deed_is_done_once_after_all_has_been_made(subject: Subject) -> None:
    courses = wandered(subject, 1, 5)
    done = [c.deed for course in courses for c in course.changes]
    assert sorted(d for d in done if d and not d.startswith("create")) == sorted(subject.deeds)
    for course in courses:
        first = {c.deed for c in course.changes[: len(subject.neighbours)]}
        assert first == {f"create {part}" for part in subject.neighbours}
        assert Course.of_json(course.to_json()) == course
    assert wandered(subject, 2, 5) != courses


class Silent(Api):
    """Nobody is asked here."""

    def __init__(self) -> None:
        pass


def a_version(name: str, *conditions: tuple[str, str], **metadata: Any) -> Manifest:
    told = [
        {"type": kind, "status": status, "observedGeneration": 1} for kind, status in conditions
    ]
    return {
        "kind": "ModelVersion",
        "metadata": {
            "name": name,
            "uid": name,
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": ADAPTER,
        "status": {"observedGeneration": 1, "conditions": told},
    }


def a_service(active: str = "q1-a") -> Manifest:
    return {
        "kind": "InferenceService",
        "metadata": {"name": "q1", "generation": 1},
        "spec": {"baseModel": {}, "models": [{"name": "bot", "version": {"name": "q1-a"}}]},
        "status": {"models": [{"name": "bot", "activeVersion": active}]},
    }


class Seen(Mirror):
    """What watches have told."""

    def __init__(self, *objects: Manifest) -> None:
        self.seen = {o["metadata"]["name"]: o for o in objects}

    def find(self, kind: str, name: str) -> Manifest | None:
        return self.seen.get(name)

    def of(self, token: str) -> list[Manifest]:
        return list(self.seen.values())


def told(version: Manifest | None, *, was_deleted: bool = False) -> list[str]:
    """What is said of `q1-a`, which the service names."""
    mirror = Seen(*([version] if version else []))
    known: Mapping[str, list[Manifest]] = {"a": [ADAPTER]}
    neighbours = Neighbours(Silent(), "here", mirror, "q1", known, uids={"a": "q1-a"})
    if was_deleted:
        neighbours.asked_to_go.add("a")
    return neighbours.faults(WORLD, a_service())


HELD = {"finalizers": [names.FINALIZER_IN_USE]}
USED = ("InUse", "True")


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        pytest.param(a_version("q1-a", USED, **HELD), None, id="held, and says so"),
        pytest.param(a_version("q1-a", USED), "its finalizers are", id="not held"),
        pytest.param(a_version("q1-a", ("InUse", "False"), **HELD), "InUse is False", id="silent"),
        pytest.param(a_version("q1-a", USED, uid="other", **HELD), "silent", id="another one"),
        pytest.param(None, "should not be", id="gone"),
    ],
)
def test_a_version_that_a_service_names(version: Manifest | None, fault: str | None) -> None:
    found = told(version, was_deleted=version is None)
    assert (fault is None) == (found == [])
    assert fault is None or any(fault in line for line in found)


def test_a_version_that_nobody_uses_has_to_go() -> None:
    leaving = a_version("q1-b", deletionTimestamp="2026-01-01T00:00:00Z", **HELD)
    known = {"b": [ADAPTER]}
    neighbours = Neighbours(Silent(), "here", Seen(leaving), "q1", known, uids={"b": "q1-b"})
    assert neighbours.faults(WORLD, a_service()) == ["b: nobody uses it, and it does not go"]


def test_children_of_neighbours_are_theirs() -> None:
    neighbours = Neighbours(Silent(), "here", Seen(), "q1", {"base": [ADAPTER]})
    called = ("q1-base", "q1-base-evaluate-0123abcd", "q1-routing", "q1")
    found = [n for n in called if neighbours.is_one({"metadata": {"name": n}})]
    assert found == ["q1-base", "q1-base-evaluate-0123abcd"]


def test_only_what_is_ready_and_stays_can_be_referred_to() -> None:
    ready = a_version("q1-a", ("Ready", "True"))
    leaving = a_version("q1-b", ("Ready", "True"), deletionTimestamp="2026-01-01T00:00:00Z")
    known = {"a": [ADAPTER], "b": [ADAPTER]}
    world = Neighbours(Silent(), "here", Seen(ready, leaving), "q1", known).world(WORLD, None)
    assert (dict(world.ranks), world.latest) == ({"q1-a": 8}, {"q1": "q1-a"})
    assert world.digests == {"q1-a": "sha256:1"}


def test_a_change_tells_its_deed() -> None:
    assert str(Change(deed="vanish a")) == "vanish a"
