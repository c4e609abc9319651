"""The operator on a real API server: one job's life, its accidents, and what it leaves behind."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests import builders
from tests.operatorkit import (
    IMAGE_ID,
    NOWHERE,
    OperatorProcess,
    Server,
    eventually,
)

from trimtab_api import names
from trimtab_api.documents import PrepareResult, RunFailure, TrainingResult
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.modelversion import ArtifactKind

pytestmark = pytest.mark.timeout(180)

JOB = "FineTuneJob"
# Nothing answers there: what the registry would say is not what these tests are about.
PREFIX = "127.0.0.1:9/trimtab"


@pytest.fixture(autouse=True)
def tidy(server: Server, operator: OperatorProcess) -> Iterator[None]:
    yield
    server.clear(JOB, "ModelVersion")


def a_job(name: str = "tune", **changes: Any) -> builders.Manifest:
    return builders.pretraining_job(name, **{"pod": {"nodeSelector": NOWHERE}, **changes})


def prepared() -> PrepareResult:
    digest = "sha256:" + "d" * 64
    return PrepareResult(
        data=PreparedArtifact(uri=f"oci://{PREFIX}/data@{digest}", digest=digest),
        records=PreparedRecords(read=9, kept=9, train=8, test=1),
    )


def trained(letter: str = "e") -> TrainingResult:
    digest = "sha256:" + letter * 64
    made = TrainedArtifact(
        uri=f"oci://{PREFIX}/tiny-base@{digest}", digest=digest, kind=ArtifactKind.FULL
    )
    return TrainingResult(artifact=made)


def to_training(server: Server, name: str = "tune", **changes: Any) -> None:
    server.create(a_job(name, **changes))
    server.pod_ends(names.PREPARE, prepared())
    eventually(lambda: server.pods(names.TRAIN), what="training never began")


def test_from_apply_to_a_version(server: Server, operator: OperatorProcess) -> None:
    to_training(server)
    server.pod_ends(names.TRAIN, trained())
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))
    version = server.get("ModelVersion", "tiny-base-eeeeeeee")
    assert version["spec"]["artifact"]["uri"].endswith("e" * 64)
    assert version["spec"]["lineage"]["imageDigest"] == IMAGE_ID
    job = server.get(JOB, "tune")
    assert job["status"]["modelVersion"] == "tiny-base-eeeeeeee"
    assert job["status"]["records"]["train"] == 8
    # The user's part of the object is the user's; who it was, an installed chart's admission writes down.
    assert set(job["metadata"].get("annotations", {})) <= {names.ANNOTATION_AUTHOR}
    assert "finalizers" not in job["metadata"]
    assert {"Preparing", "Pending", "Succeeded"} <= set(server.events("tune"))


def test_nothing_is_written_at_rest(server: Server, operator: OperatorProcess) -> None:
    to_training(server)
    server.pod_ends(names.TRAIN, trained())
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))

    def written() -> float:
        return operator.metric("trimtab_operator_writes_total", kind=JOB)

    before = written()
    version = server.get(JOB, "tune")["metadata"]["resourceVersion"]
    server.change(JOB, "tune", {"metadata": {"labels": {"touched": "yes"}}})
    eventually(lambda: operator.metric("trimtab_operator_queue_depth") == 0)
    assert written() == before
    assert int(server.get(JOB, "tune")["metadata"]["resourceVersion"]) > int(version)


def test_a_job_that_is_deleted_while_it_trains_leaves_nothing(
    server: Server, operator: OperatorProcess
) -> None:
    to_training(server)
    server.delete(JOB, "tune")
    eventually(lambda: not server.children(), what="children are left behind")


def test_a_kill_at_any_moment_loses_nothing(server: Server, operator: OperatorProcess) -> None:
    server.create(a_job())
    eventually(lambda: server.jobs(names.PREPARE))
    operator.kill()
    server.pod_ends(names.PREPARE, prepared())
    operator.start()
    eventually(lambda: server.pods(names.TRAIN))
    operator.kill()
    server.pod_ends(names.TRAIN, trained())
    operator.start()
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))
    assert len(server.jobs(names.TRAIN)) == len(server.jobs(names.PREPARE)) == 1


def test_suspend_and_resume(server: Server, operator: OperatorProcess) -> None:
    to_training(server)
    server.change(JOB, "tune", {"spec": {"suspend": True}})
    eventually(lambda: server.is_true(JOB, "tune", "Suspended"))
    eventually(lambda: not server.pods(names.TRAIN))
    server.change(JOB, "tune", {"spec": {"suspend": False}})
    eventually(lambda: server.pods(names.TRAIN), what="training did not go on")
    eventually(lambda: not server.is_true(JOB, "tune", "Suspended"))
    server.pod_ends(names.TRAIN, trained())
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))


def test_a_user_error_ends_the_job_at_once_and_a_retry_goes_on(
    server: Server, operator: OperatorProcess
) -> None:
    to_training(server)
    told = TrainingResult(failure=RunFailure(reason="LossNotFinite", message="loss is nan"))
    server.pod_ends(names.TRAIN, told, code=names.EXIT_USER_ERROR)
    eventually(lambda: server.is_true(JOB, "tune", "Failed"))
    failure = server.get(JOB, "tune")["status"]["failure"]
    assert (failure["reason"], failure["exitCode"]) == ("LossNotFinite", names.EXIT_USER_ERROR)
    first = server.jobs(names.TRAIN)[0].metadata.name
    server.change(JOB, "tune", {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}})
    eventually(lambda: [j.metadata.name for j in server.jobs(names.TRAIN)] not in ([first], []))
    server.pod_ends(names.TRAIN, trained())
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))


def test_an_image_that_cannot_be_pulled_is_told(server: Server, operator: OperatorProcess) -> None:
    to_training(server)
    server.pod_waits(names.TRAIN, "ImagePullBackOff", "manifest unknown")
    assert "manifest unknown" in server.says(JOB, "tune", "Started", "ImagePullFailed")


def test_a_quota_is_told_and_the_job_goes_on_when_it_is_raised(
    server: Server, operator: OperatorProcess
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    server.core.create_namespaced_resource_quota(server.namespace, quota)
    eventually(
        lambda: server.core.read_namespaced_resource_quota("none", server.namespace).status.hard
    )
    server.create(a_job())
    assert "exceeded quota" in server.says(JOB, "tune", "Started", "NotAllowed")
    server.core.delete_namespaced_resource_quota("none", server.namespace)
    eventually(lambda: server.jobs(names.PREPARE), seconds=60)


def test_a_finished_job_goes_after_its_time(server: Server, operator: OperatorProcess) -> None:
    to_training(server, ttlSecondsAfterFinished=1)
    server.pod_ends(names.TRAIN, trained())
    eventually(lambda: not server.get(JOB, "tune"))
    eventually(lambda: not server.children("tune"))
    assert server.get("ModelVersion", "tiny-base-eeeeeeee")


def test_a_job_that_waits_for_its_base_starts_when_it_is_ready(
    server: Server, operator: OperatorProcess
) -> None:
    base = {"modelVersion": {"name": "tiny-base-cccccccc"}}
    waiting = builders.fine_tune_job("tune", baseModel=base, pod={"nodeSelector": NOWHERE})
    server.create(waiting)
    server.says(JOB, "tune", "Started", "BaseModelNotReady")
    assert not server.jobs(names.PREPARE)
