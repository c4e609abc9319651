"""The bench's plans are repeatable, and each of its oracles sees what it is there for."""

from typing import Any

import pytest
from tests import builders
from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.plans import ALONE, Fault, Plan, grouped, mixed, shrunk, storm
from tests.faults.proxy import Call

UID = "12345678-1234-1234-1234-123456789abc"


def a_plan() -> Plan:
    return Plan(7, (Fault("unavailable", times=2, share=0.5), Fault("slow", seconds=0.2)))


def test_a_plan_comes_back_from_what_it_prints() -> None:
    assert Plan.of_json(a_plan().to_json()) == a_plan()


def test_whom_a_fault_strikes_follows_from_the_seed_and_not_from_the_order() -> None:
    asked = [(f"GET /{n}", before) for n in range(50) for before in range(3)]
    forth = {a: a_plan().strikes("unavailable", *a) is not None for a in asked}
    back = {a: a_plan().strikes("unavailable", *a) is not None for a in reversed(asked)}
    assert forth == back
    assert 30 < sum(forth.values()) < 70
    assert not any(struck for (_, before), struck in forth.items() if before == 2)


def test_groups_hold_each_kind_once_and_a_mixture_is_its_seeds() -> None:
    kinds = [fault.kind for plan in grouped(3) for fault in plan.faults]
    assert sorted(kinds) == sorted(fault.kind for fault in ALONE)
    assert mixed(5) == mixed(5)
    assert mixed(5) != mixed(6)
    assert all(9 <= len({f.kind for f in storm(n).faults}) <= 12 for n in range(20))


def test_a_plan_shrinks_to_what_fails() -> None:
    plan = Plan(1, ALONE[:4])
    shortest = shrunk(plan, lambda p: p.having(ALONE[2].kind) is not None)
    assert shortest.faults == (ALONE[2],)


def a_job(name: str = "tuned-train-0123abcd", **changes: Any) -> Manifest:
    metadata = {"name": name, "namespace": "here", "uid": UID, "resourceVersion": "7"}
    return {"kind": "Job", "metadata": metadata, "spec": {"suspend": False}, **changes}


def state(*objects: Manifest) -> oracles.State:
    return oracles.state_of(objects, "here", "127.0.0.1:5000")


def test_states_are_alike_but_for_hashes_versions_and_others_counts() -> None:
    other = a_job("tuned-train-89abcdef", status={"startTime": "2026-01-02T03:04:05Z"})
    assert oracles.differences(state(a_job()), state(other)) == []


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ([], "Job/tuned-train-HASH: 0 of them, not 1"),
        ([a_job(), a_job("tuned-train-89abcdef")], "Job/tuned-train-HASH: 2 of them, not 1"),
        ([a_job(spec={"suspend": True})], "Job/tuned-train-HASH.spec.suspend: False became True"),
        (
            [a_job(status={"failed": 1})],
            "Job/tuned-train-HASH.status.failed: None became 1",
        ),
    ],
    ids=["missing", "one too many", "another spec", "another end"],
)
def test_a_run_that_ended_elsewhere(ended: list[Manifest], told: str) -> None:
    assert oracles.differences(state(a_job()), state(*ended)) == [told]


def test_a_condition_that_speaks_of_an_older_generation() -> None:
    told = builders.condition("Ready", generation=1)
    version = builders.with_metadata(builders.model_version("bot"), generation=2)
    version["status"] = {"observedGeneration": 2, "conditions": [told]}
    (found,) = oracles.untrue_conditions([version])
    assert "Ready is about generation 1" in found


def created(name: str, owner: str = UID, status: int = 201) -> Call:
    answer = {"metadata": {"name": name, "ownerReferences": [{"uid": owner}]}}
    return Call("create", "batch", "jobs", "here", "", status=status, answer=answer)


def deleted(name: str) -> Call:
    return Call("delete", "batch", "jobs", "here", name, status=200)


@pytest.mark.parametrize(
    ("calls", "count"),
    [
        ([created("a"), created("b"), created("a", status=409)], 0),
        ([created("a"), deleted("a"), created("a")], 0),
        ([created("a", owner="gone"), created("a", owner="gone")], 0),
        ([created("a"), created("a")], 1),
    ],
    ids=["once", "after a deletion", "for an owner that is gone", "twice"],
)
def test_a_child_that_was_made_twice(calls: list[Call], count: int) -> None:
    assert len(oracles.made_twice(calls, [UID])) == count


def test_what_authorisation_has_refused_is_told_and_a_quota_is_not() -> None:
    who = 'jobs is forbidden: User "system:serviceaccount:a:b" cannot list'
    refused = Call("list", "batch", "jobs", "here", "", status=403, answer={"message": who})
    quota = Call("create", "batch", "jobs", "here", "", status=403, answer={"message": "quota"})
    assert len(oracles.not_allowed([refused, quota])) == 1


def test_complaints_are_what_nobody_has_caught() -> None:
    log: list[Manifest] = [
        {"text": "Segmentation fault"},
        {"level": "error", "logger": "trimtab_operator.workqueue", "message": "reconcile failed"},
        {"level": "error", "logger": "kopf.activities", "message": "Handler 'end' failed"},
        {"level": "error", "logger": "kopf._core", "message": "Root task has failed"},
        {"level": "warning", "logger": "trimtab_operator.main", "message": "resync put off"},
        {
            "level": "error",
            "logger": "trimtab_operator.adapters.lease",
            "message": "leadership lost",
        },
    ]
    assert len(oracles.complaints(log)) == 4


def test_rights_that_are_granted_and_rights_that_are_used() -> None:
    role = {
        "kind": "ClusterRole",
        "metadata": {"name": "a-operator"},
        "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "patch"]}],
    }
    assert oracles.granted([role]) == {("create", "batch", "jobs"), ("patch", "batch", "jobs")}
    applied = Call("patch", "batch", "jobs", "here", "a", status=201)
    assert oracles.rights_used([applied]) == oracles.granted([role])


def a_call(verb: str, resource: str, status: int = 200, **parts: Any) -> Call:
    group = "trimtab.dev" if resource.startswith("finetunejobs") else ""
    return Call(verb, group, resource, "here", parts.pop("name", ""), status=status, **parts)


def an_event(name: str, reason: str = "Ready") -> Call:
    body = {
        "metadata": {"name": name},
        "involvedObject": {"uid": UID},
        "reason": reason,
        "message": "it is",
    }
    return a_call("create", "events", 201, body=body, answer=body)


def a_status(version: int, percent: float, attempt: int = 0) -> Call:
    answer = {
        "kind": "FineTuneJob",
        "metadata": {"name": "a", "uid": UID, "generation": 1, "resourceVersion": str(version)},
        "status": {"progress": {"percent": percent}, "attempt": attempt},
    }
    return a_call("patch", "finetunejobs/status", answer=answer)


def test_an_event_that_says_the_same_of_the_same_under_another_name() -> None:
    assert oracles.said_twice([an_event("a.1"), an_event("a.2", "InUse")]) == []
    assert oracles.said_twice([an_event("a.1"), an_event("a.2")]) == [
        "Ready was said 2 times: it is"
    ]
    again = a_status(5, 0, attempt=1)
    assert oracles.said_twice([an_event("a.1"), an_event("a.2"), again]) == []


def test_a_request_that_came_back_before_its_time() -> None:
    def asked(at: float, name: str = "a", spoiled_by: str = "") -> Call:
        return a_call("patch", "jobs", name=name, asked_at=at, spoiled_by=spoiled_by)

    refused = asked(10, spoiled_by="too-many-requests")
    assert oracles.asked_too_soon([refused, asked(11), asked(10.1, "b")]) == []
    assert len(oracles.asked_too_soon([refused, asked(10.5)])) == 1


def test_a_change_that_does_not_say_what_it_was_decided_on() -> None:
    exactly = {"uid": "u", "resourceVersion": "7"}
    guarded = a_call("delete", "jobs", body={"preconditions": exactly})
    against = a_call("patch", "finetunejobs/status", body={"metadata": {"resourceVersion": "7"}})
    assert oracles.unguarded([guarded, against]) == []
    for body in ({}, {"preconditions": {"uid": "u"}}):
        assert len(oracles.unguarded([a_call("delete", "jobs", body=body)])) == 1
    assert len(oracles.unguarded([a_call("patch", "finetunejobs/status", body={})])) == 1


def test_a_job_that_says_it_is_less_far() -> None:
    assert oracles.went_back([a_status(7, 50), a_status(8, 100), a_status(9, 0, 1)]) == []
    assert oracles.went_back([a_status(9, 40), a_status(8, 50)]) == ["a went from 50 to 40 %"]


def test_a_job_that_is_complete_before_its_end() -> None:
    job = builders.with_metadata(builders.fine_tune_job("a"), generation=1)
    complete = builders.condition("Complete")
    job["status"] = {
        "observedGeneration": 1,
        "conditions": [complete],
        "progress": {"percent": 50},
    }
    assert oracles.untrue_conditions([job]) == ["a is Complete at 50 %"]
