"""The store: the newest view of each object, and who belongs to whom."""

from typing import Any

import pytest
from tests import builders

from trimtab_operator.adapters.store import Store
from trimtab_operator.domain.naming import ANNOTATION_OWNER
from trimtab_operator.domain.references import View, wake_ups

KEY = ("default", "tune")


def seen(version: int, **changes: Any) -> dict[str, Any]:
    return builders.with_metadata(
        builders.fine_tune_job(**changes), resourceVersion=str(version), uid="u", generation=1
    )


def child(version: int, owner: str = "FineTuneJob/tune", name: str = "c") -> dict[str, Any]:
    return {
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "default",
            "resourceVersion": str(version),
            "annotations": {ANNOTATION_OWNER: owner},
        },
    }


def test_an_older_view_never_replaces_a_newer_one() -> None:
    store = Store()
    assert store.put("FineTuneJob", seen(7))
    assert not store.put("FineTuneJob", seen(6))
    assert not store.put("FineTuneJob", seen(7))


def test_a_late_view_does_not_bring_back_what_was_removed() -> None:
    store = Store()
    store.put("FineTuneJob", seen(5))
    store.remove("FineTuneJob", KEY, 9)
    assert not store.put("FineTuneJob", seen(8))
    assert store.put("FineTuneJob", seen(10))


def test_the_removal_of_a_predecessor_leaves_its_namesake() -> None:
    store = Store()
    store.put("FineTuneJob", seen(10))
    assert not store.remove("FineTuneJob", KEY, 9)
    assert store.find("FineTuneJob", KEY)


def test_children_are_found_by_their_owner_until_they_go() -> None:
    store = Store()
    store.put("Job", child(1))
    store.put("Job", child(2, owner="FineTuneJob/other", name="d"))
    owner = ("FineTuneJob", "default", "tune")
    assert [c["metadata"]["name"] for c in store.owned(owner, "Job")] == ["c"]
    store.remove("Job", ("default", "c"), 3)
    assert store.owned(owner, "Job") == []


def test_a_reference_that_was_taken_away_is_forgotten() -> None:
    store = Store()
    base = {"modelVersion": {"name": "tiny"}}
    target = ("ModelVersion", "default", "tiny")
    store.put("FineTuneJob", seen(1, baseModel=base))
    assert store.referrers(target) == [("FineTuneJob", KEY)]
    store.put("FineTuneJob", seen(2))
    assert store.referrers(target) == []


VERSION = ("ModelVersion", "default", "support-bot-eeeeeeee")
MYSELF = ("FineTuneJob", *KEY)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"progress": {"step": 2}}, {MYSELF}, id="progress concerns nobody else"),
        pytest.param(
            {"modelVersion": VERSION[2]}, {MYSELF, VERSION}, id="a result concerns its version"
        ),
    ],
)
def test_who_is_woken_by_a_job(status: dict[str, Any], expected: set[object]) -> None:
    before = View.of("FineTuneJob", {**seen(1), "status": {"progress": {"step": 1}}})
    after = View.of("FineTuneJob", {**seen(2), "status": status})
    assert wake_ups(before, after).objects == expected


def test_a_version_wakes_those_who_name_it_or_its_model() -> None:
    version = builders.with_metadata(builders.model_version(), resourceVersion="1")
    woken = wake_ups(None, View.of("ModelVersion", version))
    assert ("ModelVersion", "default", "support-bot-aaaaaaaa") in woken.reverse
    assert ("Model", "default", "support-bot") in woken.reverse
