"""Decisions and versions in one world: what is written, and that a crash leaves no trace of itself."""

from contextlib import suppress
from typing import Any

import pytest
from tests import builders
from tests.fakes import Crash, FakeWorld, settle
from tests.jobworld import trained
from tests.jobworld import world as job_world
from tests.servingbuilders import (
    NAMESPACE,
    a_decision,
    a_job,
    a_ready_version,
    a_service,
    a_version,
)
from tests.versionworld import KEY, seen, told, world_of

from trimtab_api.v1alpha1 import Decision, FineTuneJob
from trimtab_operator.adapters.kinds import NAMESPACE as NAMESPACES
from trimtab_operator.adapters.reflector import trimmed
from trimtab_operator.adapters.store import Store, StoreReader
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.finetunejob.inputs import known_base
from trimtab_operator.domain.policy import NamespacePolicy
from trimtab_operator.reconcilers import decision, modelversion

AUTHOR = "trimtab.dev/author"


async def visit(fake: FakeWorld) -> None:
    """Everybody whom a change concerns, until nothing is left to say."""
    for _ in range(2):
        await settle(modelversion.reconcile, KEY, fake)
        for each in fake.cluster.of_kind("Decision"):
            await settle(decision.reconcile, (NAMESPACE, each["metadata"]["name"]), fake)


def effect(fake: FakeWorld, of: Decision) -> tuple[str, str]:
    found = fake.cluster.get(Decision, of.key)
    assert found is not None
    said = find(found.status.conditions, "Effective")
    assert said is not None
    return said.status.value, said.reason


async def test_an_approval_reaches_the_version_and_says_so() -> None:
    approval = a_decision()
    fake = world_of(a_ready_version(), approval)
    await visit(fake)
    assert told(fake, "Approved") == ("True", "Approved")
    assert effect(fake, approval) == ("True", "InForce")
    assert {"Approved", "InForce"} <= {e.reason for e in fake.cluster.events.values()}


async def test_a_new_version_says_that_nobody_decided_and_makes_no_event_of_it() -> None:
    fake = world_of(a_ready_version())
    await visit(fake)
    assert told(fake, "Approved") == ("False", "NotApproved")
    assert told(fake, "Retired") == ("False", "NotRetired")
    assert {e.reason for e in fake.cluster.events.values()}.isdisjoint(
        {"NotApproved", "NotRetired"}
    )


async def test_a_revocation_supersedes_and_outlives_its_deletion() -> None:
    approval, revocation = a_decision(), a_decision("Revoke", at=1)
    fake = world_of(a_ready_version(), approval, revocation)
    await visit(fake)
    assert told(fake, "Approved") == ("False", "Revoked")
    assert effect(fake, approval) == ("False", "Superseded")
    fake.cluster.take_away("Decision", revocation.key)
    await visit(fake)
    assert told(fake, "Approved") == ("False", "Revoked")
    assert effect(fake, approval) == ("False", "Superseded")


async def test_a_decision_about_no_version_waits_for_it() -> None:
    approval = a_decision()
    fake = world_of(approval)
    await settle(decision.reconcile, approval.key, fake)
    assert effect(fake, approval) == ("Unknown", "TargetMissing")
    fake.cluster.add(a_ready_version())
    await visit(fake)
    assert effect(fake, approval) == ("True", "InForce")


async def test_a_version_that_is_made_anew_finds_its_decisions() -> None:
    fake = world_of(a_ready_version(), a_decision())
    await visit(fake)
    fake.cluster.take_away("ModelVersion", KEY)
    fake.cluster.add(a_ready_version())
    await visit(fake)
    assert told(fake, "Approved") == ("True", "Approved")


async def test_duties_are_separated_where_the_namespace_says_so() -> None:
    approval = a_decision(by="alice")
    fake = world_of(a_ready_version(annotations={AUTHOR: "alice"}), approval)
    fake.cluster.policies[NAMESPACE] = NamespacePolicy(separates_duties=True)
    await visit(fake)
    assert told(fake, "Approved") == ("False", "NotApproved")
    assert effect(fake, approval) == ("False", "AuthorApproves")


@pytest.mark.parametrize("writes", range(8))
async def test_a_crash_after_any_write_leaves_no_trace(writes: int) -> None:
    def world() -> FakeWorld:
        return world_of(
            a_ready_version(), a_decision(), a_decision("Revoke", at=1), a_decision(at=2)
        )

    calm, shaken = world(), world()
    await visit(calm)
    shaken.cluster.dies_in(writes)
    with suppress(Crash):
        await visit(shaken)
    shaken.cluster.revive()
    await visit(shaken)
    assert shaken.cluster.state == calm.cluster.state


# --- authors --------------------------------------------------------------------------------------


async def test_the_version_of_a_job_has_the_jobs_author() -> None:
    job = builders.with_metadata(builders.fine_tune_job(), annotations={AUTHOR: "alice"})
    fake = await trained(job_world(job))
    assert fake.cluster.one("ModelVersion")["metadata"]["annotations"] == {AUTHOR: "alice"}


async def test_every_producer_is_noted_with_its_author() -> None:
    job = a_job("one", model_version="bot-1")
    annotated = job.metadata.model_copy(update={"annotations": {AUTHOR: "carol"}})
    fake = world_of(a_ready_version(), job.model_copy(update={"metadata": annotated}))
    await settle(modelversion.reconcile, KEY, fake)
    assert [p.author for p in seen(fake).status.producers] == ["carol"]


# --- where a version comes from and where it is, from the API alone --------------------------------


async def test_who_needs_a_version_can_be_read_by_programs() -> None:
    fake = world_of(
        a_ready_version(),
        a_service(models={"bot": {"name": "bot-1"}}),
        a_job("next", base="bot-1"),
    )
    await settle(modelversion.reconcile, KEY, fake)
    assert [(u.kind, u.name, u.role) for u in seen(fake).status.used_by] == [
        ("FineTuneJob", "next", "base"),
        ("InferenceService", "chat", "named for bot"),
    ]
    fake.cluster.take_away("InferenceService", (NAMESPACE, "chat"))
    fake.cluster.take_away("FineTuneJob", (NAMESPACE, "next"))
    await settle(modelversion.reconcile, KEY, fake)
    assert seen(fake).status.used_by == []


async def test_of_very_many_the_first_are_listed() -> None:
    services = [a_service(f"s-{n:03}", models={"bot": {"name": "bot-1"}}) for n in range(70)]
    fake = world_of(a_ready_version(), *services)
    await settle(modelversion.reconcile, KEY, fake)
    assert len(seen(fake).status.used_by) == 64


# --- a base that was retired ----------------------------------------------------------------------


def base_retired_at(moment: str, *, is_retired: bool = True) -> Any:
    ruling = {"action": "Retire", "decision": "d", "uid": "u", "by": "bob", "reason": "old"}
    status = {
        "conditions": [
            builders.condition("Ready"),
            builders.condition("Retired", str(is_retired)),
        ],
        "decisions": [{**ruling, "time": moment}],
    }
    return a_version("base", model="base", kind="Full", status=status)


def created_at(moment: str) -> FineTuneJob:
    job = a_job(base="base")
    metadata = job.metadata.model_copy(update={"creation_timestamp": moment})
    return job.model_copy(update={"metadata": metadata})


EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def test_a_job_that_is_created_after_its_base_was_retired_fails_for_good() -> None:
    found = known_base(created_at(LATER), base_retired_at(EARLIER))
    assert isinstance(found, Finding)
    assert (found.reason, found.is_unknown) == ("BaseModelRetired", False)


def test_a_job_that_was_there_before_goes_on() -> None:
    assert not isinstance(known_base(created_at(EARLIER), base_retired_at(LATER)), Finding)


def test_so_does_one_whose_base_was_taken_back_into_use() -> None:
    base = base_retired_at(EARLIER, is_retired=False)
    assert not isinstance(known_base(created_at(LATER), base), Finding)


# --- namespaces in the store ----------------------------------------------------------------------


def test_the_store_knows_what_namespaces_ask_for() -> None:
    store = Store()
    labels = {"trimtab.dev/require-approval": "true"}
    manifest = {"metadata": {"name": "a", "resourceVersion": "1", "labels": labels}}
    store.put(NAMESPACES.name, trimmed(NAMESPACES.name, manifest))
    reader = StoreReader(store)
    assert reader.policy("a") == NamespacePolicy(requires_approval=True)
    assert reader.policy("not-seen-yet").requires_approval, "what is not known is not waved through"


def test_of_a_namespace_only_name_and_labels_are_kept() -> None:
    metadata = {"name": "a", "labels": {"b": "c"}, "annotations": {"d": "e"}, "uid": "f"}
    kept = trimmed(NAMESPACES.name, {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}})
    assert kept == {
        "kind": "Namespace",
        "metadata": {"name": "a", "labels": {"b": "c"}, "resourceVersion": None},
    }
