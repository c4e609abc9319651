"""Every way in which a FineTuneJob may not get to its ModelVersion, or only later."""

from collections.abc import Callable

import pytest
from tests import batchjobs, builders
from tests.fakes import FakeCluster
from tests.jobworld import KEY, TRAINED, job, prepared, said, visit, world

from trimtab_api import names
from trimtab_api.documents import PrepareResult, RunFailure, TrainingResult
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.outcome import Done

FAILURES: dict[str, tuple[Callable[[FakeCluster], None], str, str]] = {
    "the program says why": (
        lambda c: batchjobs.fails(
            c,
            "train",
            code=42,
            result=TrainingResult(
                failure=RunFailure(reason="LossNotFinite", message="loss is nan at step 3")
            ),
        ),
        "LossNotFinite",
        "loss is nan at step 3",
    ),
    "the init container says why": (
        lambda c: batchjobs.fails(
            c,
            "train",
            code=42,
            container="fetch",
            result=TrainingResult(failure=RunFailure(reason="DiskFull", message="no space left")),
        ),
        "DiskFull",
        "no space left",
    ),
    "the container used too much memory": (
        lambda c: batchjobs.fails(c, "train", code=137, terminated={"reason": "OOMKilled"}),
        "OutOfMemory",
        "more memory than its limit",
    ),
    "the pod was evicted": (
        lambda c: batchjobs.fails(
            c, "train", code=137, reason="Evicted", message="node was low on disk"
        ),
        "Evicted",
        "node was low on disk",
    ),
    "the program died without a word": (
        lambda c: batchjobs.fails(
            c, "train", code=139, terminated={"message": "Segmentation fault"}
        ),
        "ContainerFailed",
        "exit code 139: Segmentation fault",
    ),
    "the deadline has passed": (
        lambda c: batchjobs.verdict(c, "train", "Failed", "DeadlineExceeded", "too long"),
        "DeadlineExceeded",
        "activeDeadlineSeconds",
    ),
    "all pods have vanished": (
        lambda c: batchjobs.verdict(c, "train", "Failed", "BackoffLimitExceeded", "the limit"),
        "JobFailed",
        "BackoffLimitExceeded: the limit",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_failure_is_told_with_its_reason_when(case: str) -> None:
    happens, reason, words = FAILURES[case]
    fake = await prepared(world())
    happens(fake.cluster)
    await visit(fake)
    assert (said(fake, "Failed").status, said(fake, "Failed").reason) == ("True", reason)
    failure = job(fake).status.failure
    assert failure is not None
    assert words in failure.message
    assert said(fake, "Complete").status == "False"
    assert not fake.cluster.of_kind("ModelVersion")


OBSTACLES: dict[str, tuple[Callable[[FakeCluster], None], str, str]] = {
    "no node is big enough": (
        lambda c: batchjobs.is_unschedulable(c, "train", "0/3 nodes: Insufficient nvidia.com/gpu"),
        "Unschedulable",
        "0/3 nodes: Insufficient nvidia.com/gpu",
    ),
    "the image cannot be pulled": (
        lambda c: batchjobs.waits(c, "train", "ImagePullBackOff", "manifest unknown"),
        "ImagePullFailed",
        "manifest unknown",
    ),
    "a Secret is missing": (
        lambda c: batchjobs.waits(c, "train", "CreateContainerConfigError", 'secret "s" not found'),
        "ContainerNotCreated",
        'secret "s" not found',
    ),
    "the node is gone": (
        lambda c: batchjobs.loses_its_node(c, "train"),
        "NodeLost",
        "node n1 of",
    ),
}


@pytest.mark.parametrize("case", OBSTACLES)
async def test_what_keeps_the_pod_from_running_is_told_when(case: str) -> None:
    happens, reason, words = OBSTACLES[case]
    fake = await prepared(world())
    happens(fake.cluster)
    await visit(fake)
    assert (said(fake, "Started").status, said(fake, "Started").reason) == ("False", reason)
    assert words in said(fake, "Started").message
    assert said(fake, "Failed").status == "False"


async def test_a_volume_that_takes_a_moment_is_no_trouble_until_it_takes_longer() -> None:
    fake = await prepared(world())
    unbound = "0/1 nodes: pod has unbound immediate PersistentVolumeClaims"
    batchjobs.is_unschedulable(fake.cluster, "train", unbound, timestamp(fake.clock.now()))
    outcome = await visit(fake)
    assert said(fake, "Started").reason == "Pending"
    assert "Unschedulable" not in {e.reason for e in fake.cluster.events.values()}
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await visit(fake)
    assert said(fake, "Started").reason == "Unschedulable"


async def test_bad_data_fails_the_job_at_once() -> None:
    fake = world()
    await visit(fake)
    told = PrepareResult(failure=RunFailure(reason="DataMalformed", message="line 7: no JSON"))
    batchjobs.fails(fake.cluster, "prepare", code=42, result=told)
    await visit(fake)
    assert said(fake, "Failed").reason == "DataMalformed"
    assert job(fake).status.failure is not None


async def test_a_failed_job_is_tried_again_on_request_with_its_inputs_and_volume() -> None:
    fake = await prepared(world())
    batchjobs.fails(fake.cluster, "train", code=139)
    await visit(fake)
    claim = fake.cluster.one("PersistentVolumeClaim")["metadata"]["name"]
    failed = batchjobs.job_of(fake.cluster, "train")["metadata"]["name"]
    request = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    fake.cluster.edit("FineTuneJob", KEY, request)
    await visit(fake)
    assert said(fake, "Failed").status == "False"
    assert (job(fake).status.attempt, job(fake).status.retry) == (1, "1")
    assert batchjobs.job_of(fake.cluster, "train")["metadata"]["name"] != failed
    assert [j["metadata"]["name"] for j in fake.cluster.of_kind("Job")] != [failed]
    assert fake.cluster.one("PersistentVolumeClaim")["metadata"]["name"] == claim
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    assert said(fake, "Complete").status == "True"
    assert job(fake).status.failure is None


async def test_a_request_is_served_once() -> None:
    fake = await prepared(world())
    batchjobs.fails(fake.cluster, "train", code=139)
    await visit(fake)
    fake.cluster.edit(
        "FineTuneJob", KEY, {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    )
    await visit(fake)
    batchjobs.fails(fake.cluster, "train", code=139)
    await visit(fake)
    assert said(fake, "Failed").status == "True"
    assert job(fake).status.attempt == 1


async def test_a_registry_that_is_away_at_publish_costs_nothing() -> None:
    fake = await prepared(world())
    told = TrainingResult(failure=RunFailure(reason="RegistryUnreachable", message="refused"))
    batchjobs.fails(fake.cluster, "train", result=told)
    outcome = await visit(fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    assert said(fake, "Failed").status == "False"
    assert said(fake, "Started").reason == "RegistryUnreachable"
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    assert said(fake, "Complete").status == "True"


async def test_a_suspended_job_starts_nothing() -> None:
    fake = world(builders.fine_tune_job(suspend=True))
    await visit(fake)
    assert not fake.cluster.of_kind("Job")
    assert said(fake, "Suspended").status == "True"
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    await visit(fake)
    assert said(fake, "Suspended").message == "has not trained yet; begins"


async def test_suspend_and_resume_reach_the_job() -> None:
    fake = await prepared(world())
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["suspend"] is True
    assert said(fake, "Suspended").status == "True"
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    told = len(fake.cluster.events)
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["suspend"] is False
    reasons = [event.reason for event in list(fake.cluster.events.values())[told:]]
    assert "Queued" not in reasons, "no queue holds it"
    assert (said(fake, "Suspended").status, said(fake, "Suspended").reason) == ("False", "Resumed")


def queued_job() -> builders.Manifest:
    labels = {names.LABEL_KUEUE_QUEUE: "gpus"}
    return builders.with_metadata(builders.fine_tune_job(), labels=labels)


async def test_the_queue_label_is_passed_on_and_the_queue_is_left_alone() -> None:
    fake = await prepared(world(queued_job()))
    train = batchjobs.job_of(fake.cluster, "train")
    assert train["metadata"]["labels"][names.LABEL_KUEUE_QUEUE] == "gpus"
    key = ("default", train["metadata"]["name"])
    fake.cluster.edit("Job", key, {"spec": {"suspend": True}})
    await visit(fake)
    assert fake.cluster.objects["Job", key]["spec"]["suspend"] is True
    assert said(fake, "Started").reason == "Queued"


async def test_a_queued_job_is_suspended_by_taking_it_away() -> None:
    fake = await prepared(world(queued_job()))
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    await visit(fake)
    stages = [j["metadata"]["labels"][names.LABEL_COMPONENT] for j in fake.cluster.of_kind("Job")]
    assert stages == ["prepare"]
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")


async def test_no_second_trainer_starts_while_one_still_writes_to_the_volume() -> None:
    fake = await prepared(world(queued_job()))
    batchjobs.runs(fake.cluster, "train")
    ((_, pod_key),) = [k for k in fake.cluster.objects if k[0] == "Pod" and "train" in k[1][1]]
    pod = fake.cluster.objects["Pod", pod_key]
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    await visit(fake)
    fake.cluster.add(pod)
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    await visit(fake)
    assert said(fake, "Started").reason == "Stopping"
    fake.cluster.take_away("Pod", pod_key)
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")


async def test_before_the_jobs_verdict_nobody_promises_another_try_that_will_not_come() -> None:
    fake = await prepared(world())
    told = TrainingResult(failure=RunFailure(reason="LossNotFinite", message="loss is nan"))
    batchjobs.stumbles(fake.cluster, "train", names.EXIT_USER_ERROR, told)
    await visit(fake)
    assert said(fake, "Started").message == "loss is nan"
    assert "loss is nan" in [e.message for e in fake.cluster.events.values()]
