"""What the pod that prepares a Dataset is given, and what it is told of other people's held-out data."""

import json
from contextlib import suppress
from typing import Any

import pytest
from tests import batchjobs, builders
from tests.datasetworld import (
    NEWER,
    asks_again,
    dataset,
    prepared,
    ready,
    result,
    said,
    task,
    visit,
    world,
)
from tests.fakes import Crash, FakeWorld

from trimtab_operator.domain.outcome import Done

# --- what the pod is given -------------------------------------------------------------------------


def volume_of(job: builders.Manifest, name: str) -> builders.Manifest:
    volumes = job["spec"]["template"]["spec"]["volumes"]
    (found,) = [v for v in volumes if v["name"] == name]
    return dict(found)


async def test_the_pod_gets_a_volume_of_its_own_of_the_size_that_the_user_says() -> None:
    fake = world(builders.dataset(storage={"size": "40Gi", "className": "fast"}))
    await visit(fake)
    claim = volume_of(fake.cluster.one("Job"), "volume")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"] == {"requests": {"storage": "40Gi"}}
    assert claim["storageClassName"] == "fast"


async def test_lists_of_words_are_mounted_where_sources_from_configmaps_are() -> None:
    lists = [{"configMap": {"name": "words", "key": "toxic.txt"}}]
    names = [{"configMap": {"name": "people", "key": "customers"}}]
    fake = world(builders.dataset(clean={"wordLists": lists, "pii": {"names": names}}))
    await visit(fake)
    container = fake.cluster.one("Job")["spec"]["template"]["spec"]["containers"][0]
    paths = {m["mountPath"] for m in container["volumeMounts"]}
    assert {"/configmaps/words", "/configmaps/people", "/configmaps/pairs"} <= paths


async def test_what_a_service_kept_is_mounted_for_reading_alone() -> None:
    fake = world(builders.dataset(sources=[{"uri": "capture://chat"}]))
    await visit(fake)
    job = fake.cluster.one("Job")
    (mount,) = [
        m
        for m in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        if m["mountPath"] == "/captures/chat"
    ]
    assert mount["readOnly"] is True
    source = volume_of(job, mount["name"])["persistentVolumeClaim"]
    assert source == {"claimName": "chat-capture", "readOnly": True}


async def test_deadline_resources_and_scheduling_are_the_users() -> None:
    fake = world(
        builders.dataset(
            activeDeadlineSeconds=60,
            resources={"cpu": "2", "memory": "2Gi"},
            pod={"nodeSelector": {"disk": "fast"}},
        )
    )
    await visit(fake)
    job = fake.cluster.one("Job")
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["activeDeadlineSeconds"] == 60
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "2Gi"}


async def test_the_document_says_nothing_that_is_not_for_the_pod() -> None:
    fake = world(builders.dataset(storage={"size": "40Gi"}))
    await visit(fake)
    name = batchjobs.job_of(fake.cluster, "prepare")["metadata"]["name"]
    text = fake.cluster.objects["ConfigMap", ("default", name)]["data"]["run.json"]
    assert set(json.loads(text)["data"]["dataset"]) == {
        "sources",
        "task",
        "columns",
        "clean",
        "split",
    }


# --- held-out data of others -----------------------------------------------------------------------

OTHER = ("default", "exam")
FIXED = f"oci://{builders.REGISTRY}/default/data@sha256:" + "9" * 64


def against(*references: builders.Manifest) -> builders.Manifest:
    return builders.dataset(leakage={"against": list(references)})


async def test_it_waits_for_the_held_out_data_that_it_names() -> None:
    fake = world(against({"dataset": {"name": "exam"}}))
    await visit(fake)
    assert said(fake) == ("Unknown", "HeldOutNotReady")
    assert "Dataset exam does not exist" in ready(fake).message
    fake.cluster.add(builders.dataset("exam"))
    await visit(fake)
    assert "has not been prepared yet" in ready(fake).message
    assert not fake.cluster.of_kind("Job")


def on(name: str, *others: str, **metadata: Any) -> builders.Manifest:
    """A Dataset whose training records must not be held out in the others."""
    references = [{"dataset": {"name": other}} for other in others]
    leakage: dict[str, Any] = {"leakage": {"against": references}} if others else {}
    made = builders.dataset(name, **leakage)
    made["metadata"] |= metadata
    return made


@pytest.mark.parametrize(
    ("webs", "way"),
    [
        pytest.param(
            [on("tickets", "exam"), on("exam", "tickets")],
            "tickets waits for exam waits for tickets",
            id="two",
        ),
        pytest.param(
            [on("tickets", "a"), on("a", "x", "b"), on("b", "tickets"), on("x")],
            "tickets waits for a waits for b waits for tickets",
            id="three, and one beside them",
        ),
    ],
)
async def test_datasets_that_wait_for_each_other_say_so(
    webs: list[builders.Manifest], way: str
) -> None:
    fake = world(*webs)
    await visit(fake)
    assert said(fake) == ("False", "Circular")
    assert way in ready(fake).message
    assert "remove one of these references" in ready(fake).message
    before = fake.cluster.writes
    assert await visit(fake) == Done()
    assert fake.cluster.writes == before
    assert not fake.cluster.of_kind("Job")


async def test_a_circle_that_another_breaks_is_forgotten() -> None:
    fake = world(on("tickets", "exam"), on("exam", "tickets"))
    await visit(fake)
    await visit(fake, OTHER)
    assert said(fake, OTHER) == ("False", "Circular")
    without = builders.dataset("exam")["spec"]
    fake.cluster.edit("Dataset", OTHER, {"spec": {**without, "leakage": None}})
    await exam(fake, NEWER)
    await prepared(fake)
    assert said(fake) == said(fake, OTHER) == ("True", "Ready")


async def test_one_that_waits_for_a_circle_is_not_in_it() -> None:
    fake = world(on("tickets", "a"), on("a", "b"), on("b", "a"))
    await visit(fake)
    assert said(fake) == ("Unknown", "HeldOutNotReady")


async def test_what_is_prepared_already_makes_no_circle() -> None:
    fake = world(on("tickets", "exam"), on("exam"))
    await exam(fake, NEWER)
    await prepared(fake)
    against_it = [{"dataset": {"name": "tickets"}}]
    fake.cluster.edit("Dataset", OTHER, {"spec": {"leakage": {"against": against_it}}})
    await visit(fake, OTHER)
    assert said(fake, OTHER) == ("Unknown", "Preparing")
    await visit(fake)
    assert said(fake) == ("True", "Ready")


async def exam(fake: FakeWorld, digest: str) -> None:
    await visit(fake, OTHER)
    batchjobs.succeeds(fake.cluster, "prepare", result(digest))
    await visit(fake, OTHER)


async def test_what_it_is_compared_with_is_frozen_before_the_pod_begins() -> None:
    fake = world(against({"dataset": {"name": "exam"}}, {"uri": FIXED}), builders.dataset("exam"))
    await exam(fake, NEWER)
    fake.cluster.dies_in(writes=2)  # the Event, and the decision
    with suppress(Crash):
        await visit(fake)
    fake.cluster.revive()
    frozen = [(h.dataset, h.uri.rpartition("@")[2]) for h in dataset(fake).status.held_out]
    assert frozen == [("exam", NEWER), (None, "sha256:" + "9" * 64)]
    asks_again(fake, "1", key=OTHER)
    await visit(fake, OTHER)
    batchjobs.succeeds(fake.cluster, "prepare", result("sha256:" + "6" * 64))
    await visit(fake, OTHER)
    await visit(fake)
    told = task(fake)
    assert told.data is not None
    assert told.data.leakage is not None
    assert told.data.leakage.against == dataset(fake).status.held_out
    assert told.data.leakage.against[0].uri.endswith(NEWER)


async def test_another_attempt_is_compared_with_what_is_held_out_then() -> None:
    fake = world(against({"dataset": {"name": "exam"}}), builders.dataset("exam"))
    await exam(fake, NEWER)
    await prepared(fake)
    asks_again(fake, "1", key=OTHER)
    await exam(fake, "sha256:" + "6" * 64)
    asks_again(fake, "1")
    await visit(fake)
    (frozen,) = dataset(fake).status.held_out
    assert frozen.uri.endswith("6" * 64)
