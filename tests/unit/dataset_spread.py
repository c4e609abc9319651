"""A Dataset whose work a RayJob does: what it becomes, and what is made of the RayJob's words."""

from typing import Any

import pytest
from tests import builders
from tests.datasetworld import KEY, changes_spec, dataset, ready, result, said, visit, world
from tests.fakes import FakeWorld, settings

from trimtab_api.documents import PrepareResult
from trimtab_api.documents.common import RunFailure
from trimtab_operator.adapters.reflector import trimmed
from trimtab_operator.adapters.store import key_of
from trimtab_operator.domain.dataset import children
from trimtab_operator.domain.rayjobs import RayJobState
from trimtab_operator.settings import RaySettings

SPREAD = builders.dataset(engine="Ray", workers={"count": 3})
ENABLED = settings(ray=RaySettings(enabled=True))


def on_ray(manifest: builders.Manifest = SPREAD) -> FakeWorld:
    return world(manifest, settings=ENABLED)


def says(fake: FakeWorld, phase: str, status: str = "", **more: Any) -> None:
    """What KubeRay writes into the status of the one RayJob."""
    job = fake.cluster.one("RayJob")
    ended = fake.clock.now().isoformat()
    told = {"jobDeploymentStatus": phase, "jobStatus": status, "endTime": ended}
    fake.cluster.edit("RayJob", key_of(job), {"status": {**told, **more}})


def leaves(fake: FakeWorld, left: PrepareResult) -> None:
    """What the program has pushed."""
    there = dataset(fake)
    uri = children.result_uri(there, there.status.attempt, ENABLED)
    fake.registry.documents[uri] = left.model_dump_json(by_alias=True).encode()


async def test_it_becomes_a_ray_job_and_no_job() -> None:
    fake = on_ray()
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    assert not fake.cluster.of_kind("Job")
    job = fake.cluster.one("RayJob")
    assert len(job["metadata"]["name"]) <= 47, "KubeRay takes no more"
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] == 3
    document = fake.cluster.objects["ConfigMap", ("default", job["metadata"]["name"])]
    assert '"isSpread": true' in document["data"]["run.json"]


async def test_without_kuberay_it_waits_and_says_what_is_missing() -> None:
    fake = world(SPREAD)
    await visit(fake)
    assert said(fake) == ("Unknown", "RayNotEnabled")
    assert "ray.enabled" in ready(fake).message
    assert not fake.cluster.of_kind("RayJob")
    fake.settings = ENABLED
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing"), "a newly configured operator goes on by itself"


async def test_what_the_program_left_in_the_registry_is_all_in_status() -> None:
    fake = on_ray()
    await visit(fake)
    says(fake, "Running", "RUNNING")
    await visit(fake)
    assert said(fake) == ("Unknown", "Preparing")
    leaves(fake, result())
    says(fake, "Complete", "SUCCEEDED")
    await visit(fake)
    assert said(fake) == ("True", "Ready")
    assert dataset(fake).status.image == "trimtab/pipelines:dev"


async def test_a_fault_of_the_data_is_told_as_the_program_told_it() -> None:
    fake = on_ray()
    await visit(fake)
    leaves(fake, PrepareResult(failure=RunFailure(reason="DataMalformed", message="line 7")))
    says(fake, "Failed", "FAILED", reason="AppFailed", message="Job entrypoint command failed")
    await visit(fake)
    assert said(fake) == ("False", "DataMalformed")
    assert ready(fake).message == "line 7"


@pytest.mark.parametrize("reason", ["WorkersLost", "InternalError", "SourceChanged"])
async def test_what_may_pass_is_tried_a_few_times(reason: str) -> None:
    fake = on_ray()
    for attempt in range(children.BACKOFF_LIMIT):
        await visit(fake)
        leaves(fake, PrepareResult(failure=RunFailure(reason=reason, message="it happens")))
        says(fake, "Failed", "FAILED", reason="AppFailed")
        await visit(fake)
        assert said(fake) == ("Unknown", reason)
        assert dataset(fake).status.attempt == attempt
        fake.clock.advance(hours=1)
    await visit(fake)
    leaves(fake, PrepareResult(failure=RunFailure(reason=reason, message="it happens")))
    says(fake, "Failed", "FAILED", reason="AppFailed")
    await visit(fake)
    assert said(fake) == ("False", reason)


@pytest.mark.parametrize(
    ("phase", "status", "reason", "expected"),
    [
        pytest.param("Failed", "FAILED", "DeadlineExceeded", "DeadlineExceeded", id="too long"),
        pytest.param("ValidationFailed", "", "ValidationFailed", "JobFailed", id="not understood"),
        pytest.param("Failed", "FAILED", "AppFailed", "JobFailed", id="no word of the program"),
        pytest.param("Complete", "STOPPED", "", "JobFailed", id="stopped by somebody"),
    ],
)
async def test_without_a_word_of_the_program_kuberays_counts(
    phase: str, status: str, reason: str, expected: str
) -> None:
    fake = on_ray()
    await visit(fake)
    says(fake, phase, status, reason=reason, message="told by KubeRay")
    await visit(fake)
    assert said(fake) == ("False", expected)


async def test_another_engine_takes_the_ray_job_away() -> None:
    fake = on_ray()
    await visit(fake)
    changes_spec(fake, engine="Local", workers=None)
    fake.cluster.edit("Dataset", KEY, {"metadata": {"generation": 2}})
    await visit(fake)
    assert not fake.cluster.of_kind("RayJob")
    assert fake.cluster.one("Job")


async def test_of_a_ray_job_the_image_is_remembered_and_little_else() -> None:
    fake = on_ray()
    await visit(fake)
    job = fake.cluster.one("RayJob")
    kept = trimmed("RayJob", job)
    assert RayJobState(kept).image("prepare") == "trimtab/pipelines:dev"
    assert "workerGroupSpecs" not in kept["spec"]["rayClusterSpec"]


async def test_pods_of_its_cluster_say_why_they_do_not_start() -> None:
    fake = on_ray()
    await visit(fake)
    job = fake.cluster.one("RayJob")
    template = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    fake.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "name": "head",
                "namespace": "default",
            },
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"name": "prepare", "state": {"waiting": waiting}}],
            },
        }
    )
    await visit(fake)
    assert said(fake) == ("Unknown", "ImagePullFailed")
