"""The small rules that every reconciler builds on: conditions, names, events, sameness."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import builders
from tests.fakes import START

from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.common import Condition
from trimtab_operator.domain import events, naming
from trimtab_operator.domain.conditions import condition, moment_of, timestamp, with_condition
from trimtab_operator.domain.sameness import includes, merge_patch, merged

LATER = START + timedelta(hours=1)


def ready(status: bool | None, minutes: int = 0, reason: str = "R") -> Condition:
    now = START + timedelta(minutes=minutes)
    return condition("Ready", status, reason, "", generation=1, now=now)


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        pytest.param(False, True, True, id="a flip moves the transition time"),
        pytest.param(True, True, False, id="another reason does not move it"),
        pytest.param(None, False, True, id="from Unknown to False is a flip"),
    ],
)
def test_transition_time(before: bool | None, after: bool, moves: bool) -> None:
    (only,) = with_condition([ready(before)], ready(after, minutes=9, reason="Other"))
    assert (only.last_transition_time == ready(after, minutes=9).last_transition_time) is moves
    assert only.reason == "Other"


def test_a_condition_is_about_the_generation_that_was_looked_at_last() -> None:
    later = ready(True).model_copy(update={"observed_generation": 2})
    (only,) = with_condition([ready(True)], later)
    assert only.observed_generation == 2


def test_conditions_keep_their_order() -> None:
    other = ready(True).model_copy(update={"type": "InUse"})
    kinds = [c.type for c in with_condition([ready(True), other], ready(False))]
    assert kinds == ["Ready", "InUse"]


def test_times_survive_the_round_trip() -> None:
    assert moment_of(timestamp(START)) == START


names_of_objects = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?", fullmatch=True)


@given(names_of_objects, st.text(min_size=1, max_size=40))
def test_child_names_are_labels_whatever_the_owner_is_called(name: str, uid: str) -> None:
    made = naming.child_name(name, "prepare", uid)
    assert len(made) <= 63
    assert "." not in made
    assert made.endswith("-prepare-" + naming.short_hash(uid))


@given(names_of_objects, names_of_objects)
def test_long_names_that_differ_stay_different(one: str, other: str) -> None:
    same = naming.label_value(one) == naming.label_value(other)
    assert same is (one == other)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        pytest.param("hf://Org/My_Model-7B", "r/base/org/my-model-7b", id="a model of a hub"),
        pytest.param("s3://bucket/a/b/", "r/base/bucket/a/b", id="a folder in a bucket"),
        pytest.param("pvc://claim/llama 3", "r/base/claim/llama-3", id="a folder of a claim"),
    ],
)
def test_mirrors_have_valid_repository_names(uri: str, expected: str) -> None:
    assert naming.base_repository("r", uri) == expected


def job() -> FineTuneJob:
    manifest = builders.with_metadata(builders.fine_tune_job(), uid="u", generation=3)
    return FineTuneJob.model_validate(manifest)


def test_an_event_has_one_name_however_often_it_is_said() -> None:
    one = events.about("FineTuneJob", job(), "Started", "a")
    assert one.name == events.about("FineTuneJob", job(), "Started", "b").name
    assert one.name != events.about("FineTuneJob", job(), "Failed", "a").name
    assert one.name != events.about("FineTuneJob", job(), "Started", "a", occasion="1").name


def test_only_transitions_are_told() -> None:
    before = job()
    before = before.model_copy(
        update={"status": before.status.model_copy(update={"conditions": [ready(False)]})}
    )
    assert events.transitions("FineTuneJob", before, [ready(False, minutes=5)]) == []
    (told,) = events.transitions("FineTuneJob", before, [ready(True)], warnings={"R"})
    assert told.type == "Warning"


@pytest.mark.parametrize(
    ("observed", "wanted", "same"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, True, id="more than wanted is there"),
        pytest.param({"a": 1}, {"a": 2}, False, id="another value"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, False, id="a longer list"),
        pytest.param({"m": "1Gi"}, {"m": "1024Mi"}, True, id="an amount in another unit"),
        pytest.param({"m": "1"}, {"m": "1000m"}, True, id="cores in thousandths"),
        pytest.param({"m": "1G"}, {"m": "1Gi"}, False, id="units of ten and of two"),
        pytest.param({}, {"a": [], "b": {}, "c": ""}, True, id="what is empty is left out"),
        pytest.param({}, {"a": False}, True, id="false by default is left out"),
    ],
)
def test_a_write_is_skipped_when(observed: Any, wanted: Any, same: bool) -> None:
    assert includes(observed, wanted) is same


json_objects = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
).filter(lambda v: isinstance(v, dict))


@given(json_objects, json_objects)
def test_a_merge_patch_leads_from_one_object_to_the_other(one: Any, other: Any) -> None:
    assert merged(one, merge_patch(one, other)) == other


@given(json_objects)
def test_equal_objects_need_no_patch(one: Any) -> None:
    assert merge_patch(one, one) == {}
