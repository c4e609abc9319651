"""The graph around a version: what is in it, what stays when objects are gone, and what it costs to look again."""

import json
from typing import Any

import pytest
from tests import builders
from tests.fakes import FakeWorld, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    condition,
    digest_of,
    metadata_of,
    ready_status,
    uri_of,
)
from tests.versionworld import KEY, seen, world_of

from trimtab_api.v1alpha1 import Dataset, FineTuneJob, ModelVersion
from trimtab_api.v1alpha1.lineage import MAX_NODES, LineageGraph
from trimtab_operator.domain.modelversion.lineage import Around, graph
from trimtab_operator.domain.modelversion.usage import Use
from trimtab_operator.reconcilers.modelversion import reconcile

DATA = digest_of("data")


def made_by(name: str = "bot-1", **lineage: Any) -> ModelVersion:
    """A version of a job on the Dataset `tickets`."""
    version = a_ready_version(name, base={"modelVersion": {"name": "base-1"}})
    wire: dict[str, Any] = version.to_wire()
    wire["spec"]["lineage"] = {"dataset": {"name": "tickets", "digest": DATA}, **lineage}
    wire["metadata"] = version.metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ModelVersion.model_validate(wire)


def a_training(name: str = "train", inline: bool = False, **more: Any) -> FineTuneJob:
    """The job that has made bot-1."""
    data = (
        {"inline": {"sources": [{"uri": "pvc://claim/a.jsonl"}]}} if inline else {"name": "tickets"}
    )
    return FineTuneJob.model_validate(
        {
            "metadata": metadata_of(name, annotations={"trimtab.dev/author": "alice"}),
            "spec": {
                "baseModel": {"modelVersion": {"name": "base-1"}},
                "dataset": data,
                "method": {"lora": {}},
                "output": {"model": "bot"},
            },
            "status": {
                "modelVersion": "bot-1",
                "resolved": {"datasetDigest": DATA},
                "conditions": [condition("Complete")],
                **more,
            },
        }
    )


def tickets(prepared_generation: int = 1) -> Dataset:
    manifest = builders.dataset("tickets", sources=[{"uri": "s3://bucket/tickets/*.jsonl"}])
    manifest["metadata"] |= {"namespace": NAMESPACE, "uid": "uid-tickets", "generation": 1}
    manifest["status"] = {"digest": DATA, "preparedGeneration": prepared_generation}
    return Dataset.model_validate(manifest)


def the_base(**status: Any) -> ModelVersion:
    return a_ready_version("base-1", model="base", kind="Full", status=ready_status(None, **status))


SERVED = a_service(
    models={"bot": {"name": "bot-1"}},
    status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
)


def edges(found: LineageGraph | None) -> set[tuple[str, str, str]]:
    assert found is not None
    return {(e.source, str(e.relation), e.target) for e in found.edges}


async def looked_at(*objects: Any) -> FakeWorld:
    fake = world_of(*objects)
    await settle(reconcile, KEY, fake)
    return fake


SHORT = f"Data/{DATA[:19]}"
WHOLE = {
    ("Source/s3://bucket/tickets/*.jsonl", "PreparedInto", SHORT),
    (SHORT, "Trained", "FineTuneJob/train"),
    ("ModelVersion/base-1", "Started", "FineTuneJob/train"),
    ("ModelVersion/base-1", "BaseOf", "ModelVersion/bot-1"),
    ("FineTuneJob/train", "Made", "ModelVersion/bot-1"),
    ("ModelVersion/bot-1", "ServedBy", "InferenceService/chat"),
}


async def test_from_data_to_service_it_is_all_in_status() -> None:
    fake = await looked_at(made_by(parent="base-1"), the_base(), a_training(), tickets(), SERVED)
    found = seen(fake).status.lineage
    assert edges(found) == WHOLE
    assert found is not None
    assert found.nodes[0].id == "ModelVersion/bot-1", "the version itself is the first"
    by_id = {n.id: n for n in found.nodes}
    assert by_id["ModelVersion/base-1"].digest == digest_of("base-1")
    assert by_id["FineTuneJob/train"].note == "by alice"
    assert by_id["InferenceService/chat"].note == "active for bot"
    assert found.omitted == 0


async def test_another_look_writes_nothing() -> None:
    fake = await looked_at(made_by(parent="base-1"), the_base(), a_training(), tickets(), SERVED)
    before = fake.cluster.writes
    await settle(reconcile, KEY, fake)
    assert fake.cluster.writes == before


async def test_a_version_that_was_seen_before_its_job_tells_the_same_in_the_end() -> None:
    fake = await looked_at(made_by(parent="base-1"), the_base(), tickets(), SERVED)
    assert (SHORT, "Trained", "ModelVersion/bot-1") in edges(seen(fake).status.lineage)
    fake.cluster.add(a_training())
    await settle(reconcile, KEY, fake)
    assert edges(seen(fake).status.lineage) == WHOLE


async def test_where_it_comes_from_stays_when_the_objects_are_gone_and_its_users_do_not() -> None:
    fake = await looked_at(made_by(parent="base-1"), the_base(), a_training(), tickets(), SERVED)
    for kind, name in (
        ("FineTuneJob", "train"),
        ("Dataset", "tickets"),
        ("InferenceService", "chat"),
    ):
        fake.cluster.take_away(kind, (NAMESPACE, name))
    await settle(reconcile, KEY, fake)
    left = {edge for edge in WHOLE if edge[1] != "ServedBy"}
    assert edges(seen(fake).status.lineage) == left


async def test_the_origin_of_the_base_is_part_of_it() -> None:
    corpus = {
        "nodes": [
            {"id": "ModelVersion/base-1", "kind": "ModelVersion", "name": "base-1"},
            {"id": "FineTuneJob/pretrain", "kind": "FineTuneJob", "name": "pretrain"},
            {"id": "Data/sha256:c", "kind": "Data", "name": "corpus"},
            {"id": "InferenceService/other", "kind": "InferenceService", "name": "other"},
        ],
        "edges": [
            {"source": "Data/sha256:c", "target": "FineTuneJob/pretrain", "relation": "Trained"},
            {"source": "FineTuneJob/pretrain", "target": "ModelVersion/base-1", "relation": "Made"},
            {
                "source": "ModelVersion/base-1",
                "target": "InferenceService/other",
                "relation": "ServedBy",
            },
        ],
    }
    fake = await looked_at(made_by(), the_base(lineage=corpus))
    found = edges(seen(fake).status.lineage)
    assert ("Data/sha256:c", "Trained", "FineTuneJob/pretrain") in found
    assert ("FineTuneJob/pretrain", "Made", "ModelVersion/base-1") in found
    assert "InferenceService/other" not in {target for _, _, target in found}, (
        "that is the base's own"
    )


async def test_data_that_a_job_describes_itself_has_its_sources_too() -> None:
    version = made_by()
    spec = version.spec.model_copy(
        update={"lineage": version.spec.lineage.model_validate({"dataset": {"digest": DATA}})}
    )
    fake = await looked_at(version.model_copy(update={"spec": spec}), a_training(inline=True))
    assert ("Source/pvc://claim/a.jsonl", "PreparedInto", SHORT) in edges(seen(fake).status.lineage)


async def test_a_dataset_that_was_changed_since_does_not_tell_its_new_sources() -> None:
    fake = await looked_at(made_by(), a_training(), tickets(prepared_generation=0))
    assert not any(
        relation == "PreparedInto" for _, relation, _ in edges(seen(fake).status.lineage)
    )


async def test_an_imported_adapter_of_a_mirrored_base() -> None:
    base = {"uri": uri_of("base"), "origin": "hf://org/name@abc"}
    fake = await looked_at(a_ready_version(base=base))
    found = seen(fake).status.lineage
    name = f"Model/{digest_of('base')[:19]}"
    assert edges(found) == {(name, "BaseOf", "ModelVersion/bot-1")}
    assert found is not None
    assert next(n.name for n in found.nodes if n.id == name) == "hf://org/name@abc"


async def test_a_full_version_that_was_trained_from_a_model_of_others() -> None:
    job = a_training(resolved={"baseModelDigest": digest_of("gpt")})
    source = job.spec.base_model.model_validate({"uri": "hf://org/gpt", "revision": "a1b2"})
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"base_model": source})})
    fake = await looked_at(a_ready_version(kind="Full"), job)
    origin = (f"Model/{digest_of('gpt')[:19]}", "Started", "FineTuneJob/train")
    assert origin in edges(seen(fake).status.lineage)
    fake.cluster.take_away("FineTuneJob", (NAMESPACE, "train"))
    await settle(reconcile, KEY, fake)
    found = seen(fake).status.lineage
    assert origin in edges(found)
    assert found is not None
    assert "hf://org/gpt@a1b2" in {n.name for n in found.nodes}


def test_what_has_no_room_is_counted_and_the_origin_comes_first() -> None:
    users = [Use("InferenceService", f"chat-{n:03}", "active for bot") for n in range(100)]
    found = graph(made_by(), Around(base=the_base(), users=users))
    assert len(found.nodes) == MAX_NODES
    assert found.omitted == 3 + 100 - MAX_NODES  # the version, its base, its data
    assert {"ModelVersion/base-1", SHORT} <= {n.id for n in found.nodes}
    assert {e.target for e in found.edges} <= {n.id for n in found.nodes}


@pytest.mark.parametrize("rounds", [3])
def test_versions_that_claim_each_other_as_parents_come_to_rest(rounds: int) -> None:
    one, two = made_by("bot-1", parent="bot-2"), made_by("bot-2", parent="bot-1")
    states: list[str] = []
    for _ in range(rounds):
        first, second = graph(one, Around(parent=two)), graph(two, Around(parent=one))
        one = one.model_copy(update={"status": one.status.model_copy(update={"lineage": first})})
        two = two.model_copy(update={"status": two.status.model_copy(update={"lineage": second})})
        states.append(json.dumps([first.to_wire(), second.to_wire()]))
    assert states[-1] == states[-2]
