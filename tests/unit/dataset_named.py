"""A FineTuneJob whose data is a Dataset, by name."""

from contextlib import suppress
from typing import Any

import pytest
from tests import batchjobs, builders
from tests import datasetworld as data
from tests.fakes import Crash, FakeWorld
from tests.jobworld import KEY, TRAINED, job, said, visit, world

from trimtab_api import names
from trimtab_api.documents import TrainingRun
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_operator.domain.references import View, wake_ups

BY_NAME = {"name": "tickets"}


def named(**changes: Any) -> builders.Manifest:
    return builders.fine_tune_job(**{"dataset": BY_NAME, **changes})


async def with_data(fake: FakeWorld, digest: str = data.DATA, **changes: Any) -> FakeWorld:
    """The Dataset is there and Ready."""
    if ("Dataset", data.KEY) not in fake.cluster.objects:
        fake.cluster.add(builders.dataset(**changes))
    await data.visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", data.result(digest))
    await data.visit(fake)
    return fake


async def test_it_waits_until_the_dataset_is_ready() -> None:
    fake = world(named())
    await visit(fake)
    assert (said(fake, "Started").status, said(fake, "Started").reason) == (
        "False",
        "DatasetNotReady",
    )
    assert "Dataset tickets does not exist" in said(fake, "Started").message
    fake.cluster.add(builders.dataset())
    await data.visit(fake)
    await visit(fake)
    assert "not Ready: the data is being prepared" in said(fake, "Started").message
    assert job(fake).status.resolved is None


async def test_it_trains_on_the_datas_digest_and_needs_no_pod_to_find_it_out() -> None:
    fake = await with_data(world(named()))
    await visit(fake)
    resolved = job(fake).status.resolved
    assert resolved is not None
    assert resolved.dataset_digest == data.DATA
    assert resolved.dataset_report == data.REPORT
    assert resolved.base_model_digest == builders.BASE_DIGEST
    assert resolved.image == "trimtab/pipelines:dev"
    records = job(fake).status.records
    assert records is not None
    assert (records.train, records.test, records.dropped) == (8, 1, None)
    stages = [
        (
            j["metadata"]["labels"].get(names.LABEL_JOB),
            j["metadata"]["labels"][names.LABEL_COMPONENT],
        )
        for j in fake.cluster.of_kind("Job")
    ]
    assert (None, "prepare") in stages  # the Dataset's own
    assert [stage for owner, stage in stages if owner == "tune"] == ["train"]
    name = batchjobs.job_of(fake.cluster, "train")["metadata"]["name"]
    document = fake.cluster.objects["ConfigMap", ("default", name)]["data"]["run.json"]
    assert TrainingRun.model_validate_json(document).data.digest == data.DATA


async def test_a_dataset_that_changes_later_changes_no_job() -> None:
    fake = await with_data(world(named()))
    await visit(fake)
    data.changes_spec(fake, split={"train": 80, "validation": 10, "test": 10})
    await with_data(fake, data.NEWER)
    await visit(fake)
    resolved = job(fake).status.resolved
    assert resolved is not None
    assert resolved.dataset_digest == data.DATA
    fake.cluster.take_away("Dataset", data.KEY)
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    assert said(fake, "Complete").status == "True"


async def test_data_of_an_earlier_spec_is_not_what_the_job_asked_for() -> None:
    fake = await with_data(world(named()))
    data.changes_spec(fake, task="Chat")
    await visit(fake)
    assert said(fake, "Started").reason == "DatasetNotReady"
    assert "has not been prepared yet" in said(fake, "Started").message


async def test_the_version_says_which_dataset_it_comes_from() -> None:
    fake = await with_data(world(named()))
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    version = fake.cluster.one("ModelVersion")
    assert version["spec"]["lineage"]["dataset"]["name"] == "tickets"
    assert version["spec"]["lineage"]["dataset"]["digest"] == data.DATA
    labels = version["metadata"]["labels"]
    assert labels[names.LABEL_DATASET] == "tickets"
    assert labels[names.LABEL_DATASET_DIGEST] == "d" * 12
    assert labels[names.LABEL_BASE_DIGEST] == "c" * 12
    assert labels[names.LABEL_MODEL] == "support-bot"


async def test_only_a_base_from_outside_needs_a_pod_then() -> None:
    base = {"uri": "hf://org/name", "revision": builders.COMMIT}
    fake = await with_data(world(named(baseModel=base)))
    await visit(fake)
    ours = [j for j in fake.cluster.of_kind("Job") if names.LABEL_JOB in j["metadata"]["labels"]]
    (prepare,) = ours
    name = prepare["metadata"]["name"]
    document = fake.cluster.objects["ConfigMap", ("default", name)]["data"]["run.json"]
    assert '"data"' not in document
    assert '"base"' in document


async def test_a_base_on_its_way_is_held_back_too_while_the_job_is_suspended() -> None:
    base = {"uri": "hf://org/name", "revision": builders.COMMIT}
    fake = await with_data(world(named(baseModel=base)))
    await visit(fake)
    data.changes_spec(fake, task="Chat")
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "prepare")["spec"]["suspend"] is True


NOTHING_TESTED = PreparedRecords(read=9, kept=9, train=9)
EARLY = {"patience": 2}


@pytest.mark.parametrize(
    ("changes", "of_data", "words"),
    [
        pytest.param({}, {"task": "Text"}, ["task Text", "Instruction or Chat"], id="the task"),
        pytest.param({}, {"task": "Preference"}, ["task Preference"], id="pairs of answers"),
        pytest.param(
            {"earlyStopping": EARLY},
            {"records": NOTHING_TESTED},
            ["earlyStopping", "split.validation"],
            id="nothing to stop early by",
        ),
        pytest.param(
            {"evaluation": {"gates": [{"metric": "RougeL", "atLeast": 0.3}]}},
            {"records": NOTHING_TESTED},
            ["evaluation.gates", "split.test"],
            id="nothing to judge by",
        ),
    ],
)
async def test_data_that_does_not_fit_fails_the_job_with_the_remedy(
    changes: builders.Manifest, of_data: dict[str, Any], words: list[str]
) -> None:
    fake = world(named(**changes))
    fake.cluster.add(builders.dataset(task=of_data.get("task", "Instruction")))
    records = {"records": of_data["records"]} if "records" in of_data else {}
    await data.prepared(fake, **records)
    await visit(fake)
    failed = said(fake, "Failed")
    assert (failed.status, failed.reason) == ("True", "DatasetUnsuitable")
    assert [w for w in ["Dataset tickets", *words] if w not in failed.message] == []


async def test_text_has_no_answers_to_gate_on() -> None:
    gates = {"gates": [{"metric": "RougeL", "atLeast": 0.3}]}
    fake = world(builders.pretraining_job(dataset=BY_NAME, evaluation=gates))
    fake.cluster.add(builders.dataset(task="Text"))
    await data.prepared(fake)
    await visit(fake, ("default", "pretrain"))
    failed = next(
        c for c in job(fake, ("default", "pretrain")).status.conditions if c.type == "Failed"
    )
    assert failed.reason == "DatasetUnsuitable"
    assert "RougeL" in failed.message


async def test_a_suspended_job_freezes_nothing_yet() -> None:
    fake = await with_data(world(named(suspend=True)))
    await visit(fake)
    assert job(fake).status.resolved is None


@pytest.mark.parametrize("writes", range(9))
async def test_a_crash_between_writes_leaves_no_trace(writes: int) -> None:
    calm, shaken = await with_data(world(named())), await with_data(world(named()))
    await visit(calm)
    shaken.cluster.dies_in(writes)
    with suppress(Crash):
        await visit(shaken)
    shaken.cluster.revive()
    await visit(shaken)
    assert shaken.cluster.state == calm.cluster.state


# --- who is woken ----------------------------------------------------------------------------------


def view(kind: str, manifest: builders.Manifest, status: builders.Manifest | None = None) -> View:
    meta = {**manifest["metadata"], "uid": "u", "generation": 1}
    return View.of(kind, {**manifest, "metadata": meta, "status": status or {}})


def test_a_dataset_that_becomes_ready_wakes_whoever_names_it() -> None:
    before = view("Dataset", builders.dataset())
    after = view(
        "Dataset", builders.dataset(), {"conditions": [builders.condition("Ready", "True")]}
    )
    woken = wake_ups(before, after)
    target = ("Dataset", "default", "tickets")
    assert target in woken.reverse
    assert target in view("FineTuneJob", named()).references
    other = builders.dataset("exam", leakage={"against": [{"dataset": {"name": "tickets"}}]})
    assert target in view("Dataset", other).references


def test_a_verdict_about_a_newer_spec_wakes_them_too() -> None:
    """Both are Ready: what has changed is what they are Ready as."""
    first, second = (
        view("Dataset", builders.dataset(), {"conditions": [c]})
        for c in (
            builders.condition("Ready", generation=1),
            builders.condition("Ready", generation=2),
        )
    )
    assert wake_ups(first, second).reverse
    assert not wake_ups(first, first).reverse
