"""Who is looked at when somebody decides, or a namespace asks for something else."""

import pytest
from tests import builders
from tests.unit.operator_dispatch import Noted, version

from trimtab_operator.adapters.store import Store
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.handlers.dispatch import Dispatcher

VERSION, DECISION = "ModelVersion", "Decision"
World = tuple[Store, list[tuple[str, str, bool]]]


@pytest.fixture
def world() -> World:
    """Two versions, a decision about each, and the namespace that they are in."""
    store, seen = Store(), list[tuple[str, str, bool]]()
    Dispatcher(store, {kind: Noted(kind, seen) for kind in (VERSION, DECISION)})
    for number, name in enumerate(("bot-1", "bot-2"), start=1):
        store.put(VERSION, version(name, "base", number))
        store.put(DECISION, decision(f"about-{name}", name, number + 2))
    store.put("Namespace", namespace(5))
    seen.clear()
    return store, seen


def decision(name: str, about: str, number: int) -> Manifest:
    target = {"kind": VERSION, "name": about, "digest": builders.DIGEST}
    made = builders.decision(name, target=target)
    return builders.with_metadata(made, resourceVersion=str(number), uid=name)


def namespace(number: int, name: str = "default", **labels: str) -> Manifest:
    keys = {f"trimtab.dev/{key.replace('_', '-')}": value for key, value in labels.items()}
    return {"metadata": {"name": name, "resourceVersion": str(number), "labels": keys}}


def test_a_decision_concerns_its_version(world: World) -> None:
    store, seen = world
    store.put(DECISION, decision("new", "bot-1", 9))
    assert {(kind, name) for kind, name, _ in seen} == {
        (DECISION, "new"),
        (VERSION, "bot-1"),
    }


def test_one_that_is_deleted_does_so_too(world: World) -> None:
    store, seen = world
    store.remove(DECISION, ("default", "about-bot-1"), 9)
    assert (VERSION, "bot-1", False) in seen


def test_a_version_concerns_the_decisions_about_it(world: World) -> None:
    store, seen = world
    changed = version("bot-1", "base", 9)
    changed["status"] = {"decisions": [{"action": "Revoke"}]}
    store.put(VERSION, changed)
    assert {(kind, name) for kind, name, _ in seen} == {
        (VERSION, "bot-1"),
        (DECISION, "about-bot-1"),
    }


def test_a_namespace_that_asks_for_approval_concerns_all_that_is_in_it(world: World) -> None:
    store, seen = world
    store.put("Namespace", namespace(9, require_approval="true"))
    assert {name for _, name, _ in seen} == {"bot-1", "bot-2", "about-bot-1", "about-bot-2"}


def test_any_other_label_concerns_nobody(world: World) -> None:
    store, seen = world
    store.put("Namespace", namespace(9, team="a"))
    store.put("Namespace", namespace(10, "other", require_approval="true"))
    assert seen == []
