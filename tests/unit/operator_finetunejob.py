"""A FineTuneJob from `kubectl apply` to its ModelVersion, and every way in which it may not get there."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests import batchjobs, builders
from tests.fakes import Crash, FakeCluster, FakeWorld, settings, settle

from trimtab_api import names
from trimtab_api.documents import PrepareResult, RunFailure, TrainingResult
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.finetunejob import Progress, RecordCounts
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden
from trimtab_operator.domain.finetunejob import children
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.reconcilers.finetunejob import reconcile

KEY = ("default", "tune")
DATA = "sha256:" + "d" * 64
MADE = "sha256:" + "e" * 64
PREPARED = PrepareResult(
    data=PreparedArtifact(
        uri=f"oci://registry.internal:5000/trimtab/default/data@{DATA}", digest=DATA
    ),
    records=RecordCounts(read=10, kept=10, train=8, validation=1, test=1),
)
TRAINED = TrainingResult(
    artifact=TrainedArtifact(
        uri=f"oci://registry.internal:5000/trimtab/default/support-bot@{MADE}",
        digest=MADE,
        kind=ArtifactKind.ADAPTER,
        rank=16,
    ),
    progress=Progress(percent=100, step=9, steps=9),
)


def world(*jobs: builders.Manifest, **parts: Any) -> FakeWorld:
    fake = FakeWorld(**parts)
    for manifest in jobs or [builders.fine_tune_job()]:
        fake.cluster.add(manifest)
    return fake


async def visit(fake: FakeWorld, key: tuple[str, str] = KEY) -> Outcome:
    return await settle(reconcile, key, fake)


def job(fake: FakeWorld, key: tuple[str, str] = KEY) -> FineTuneJob:
    found = fake.cluster.get(FineTuneJob, key)
    assert found is not None
    return found


def said(fake: FakeWorld, kind: str) -> Condition:
    found = find(job(fake).status.conditions, kind)
    assert found is not None
    return found


async def prepared(fake: FakeWorld) -> FakeWorld:
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED)
    await visit(fake)
    return fake


async def trained(fake: FakeWorld) -> FakeWorld:
    await prepared(fake)
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    return fake


async def test_first_the_references_are_resolved_by_a_job() -> None:
    fake = world()
    await visit(fake)
    task = fake.cluster.one("ConfigMap")
    assert task["metadata"]["name"] == fake.cluster.one("Job")["metadata"]["name"]
    assert (said(fake, "Started").status, said(fake, "Started").reason) == ("False", "Preparing")
    assert job(fake).status.resolved is None


async def test_what_was_resolved_is_frozen_before_training_begins() -> None:
    fake = await prepared(world())
    frozen = job(fake).status.resolved
    assert frozen is not None
    assert frozen.base_model_digest == builders.BASE_DIGEST
    assert frozen.dataset_digest == DATA
    assert frozen.image == "trimtab/pipelines:dev"
    fake.settings = settings(
        images=fake.settings.images.model_copy(update={"pipelines": "trimtab/pipelines:next"})
    )
    await visit(fake)
    train = batchjobs.job_of(fake.cluster, "train")
    container = train["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "trimtab/pipelines:dev"


async def test_the_inputs_are_written_down_before_anything_follows_from_them() -> None:
    fake = world()
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED)
    fake.cluster.dies_in(writes=1)
    with pytest.raises(Crash):
        await visit(fake)
    fake.cluster.revive()
    assert job(fake).status.resolved is not None
    assert not fake.cluster.of_kind("PersistentVolumeClaim")


async def test_progress_of_the_running_pod_is_told() -> None:
    fake = await prepared(world())
    batchjobs.runs(fake.cluster, "train")
    fake.pods.trainers["10.0.0.9"] = Progress(percent=40, step=4, steps=10, loss=1.5)
    outcome = await visit(fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    assert job(fake).status.progress == Progress(percent=40, step=4, steps=10, loss=1.5)
    assert said(fake, "Started").status == "True"


async def test_a_pod_that_does_not_answer_leaves_the_last_progress() -> None:
    fake = await prepared(world())
    batchjobs.runs(fake.cluster, "train")
    fake.pods.trainers["10.0.0.9"] = Progress(percent=40, step=4, steps=10)
    await visit(fake)
    fake.pods.trainers.clear()
    await visit(fake)
    progress = job(fake).status.progress
    assert progress is not None
    assert progress.percent == 40


async def test_the_result_becomes_a_model_version_named_by_its_content() -> None:
    fake = await trained(world())
    version = fake.cluster.one("ModelVersion")
    assert version["metadata"]["name"] == "support-bot-eeeeeeee"
    assert "ownerReferences" not in version["metadata"]
    assert version["spec"]["artifact"]["uri"].endswith(MADE)
    assert version["spec"]["baseModel"]["uri"].endswith(builders.BASE_DIGEST)
    assert version["spec"]["evaluation"]["dataset"]["uri"].endswith(DATA)
    assert version["spec"]["lineage"]["method"] == "lora"
    status = job(fake).status
    assert status.model_version == "support-bot-eeeeeeee"
    assert said(fake, "Complete").status == "True"
    assert said(fake, "Failed").status == "False"


async def test_the_result_is_read_from_the_registry_where_the_pod_is_gone() -> None:
    fake = await prepared(world())
    uri = children.result_uri(job(fake), "train", fake.settings)
    fake.registry.documents[uri] = TRAINED.model_dump_json(by_alias=True).encode()
    batchjobs.verdict(fake.cluster, "train", "Complete", "CompletionsReached", "")
    await visit(fake)
    assert job(fake).status.model_version == "support-bot-eeeeeeee"


async def test_a_registry_that_is_away_is_waited_for() -> None:
    fake = await prepared(world())
    fake.registry.error = ArtifactUnreachable("connection refused")
    batchjobs.verdict(fake.cluster, "train", "Complete", "CompletionsReached", "")
    outcome = await visit(fake)
    assert isinstance(outcome, Retry)
    assert said(fake, "Started").reason == "RegistryUnreachable"
    fake.registry.error = None
    uri = children.result_uri(job(fake), "train", fake.settings)
    fake.registry.documents[uri] = TRAINED.model_dump_json(by_alias=True).encode()
    await visit(fake)
    assert said(fake, "Complete").status == "True"


async def test_a_job_that_leaves_no_result_has_failed() -> None:
    fake = await prepared(world())
    batchjobs.verdict(fake.cluster, "train", "Complete", "CompletionsReached", "")
    await visit(fake)
    assert said(fake, "Failed").reason == "ResultMissing"


async def test_a_second_job_with_the_same_result_joins_the_version() -> None:
    fake = world(builders.fine_tune_job(), builders.fine_tune_job("again"))
    await trained(fake)
    await visit(fake, ("default", "again"))
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED)
    await visit(fake, ("default", "again"))
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake, ("default", "again"))
    assert len(fake.cluster.of_kind("ModelVersion")) == 1
    assert job(fake, ("default", "again")).status.model_version == "support-bot-eeeeeeee"


async def test_a_version_of_that_name_with_other_content_is_a_failure() -> None:
    fake = world()
    fake.cluster.add(builders.model_version("support-bot-eeeeeeee"))
    await trained(fake)
    assert said(fake, "Failed").reason == "VersionNameTaken"
    assert "choose another output.model" in said(fake, "Failed").message


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


async def test_suspend_and_resume_reach_the_job() -> None:
    fake = await prepared(world())
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": True}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["suspend"] is True
    assert said(fake, "Suspended").status == "True"
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"suspend": False}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["suspend"] is False
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


async def test_a_changed_deadline_reaches_the_running_job() -> None:
    fake = await prepared(world(builders.fine_tune_job(activeDeadlineSeconds=60)))
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["activeDeadlineSeconds"] == 60
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"activeDeadlineSeconds": 600}})
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train")["spec"]["activeDeadlineSeconds"] == 600


async def test_a_finished_job_goes_after_its_time_with_all_it_had() -> None:
    fake = await trained(world(builders.fine_tune_job(ttlSecondsAfterFinished=100)))
    outcome = await visit(fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    fake.clock.advance(seconds=99)
    await visit(fake)
    assert fake.cluster.of_kind("FineTuneJob")
    fake.clock.advance(seconds=1)
    await visit(fake)
    kinds = {kind for kind, _ in fake.cluster.objects}
    assert kinds == {"ModelVersion"}


async def test_a_base_that_is_not_ready_is_waited_for() -> None:
    base = {"modelVersion": {"name": "tiny-base-cccccccc"}}
    fake = world(builders.fine_tune_job(baseModel=base))
    await visit(fake)
    assert said(fake, "Started").reason == "BaseModelNotReady"
    assert not fake.cluster.of_kind("Job")
    ready = builders.full_version()
    ready["status"] = {
        "conditions": [
            {**builders.condition("Ready"), "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ]
    }
    fake.cluster.add(ready)
    await prepared(fake)
    frozen = job(fake).status.resolved
    assert frozen is not None
    assert frozen.base_model_digest == builders.BASE_DIGEST


async def test_an_adapter_as_base_is_refused_with_the_remedy() -> None:
    base = {"modelVersion": {"name": "support-bot-aaaaaaaa"}}
    fake = world(builders.fine_tune_job(baseModel=base))
    fake.cluster.add(builders.model_version())
    await visit(fake)
    assert said(fake, "Failed").reason == "BaseModelUnsuitable"
    assert "full version" in said(fake, "Failed").message


async def test_a_quota_that_says_no_is_told_and_tried_again() -> None:
    fake = world()
    fake.cluster.fails = lambda verb, manifest: (
        Forbidden("exceeded quota: jobs") if manifest.get("kind") == "Job" else None
    )
    outcome = await visit(fake)
    assert isinstance(outcome, Retry)
    assert said(fake, "Started").reason == "NotAllowed"
    assert "exceeded quota" in said(fake, "Started").message
    fake.cluster.fails = lambda verb, manifest: None
    await visit(fake)
    assert said(fake, "Started").reason == "Preparing"


async def test_each_transition_is_told_once() -> None:
    fake = await trained(world())
    reasons = sorted(event.reason for event in fake.cluster.events.values())
    assert reasons == ["Pending", "Preparing", "Succeeded", "Trained"]
    await visit(fake)
    assert len(fake.cluster.events) == 4


async def test_at_rest_nothing_is_written() -> None:
    fake = await trained(world())
    before = fake.cluster.writes
    await visit(fake)
    assert fake.cluster.writes == before


async def whole_life(cluster: FakeCluster, crash: bool) -> FakeCluster:
    """From nothing to a version; with `crash`, the operator dies as the cluster was told."""
    fake = world(cluster=cluster)
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: batchjobs.succeeds(cluster, "prepare", PREPARED),
        lambda: batchjobs.succeeds(cluster, "train", TRAINED),
    ]
    for happens in steps:
        happens()
        if crash:
            with suppress(Crash):
                await visit(fake)
                continue
            cluster.revive()
        await visit(fake)
    return cluster


@pytest.mark.parametrize("writes", range(14))
async def test_a_crash_after_any_write_leaves_no_trace(writes: int) -> None:
    calm = await whole_life(FakeCluster(), crash=False)
    shaken = await whole_life(FakeCluster(dies_after=writes), crash=True)
    assert shaken.state == calm.state
    assert calm.writes <= 14
