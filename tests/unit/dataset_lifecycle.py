"""A Dataset from `kubectl apply` to Ready, and again whenever its spec changes or somebody asks."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests import batchjobs, builders
from tests.datasetworld import (
    DATA,
    NEWER,
    REPORT,
    asks_again,
    changes_spec,
    dataset,
    prepared,
    ready,
    result,
    said,
    task,
    visit,
    world,
)
from tests.fakes import Crash, FakeCluster, FakeWorld

from trimtab_api.documents import PrepareResult
from trimtab_api.documents.common import RunFailure
from trimtab_operator.adapters.store import key_of
from trimtab_operator.domain.dataset import children
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden, Refused
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.observation import CATCHES_UP_WITHIN
from trimtab_operator.domain.outcome import Done, Retry


def failing(reason: str) -> PrepareResult:
    return PrepareResult(failure=RunFailure(reason=reason, message=f"it was {reason}"))


async def test_first_a_pod_prepares_it_and_nothing_is_known() -> None:
    fake = world()
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert dataset(fake).status.observed_generation == 1
    assert dataset(fake).status.digest is None
    told = task(fake)
    assert told.data is not None
    assert told.data.dataset.sources == dataset(fake).spec.sources
    assert told.data.output.repository == f"{builders.REGISTRY}/default/data"
    assert (told.owner.kind, told.base) == ("Dataset", None)


async def test_what_the_pod_found_is_all_in_status() -> None:
    fake = await prepared(world())
    status = dataset(fake).status
    assert said(fake) == ("True", "Ready")
    assert (status.digest, status.report) == (DATA, REPORT)
    assert status.artifact == f"oci://{builders.REGISTRY}/default/data@{DATA}"
    assert status.records == result().records
    assert status.task == "Instruction"
    assert (status.prepared_generation, status.image) == (1, "trimtab/pipelines:dev")
    assert "10 of 12 records are kept" in ready(fake).message


async def test_another_look_at_a_ready_one_writes_nothing() -> None:
    fake = await prepared(world())
    before = fake.cluster.writes
    assert await visit(fake) == Done()
    assert fake.cluster.writes == before


async def test_a_job_that_the_cluster_has_cleared_away_is_not_missed() -> None:
    fake = await prepared(world())
    job = fake.cluster.one("Job")
    assert job["spec"]["ttlSecondsAfterFinished"] == children.KEPT_SECONDS
    fake.cluster.take_away("Job", key_of(job))
    await visit(fake)
    assert said(fake) == ("True", "Ready")
    assert not fake.cluster.of_kind("Job")


async def test_a_changed_spec_is_prepared_anew_and_the_earlier_data_stays_until_then() -> None:
    fake = await prepared(world())
    first = fake.cluster.one("Job")["metadata"]["name"]
    changes_spec(fake, split={"train": 80, "validation": 10, "test": 10})
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert ready(fake).observed_generation == 2
    assert "that of generation 1" in ready(fake).message
    assert dataset(fake).status.digest == DATA
    assert fake.cluster.one("Job")["metadata"]["name"] != first
    batchjobs.succeeds(fake.cluster, "prepare", result(NEWER))
    await visit(fake)
    assert said(fake) == ("True", "Ready")
    assert (dataset(fake).status.digest, dataset(fake).status.prepared_generation) == (NEWER, 2)
    task_of = fake.cluster.one("ConfigMap")["metadata"]["name"]
    assert task_of == fake.cluster.one("Job")["metadata"]["name"], "the earlier task is gone"


async def test_a_spec_that_changes_meanwhile_never_gets_the_earlier_ones_result() -> None:
    fake = world()
    await visit(fake)
    stale = batchjobs.job_of(fake.cluster, "prepare")
    changes_spec(fake, task="Text")
    batchjobs.succeeds(fake.cluster, "prepare", result())
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert dataset(fake).status.digest is None
    assert stale["metadata"]["name"] not in [
        j["metadata"]["name"] for j in fake.cluster.of_kind("Job")
    ]


async def test_what_the_earlier_generation_failed_of_says_nothing_of_the_next() -> None:
    fake = world()
    await visit(fake)
    batchjobs.fails(fake.cluster, "prepare", code=42, result=failing("ColumnMissing"))
    await visit(fake)
    assert said(fake) == ("False", "ColumnMissing")
    asks_again(fake, "1")
    await visit(fake)
    assert dataset(fake).status.attempt == 1
    changes_spec(fake, columns={"prompt": "question"})
    await prepared(fake)
    assert said(fake) == ("True", "Ready")
    assert dataset(fake).status.attempt == 0


async def test_a_failure_is_final_until_somebody_asks_again() -> None:
    fake = await prepared(world())
    changes_spec(fake, task="Chat")
    await visit(fake)
    batchjobs.fails(fake.cluster, "prepare", code=42, result=failing("LeakageFound"))
    assert await visit(fake) == Done()
    assert said(fake) == ("False", "LeakageFound")
    assert ready(fake).message == "it was LeakageFound"
    assert dataset(fake).status.digest == DATA
    fake.clock.advance(days=3)
    assert await visit(fake) == Done()
    asks_again(fake, "1")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert (dataset(fake).status.attempt, dataset(fake).status.retry) == (1, "1")
    batchjobs.succeeds(fake.cluster, "prepare", result(NEWER))
    await visit(fake)
    assert (said(fake), dataset(fake).status.digest) == (("True", "Ready"), NEWER)


async def test_asked_again_a_ready_one_reads_its_sources_anew_once() -> None:
    fake = await prepared(world())
    asks_again(fake, "monday")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    batchjobs.succeeds(fake.cluster, "prepare", result(NEWER))
    await visit(fake)
    assert dataset(fake).status.digest == NEWER
    before = fake.cluster.writes
    await visit(fake)
    assert fake.cluster.writes == before


async def test_a_request_from_before_the_beginning_asks_for_nothing_more() -> None:
    manifest = builders.with_metadata(
        builders.dataset(),
        annotations={"trimtab.dev/retry": "old"},
    )
    fake = await prepared(world(manifest))
    await visit(fake)
    assert (said(fake), dataset(fake).status.attempt) == (("True", "Ready"), 0)


async def test_what_a_teacher_has_answered_is_not_asked_again_and_goes_with_the_teacher() -> None:
    teacher = {"inferenceService": {"name": "llm"}, "model": "llama"}
    first, second = (f"oci://{builders.REGISTRY}/default/data@sha256:{c * 64}" for c in "45")
    fake = world(builders.dataset(synthetic={"teacher": teacher, "recording": first}))
    await visit(fake)
    told = task(fake).data
    assert told is not None
    assert told.synthesis is not None
    assert told.synthesis.url == "http://llm.default.svc/v1"
    assert told.synthesis.recordings == [first]
    await prepared(fake, recording=second)
    assert dataset(fake).status.recording == second
    asks_again(fake, "monday")
    await visit(fake)
    again = task(fake).data
    assert again is not None
    assert again.synthesis is not None
    assert again.synthesis.recordings == [second, first]
    assert again.synthesis.kept_tag == told.synthesis.kept_tag
    await prepared(fake)
    assert dataset(fake).status.recording is None


@pytest.mark.parametrize(
    "reason", ["SourceUnreachable", "RegistryUnreachable", "EndpointUnreachable"]
)
async def test_an_outage_is_tried_again_by_itself(reason: str) -> None:
    fake = world()
    await visit(fake)
    batchjobs.fails(fake.cluster, "prepare", code=1, result=failing(reason))
    outcome = await visit(fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    assert said(fake) == ("Unknown", reason)
    fake.clock.advance(minutes=1)
    await prepared(fake)
    assert (said(fake), dataset(fake).status.attempt) == (("True", "Ready"), 1)


async def test_somebody_who_asks_need_not_wait_for_the_next_try() -> None:
    fake = world()
    await visit(fake)
    batchjobs.fails(fake.cluster, "prepare", code=1, result=failing("SourceUnreachable"))
    await visit(fake)
    asks_again(fake, "now")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert dataset(fake).status.attempt == 1


async def test_a_result_whose_pod_is_gone_is_read_from_the_registry() -> None:
    fake = world()
    await visit(fake)
    batchjobs.verdict(fake.cluster, "prepare", "Complete", "CompletionsReached", "")
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
    fake.registry.error = ArtifactUnreachable("the registry does not answer")
    assert isinstance(await visit(fake), Retry)
    assert said(fake) == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    uri = children.result_uri(dataset(fake), 0, fake.settings)
    fake.registry.documents[uri] = result().model_dump_json(by_alias=True).encode()
    await visit(fake)
    assert (said(fake), dataset(fake).status.digest) == (("True", "Ready"), DATA)


async def test_a_job_that_left_no_result_anywhere_is_said_so() -> None:
    fake = world()
    await visit(fake)
    batchjobs.verdict(fake.cluster, "prepare", "Complete", "CompletionsReached", "")
    fake.clock.advance(seconds=CATCHES_UP_WITHIN.total_seconds())
    await visit(fake)
    assert said(fake) == ("False", "ResultMissing")


async def test_what_a_job_left_is_not_missed_before_the_end_of_its_pod_is_seen() -> None:
    fake = world()
    await visit(fake)
    batchjobs.runs(fake.cluster, "prepare")
    batchjobs.verdict(fake.cluster, "prepare", "Complete", "CompletionsReached", "")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    batchjobs.succeeds(fake.cluster, "prepare", result())
    await visit(fake)
    assert said(fake) == ("True", "Ready")


async def test_a_quota_is_said_and_tried_again_without_flapping() -> None:
    fake = world()

    def forbidden(verb: str, manifest: builders.Manifest) -> Exception | None:
        is_job = verb == "create" and manifest.get("kind") == "Job"
        return Forbidden("exceeded quota: jobs") if is_job else None

    fake.cluster.fails = forbidden
    changes_spec(fake, task="Chat")
    assert isinstance(await visit(fake), Retry)
    assert said(fake) == ("Unknown", "NotAllowed")
    emitted: list[str] = []
    emit = fake.cluster.emit

    async def noted(event: Event) -> None:
        emitted.append(event.reason)
        await emit(event)

    fake.cluster.emit = noted  # type: ignore[method-assign]  # what was said before would not show
    before = fake.cluster.writes
    assert isinstance(await visit(fake), Retry)
    assert fake.cluster.writes == before
    assert not emitted
    fake.cluster.fails = lambda verb, manifest: None
    await prepared(fake)
    assert said(fake) == ("True", "Ready")


async def test_an_earlier_preparation_does_not_use_up_the_quota_of_the_next() -> None:
    fake = world()
    await visit(fake)

    def full(verb: str, manifest: builders.Manifest) -> Exception | None:
        is_one_more = verb == "create" and manifest.get("kind") == "Job"
        is_full = is_one_more and fake.cluster.of_kind("Job")
        return Forbidden("exceeded quota: one job at a time") if is_full else None

    fake.cluster.fails = full
    changes_spec(fake, task="Chat")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    await prepared(fake)
    assert said(fake) == ("True", "Ready")


async def test_a_spec_that_the_cluster_refuses_ends_the_earlier_preparation() -> None:
    fake = world()
    await visit(fake)
    fake.cluster.fails = lambda verb, manifest: (
        Refused("no such toleration") if verb == "create" else None
    )
    changes_spec(fake, task="Chat")
    await visit(fake)
    assert said(fake) == ("Unknown", "Refused")
    assert not fake.cluster.of_kind("Job")


async def test_a_pod_that_cannot_start_says_why() -> None:
    fake = world()
    await visit(fake)
    batchjobs.waits(fake.cluster, "prepare", "ImagePullBackOff", "no such image")
    await visit(fake)
    assert said(fake) == ("Unknown", "ImagePullFailed")
    assert "no such image" in ready(fake).message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(1, "it was SourceChanged; it is tried again", id="what may pass"),
        pytest.param(42, "it was SourceChanged", id="what is final"),
    ],
)
async def test_before_the_jobs_verdict_nobody_promises_another_try_that_will_not_come(
    code: int, words: str
) -> None:
    fake = world()
    await visit(fake)
    batchjobs.stumbles(fake.cluster, "prepare", code, failing("SourceChanged"))
    await visit(fake)
    assert (said(fake), ready(fake).message) == (("Unknown", "SourceChanged"), words)
    assert words in [e.message for e in fake.cluster.events.values()]


async def test_remarks_about_the_data_are_an_event_once_for_each_preparation() -> None:
    fake = await prepared(world(), warnings=["the test split has no record"])
    asks_again(fake, "again")
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", result(warnings=["an empty file"]))
    await visit(fake)
    await visit(fake)
    told = [e.message for e in fake.cluster.events.values() if e.reason == "DataRemarks"]
    assert sorted(told) == ["an empty file", "the test split has no record"]


async def test_each_transition_is_an_event_once() -> None:
    fake = await prepared(world())
    changes_spec(fake, task="Chat")
    await prepared(fake)
    told = sorted((e.generation, e.reason, e.type) for e in fake.cluster.events.values())
    assert told == [
        (1, "Preparing", "Normal"),
        (1, "Ready", "Normal"),
        (2, "Preparing", "Normal"),
        (2, "Ready", "Normal"),
    ]


async def test_what_somebody_has_asked_for_again_is_told_again() -> None:
    fake = await prepared(world())
    asks_again(fake, "1")
    await prepared(fake)
    told = sorted(e.reason for e in fake.cluster.events.values())
    assert told == ["Preparing", "Preparing", "Ready", "Ready"]


async def test_one_that_is_being_deleted_is_left_alone() -> None:
    fake = world(
        builders.with_metadata(
            builders.dataset(), deletionTimestamp="2026-01-02T03:04:05Z", finalizers=["x/y"]
        )
    )
    await visit(fake)
    assert not fake.cluster.of_kind("Job")


# --- killed at any moment --------------------------------------------------------------------------


def succeed(fake: FakeWorld) -> None:
    """The Job of the moment ends well, if there is one that has not ended."""
    open_jobs = [
        j for j in fake.cluster.of_kind("Job") if not j.get("status", {}).get("conditions")
    ]
    if open_jobs:
        batchjobs.succeeds(fake.cluster, "prepare", result(warnings=["a remark"]))


def changed(fake: FakeWorld) -> None:
    if dataset(fake).metadata.generation == 1:
        changes_spec(fake, task="Chat")


def asked(fake: FakeWorld) -> None:
    asks_again(fake, "again")


LIFE: tuple[Callable[[FakeWorld], Any], ...] = (
    lambda fake: None,
    succeed,
    changed,
    succeed,
    asked,
    succeed,
)


async def live(fake: FakeWorld, killed_in: int, after: int) -> None:
    """One life; in one of its steps the operator is killed after so many writes."""
    for index, step in enumerate(LIFE):
        step(fake)
        if index == killed_in:
            fake.cluster.dies_in(after)
            with suppress(Crash):
                await visit(fake)
            fake.cluster.revive()
        await visit(fake)


@pytest.mark.parametrize("step", range(len(LIFE)))
@pytest.mark.parametrize("writes", range(6))
async def test_a_crash_after_any_write_leaves_no_trace(step: int, writes: int) -> None:
    calm, shaken = world(), world()
    await live(calm, killed_in=-1, after=0)
    await live(shaken, killed_in=step, after=writes)
    assert isinstance(shaken.cluster, FakeCluster)
    assert shaken.cluster.state == calm.cluster.state
    assert said(shaken) == ("True", "Ready")
