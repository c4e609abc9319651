"""A FineTuneJob from `kubectl apply` to its ModelVersion."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests import batchjobs, builders
from tests.fakes import Crash, FakeCluster, FakeWorld, settings
from tests.jobworld import (
    DATA,
    KEY,
    MADE,
    PREPARED,
    TRAINED,
    job,
    prepared,
    said,
    trained,
    visit,
    world,
)

from trimtab_api import names
from trimtab_api.v1alpha1.finetunejob import Progress
from trimtab_operator.adapters.store import key_of
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden
from trimtab_operator.domain.finetunejob import children
from trimtab_operator.domain.finetunejob.plan import NOTED_INTERVAL
from trimtab_operator.domain.observation import CATCHES_UP_WITHIN
from trimtab_operator.domain.outcome import Done, Retry


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


PULLED = "docker.io/trimtab/pipelines@sha256:" + "1" * 64
LOADED = "sha256:" + "2" * 64


async def prepared_on(image: str) -> FakeWorld:
    """Resolved by a pod whose image its node calls so."""
    fake = world()
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED, image=image)
    await visit(fake)
    return fake


def trainer_image(fake: FakeWorld) -> str:
    template = batchjobs.job_of(fake.cluster, "train")["spec"]["template"]
    return str(template["spec"]["containers"][0]["image"])


async def test_a_moved_tag_does_not_change_a_job_whose_first_pod_has_started() -> None:
    fake = await prepared_on(PULLED)
    resolved = job(fake).status.resolved
    assert resolved is not None
    assert (resolved.image, resolved.image_digest) == (PULLED, PULLED.partition("@")[2])
    assert trainer_image(fake) == PULLED
    batchjobs.succeeds(fake.cluster, "train", TRAINED, image=PULLED)
    await visit(fake)
    lineage = fake.cluster.one("ModelVersion")["spec"]["lineage"]
    assert (lineage["image"], lineage["imageDigest"]) == (PULLED, PULLED.partition("@")[2])


async def test_a_chart_that_changes_while_references_are_resolved_changes_nothing() -> None:
    fake = world()
    await visit(fake)
    images = fake.settings.images.model_copy(update={"pipelines": "trimtab/pipelines:next"})
    fake.settings = settings(images=images)
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED)
    await visit(fake)
    assert trainer_image(fake) == "trimtab/pipelines:dev"


async def test_lineage_says_which_image_was_loaded_into_the_node() -> None:
    fake = await prepared_on("sha256:" + "1" * 64)
    assert trainer_image(fake) == "trimtab/pipelines:dev"
    batchjobs.succeeds(fake.cluster, "train", TRAINED, image=LOADED)
    await visit(fake)
    lineage = fake.cluster.one("ModelVersion")["spec"]["lineage"]
    assert (lineage["image"], lineage["imageDigest"]) == ("trimtab/pipelines:dev", LOADED)


async def test_what_only_a_trainer_told_of_its_image_serves_the_next_trainer() -> None:
    fake = await prepared_on("")
    batchjobs.runs(fake.cluster, "train", image=PULLED)
    before = batchjobs.job_of(fake.cluster, "train")
    await visit(fake)
    assert batchjobs.job_of(fake.cluster, "train") == before
    batchjobs.fails(fake.cluster, "train", code=139)
    await visit(fake)
    request = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    fake.cluster.edit("FineTuneJob", KEY, request)
    await visit(fake)
    assert trainer_image(fake) == PULLED


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
    assert job(fake).status.progress == TRAINED.progress
    assert "ownerReferences" not in version["metadata"]
    assert version["spec"]["artifact"]["uri"].endswith(MADE)
    assert version["spec"]["baseModel"]["uri"].endswith(builders.BASE_DIGEST)
    assert version["spec"]["evaluation"]["dataset"]["uri"].endswith(DATA)
    assert version["spec"]["lineage"]["method"] == "lora"
    status = job(fake).status
    assert status.model_version == "support-bot-eeeeeeee"
    assert said(fake, "Complete").status == "True"
    assert said(fake, "Failed").status == "False"


async def test_what_was_trained_on_a_gpu_is_judged_on_one() -> None:
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    manifest = builders.fine_tune_job(
        resources={"gpus": 1, "memory": "32Gi"}, pod={"tolerations": tolerated}
    )
    labels = {names.LABEL_KUEUE_QUEUE: "gpus"}
    fake = await trained(world(builders.with_metadata(manifest, labels=labels)))
    version = fake.cluster.one("ModelVersion")
    evaluation = version["spec"]["evaluation"]
    assert evaluation["resources"] == {"gpus": 1, "cpu": "250m", "memory": "32Gi"}
    assert evaluation["pod"]["tolerations"] == tolerated
    assert version["metadata"]["labels"][names.LABEL_KUEUE_QUEUE] == "gpus"


async def cut(manifest: builders.Manifest, **counts: int) -> FakeWorld:
    """A job whose trainer had to cut records."""
    fake = await prepared(world(manifest))
    key = ("default", manifest["metadata"]["name"])
    batchjobs.succeeds(fake.cluster, "train", TRAINED.model_copy(update=counts))
    await visit(fake, key)
    return fake


async def test_records_that_were_cut_are_counted_and_told_once() -> None:
    fake = await cut(builders.fine_tune_job(), cut=3, dropped=1)
    records = job(fake).status.records
    assert records is not None
    assert (records.train, records.cut, records.dropped) == (8, 3, 1)
    fake.cluster.edit("FineTuneJob", KEY, {"spec": {"ttlSecondsAfterFinished": 600}})
    await visit(fake)
    (event,) = [e for e in fake.cluster.events.values() if e.reason == "RecordsCut"]
    assert event.type == "Warning"
    assert "3 of 8 training records are longer" in event.message
    assert "1 had no answer left" in event.message
    assert "raise maxLength" in event.message


async def test_what_was_noticed_about_the_data_is_told_even_if_the_operator_dies_then() -> None:
    fake = world()
    await visit(fake)
    found = {"warnings": [f"remark {number}" for number in range(12)]}
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED.model_copy(update=found))
    fake.cluster.dies_in(2)
    with suppress(Crash):
        await visit(fake)
    fake.cluster.revive()
    await visit(fake)
    (event,) = [e for e in fake.cluster.events.values() if e.reason == "DataRemarks"]
    assert event.type == "Warning"
    assert event.message.startswith("remark 0; remark 1; ")
    assert event.message.endswith("and 4 more, in the pod's log")


async def test_where_nothing_was_cut_nothing_is_told() -> None:
    fake = await cut(builders.fine_tune_job(), cut=0, dropped=0)
    records = job(fake).status.records
    assert records is not None
    assert (records.cut, records.dropped) == (0, 0)
    assert "RecordsCut" not in {e.reason for e in fake.cluster.events.values()}


async def test_long_texts_that_go_on_in_further_sequences_are_no_loss() -> None:
    manifest = builders.pretraining_job("tune")
    fake = await cut(manifest, cut=3, dropped=0)
    records = job(fake).status.records
    assert records is not None
    assert records.cut == 3
    assert "RecordsCut" not in {e.reason for e in fake.cluster.events.values()}


async def test_the_result_is_read_from_the_registry_where_the_pod_is_gone() -> None:
    fake = await prepared(world())
    uri = children.result_uri(job(fake), "train", fake.settings)
    fake.registry.documents[uri] = TRAINED.model_dump_json(by_alias=True).encode()
    batchjobs.verdict(fake.cluster, "train", "Complete", "CompletionsReached", "")
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
    await visit(fake)
    assert job(fake).status.model_version == "support-bot-eeeeeeee"


async def test_a_registry_that_is_away_is_waited_for() -> None:
    fake = await prepared(world())
    fake.registry.error = ArtifactUnreachable("connection refused")
    batchjobs.verdict(fake.cluster, "train", "Complete", "CompletionsReached", "")
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
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
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
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
    noted(fake, "uid-of-tune-before")
    assert await visit(fake) == Done(NOTED_INTERVAL), "its version does not know it yet"
    assert fake.cluster.of_kind("FineTuneJob")
    noted(fake, "uid-of-tune-before", job(fake).metadata.uid)
    await visit(fake)
    kinds = {kind for kind, _ in fake.cluster.objects}
    assert kinds == {"ModelVersion"}


@pytest.mark.parametrize("how", ["deleted", "full", "gone"])
async def test_a_finished_job_waits_for_no_version_that_cannot_note_it(how: str) -> None:
    fake = await trained(world(builders.fine_tune_job(ttlSecondsAfterFinished=1)))
    fake.clock.advance(seconds=1)
    version = key_of(fake.cluster.one("ModelVersion"))
    if how == "deleted":
        going = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
        fake.cluster.edit("ModelVersion", version, going)
    elif how == "full":
        noted(fake, *(f"uid-of-another-{number}" for number in range(64)))
    else:
        fake.cluster.take_away("ModelVersion", version)
    await visit(fake)
    assert not fake.cluster.of_kind("FineTuneJob")


def noted(fake: FakeWorld, *uids: str) -> None:
    """What the version's own reconciler writes in time."""
    producers = [{"fineTuneJob": "tune", "uid": uid} for uid in uids]
    key = key_of(fake.cluster.one("ModelVersion"))
    fake.cluster.edit("ModelVersion", key, {"status": {"producers": producers}})


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
