"""The change bench draws from schemas alone, and each of its oracles sees what it is there for."""

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.builders import Manifest
from tests.faults.changebench import written_for_nothing
from tests.faults.changes import NO_HINTS, Change, Course, Subject, drawn, shrunk
from tests.faults.expectations import (
    Family,
    World,
    job_faults,
    service_faults,
    version_faults,
    went_dark,
)
from tests.faults.fields import LARGEST, Edit, Hints, Schema, applied, candidates
from tests.faults.history import comparable
from tests.faults.podexpectations import amount
from tests.faults.proxy import Call
from tests.faults.subjects import schema_of

WORLD = World("base", "oci://r/base@sha256:0", {"bot-1": 8, "bot-2": 8}, {"bot": "bot-2"})


def tried(schema: Schema, hints: Hints = NO_HINTS) -> tuple[list[Any], list[Any]]:
    """The values of a field `it`: those that the schema allows, and the others."""
    found = [c for c in candidates({"properties": {"it": schema}}, hints) if not c.edits[0].is_gone]
    at_once = [c for c in found if c.edits[0].at == ("it",)]
    good = [c.edits[0].value for c in at_once if not c.is_nonsense]
    return good, [c.edits[0].value for c in at_once if c.is_nonsense]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        pytest.param(
            {"type": "integer", "minimum": 1, "maximum": 9}, [1, 9], [0, 10, True], id="a range"
        ),
        pytest.param({"type": "integer", "minimum": 0}, [0, LARGEST], [-1], id="no upper end"),
        pytest.param(
            {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
            [0.001, 1],
            [0, 1.001, "many"],
            id="an open end",
        ),
        pytest.param(
            {"type": "string", "enum": ["A", "B"]}, ["A", "B"], ["Nonsense", 7], id="a choice"
        ),
        pytest.param(
            {"type": "string", "minLength": 1, "maxLength": 3},
            ["a", "aaa"],
            ["", "aaaa"],
            id="a length",
        ),
        pytest.param(
            {"type": "array", "items": {"type": "string", "maxLength": 1}, "maxItems": 2},
            [[], ["a"], None],
            [["aa"], ["a"] * 3, "text"],
            id="a list",
        ),
    ],
)
def test_values_at_the_ends_and_beyond(schema: Schema, good: list[Any], bad: list[Any]) -> None:
    allowed, forbidden = tried(schema)
    assert [v for v in good if v not in allowed] == []
    assert [v for v in bad if v not in forbidden] == []


def test_a_union_is_switched_doubled_and_emptied() -> None:
    members = {"a": {"type": "boolean"}, "b": {"type": "boolean"}}
    rule = {"rule": "has(self.a) != has(self.b)"}
    one_of = {"type": "object", "properties": members, "x-kubernetes-validations": [rule]}
    spec = {"it": {"a": True}}
    specs = [Change(c.edits).of(spec) for c in candidates({"properties": {"it": one_of}}, Hints())]
    for wanted in ({"b": False}, {"a": True, "b": True}, {}):
        assert {"it": wanted} in specs


def test_known_references_and_affordable_ends() -> None:
    hints = Hints({"it": ("there", "not-there")}, {"it": 3})
    assert tried({"type": "string"}, hints)[0][:2] == ["there", "not-there"]
    assert 100 not in tried({"type": "integer", "minimum": 0, "maximum": 100}, hints)[0]


def test_an_edit_brings_its_parents_but_never_to_lack_something() -> None:
    assert applied({}, Edit(("a", "b"), 1)) == {"a": {"b": 1}}
    assert applied({"a": {"b": 1, "c": 2}}, Edit(("a", "b"), is_gone=True)) == {"a": {"c": 2}}
    assert applied({}, Edit(("a", "b"), is_gone=True)) == {}


def a_subject(**changes: Any) -> Subject:
    schema = {"properties": {n: {"type": "integer", "minimum": 0} for n in ("a", "b")}}
    return Subject("it", "InferenceService", schema, {}, **changes)


def test_courses_hold_each_candidate_once_and_follow_from_the_seed() -> None:
    courses = drawn(a_subject(), 1, 5)
    edits = [c.edits for course in courses for c in course.changes if c.edits]
    assert sorted(map(str, edits)) == sorted(
        str(c.edits) for c in candidates(a_subject().schema, Hints())
    )
    assert any(change.undo for course in courses for change in course.changes)
    assert drawn(a_subject(), 1, 5) == courses
    assert drawn(a_subject(), 2, 5) != courses


def test_a_course_comes_back_from_what_it_prints() -> None:
    for course in (*drawn(a_subject(), 1, 50), *drawn(a_subject(is_anew=True), 1, 50)):
        assert Course.of_json(course.to_json()) == course


def test_a_course_shrinks_to_what_fails() -> None:
    changes = tuple(Change((Edit(("a",), n),)) for n in range(25))
    course = Course("it", changes)
    needed = {changes[3], changes[17]}
    runs = []

    def fails(shorter: Course) -> bool:
        runs.append(shorter)
        return needed <= set(shorter.changes)

    assert set(shrunk(course, fails, attempts=100).changes) == needed
    assert len(runs) < 60


def test_the_schemas_of_all_kinds_give_more_than_can_be_written_by_hand() -> None:
    for kind, least in (("FineTuneJob", 500), ("ModelVersion", 200), ("InferenceService", 200)):
        found = list(candidates(schema_of(kind), Hints()))
        assert len(found) > least
        assert json.dumps([e.value for c in found for e in c.edits])


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("1.5Gi", str(3 * 2**29)), ("1P", "1e15"), ("0.0001", "0.001"), ("0", "0")],
)
def test_quantities_are_numbers(text: str, value: str) -> None:
    assert amount(text) == Decimal(value)


def test_quantities_are_capped_and_rounded_up_as_the_server_does() -> None:
    assert amount("99999999999999Ti") == amount(str(2**63 - 1))
    assert amount("0.00000000001") == amount("1m")


# --- the oracles ---


def told(kind: str, status: str, reason: str = "", generation: int = 2) -> Manifest:
    return {"type": kind, "status": status, "reason": reason, "observedGeneration": generation}


def an_owner(kind: str, spec: Manifest, *conditions: Manifest, **status: Any) -> Manifest:
    return {
        "kind": kind,
        "metadata": {"name": "q1", "generation": 2},
        "spec": spec,
        "status": {"observedGeneration": 2, "conditions": list(conditions), **status},
    }


def a_service(*conditions: Manifest, version: str = "bot-1", **spec: Any) -> Family:
    model = {"name": "bot", "version": {"name": version}}
    whole = {
        "baseModel": {"name": "tiny", "modelVersion": {"name": "base"}},
        "engine": {"adapters": {"maxRank": 8, "slots": 1, "resident": 1}},
        "models": [model],
        "pod": {},
        "gateway": {"replicas": 1},
        **spec,
    }
    return Family(an_owner("InferenceService", whole, *conditions))


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        pytest.param(
            a_service(told("Ready", "True"), version="nobody"),
            "Ready is True, but bot asks for what is not there",
            id="ready though a reference is broken",
        ),
        pytest.param(
            a_service(told("Ready", "False", "Starting")),
            "Ready is False (Starting: ), but nothing is in the way",
            id="not ready without a cause",
        ),
        pytest.param(
            a_service(told("Ready", "False", "ChildRefused")),
            "a child was refused though nothing odd was asked for: ",
            id="refused without a cause",
        ),
        pytest.param(
            a_service(told("Ready", "True", generation=1)),
            "Ready is about generation 1, the spec is generation 2",
            id="about an older spec",
        ),
    ],
)
def test_a_service_that_says_what_is_not_so(family: Family, fault: str) -> None:
    assert fault in service_faults(family, WORLD)


def test_a_model_that_was_answered_and_then_by_nobody() -> None:
    before: dict[str, str | None] = {"bot": "bot-1", "other": None}
    assert went_dark(before, [{"bot": "bot-1"}, {"bot": None}, {"bot": "bot-2"}])
    assert not went_dark(before, [{"bot": "bot-2", "other": None}])
    assert not went_dark(before, [{}])  # its user has taken it out


def a_job(*conditions: Manifest, **spec: Any) -> Family:
    whole = {
        "baseModel": {},
        "storage": {"size": "1Gi"},
        "pod": {},
        "resources": {"gpus": 0},
        "suspend": False,
        **spec,
    }
    return Family(an_owner("FineTuneJob", whole, *conditions))


@pytest.mark.parametrize(
    ("family", "count"),
    [
        (a_job(told("Complete", "True")), 0),
        (a_job(told("Complete", "True"), told("Suspended", "True")), 1),
        (a_job(told("Failed", "True")), 1),
        (a_job(told("Failed", "True"), activeDeadlineSeconds=1), 0),
        (a_job(told("Started", "False", "Pending")), 1),
        (a_job(told("Started", "False", "Refused"), pod={"nodeSelector": {"é": ""}}), 0),
        (a_job(told("Suspended", "False"), suspend=True), 1),
    ],
    ids=[
        "complete",
        "suspended against the spec",
        "failed without a cause",
        "failed at its deadline",
        "waits for nothing",
        "refused and reported",
        "not suspended against the spec",
    ],
)
def test_what_a_job_may_say(family: Family, count: int) -> None:
    assert len(job_faults(family, WORLD, is_held=False)) == count


def test_a_version_that_is_ready_though_it_missed_a_gate() -> None:
    gate = {"metric": "RougeL", "atLeast": 0.5}
    spec = {"artifact": {}, "evaluation": {"gates": [gate], "pod": {}}}
    metrics = {"metrics": [{"metric": "RougeL", "value": 0.4}]}
    version = an_owner("ModelVersion", spec, told("Ready", "True"), evaluation=metrics)
    assert len(version_faults(Family(version), WORLD)) == 1


def test_who_answered_before_is_history_only_where_the_spec_asks_for_nobody() -> None:
    def state(reason: str | None, active: str) -> Any:
        family = a_service(told("Ready", "False" if reason else "True"), version="nobody")
        model = {"name": "bot", "activeVersion": active} | ({"reason": reason} if reason else {})
        family.owner["status"]["models"] = [model]
        return comparable(family, WORLD, "here", "registry")

    assert state("VersionMissing", "bot-1") == state("VersionMissing", "bot-2")
    assert state(None, "bot-1") != state(None, "bot-2")


def test_a_write_that_changes_nothing_is_told() -> None:
    def patch(before: str, after: str) -> Call:
        body, answer = ({"metadata": {"resourceVersion": v}} for v in (before, after))
        return Call("patch", "apps", "deployments", "n", "a", body, 200, answer)

    assert len(written_for_nothing([patch("1", "2"), patch("2", "2")])) == 1
