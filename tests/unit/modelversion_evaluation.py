"""ModelVersion from what its evaluation pod says to what status says."""

import json
from typing import Any

import pytest
from tests import batchjobs
from tests.fakes import FakeWorld, settle
from tests.servingbuilders import NAMESPACE, a_version, uri_of
from tests.versionworld import KEY, seen, told, world_of

from trimtab_operator.domain.conditions import find, timestamp
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden
from trimtab_operator.domain.outcome import Done, Retry
from trimtab_operator.reconcilers.modelversion import reconcile

RESULT = {
    "reportUri": uri_of("report"),
    "examples": 20,
    "metrics": [{"metric": "RougeL", "value": 0.4, "base": 0.1}],
    "sizeBytes": 7,
}


def ended(
    fake: FakeWorld, *, message: str = "", code: int = 0, image: str = "", **terminated: Any
) -> None:
    """The evaluation's pod has ended, and its Job with it."""
    job = fake.cluster.one("Job")
    ok = code == 0
    fake.cluster.edit(
        "Job",
        (NAMESPACE, job["metadata"]["name"]),
        {
            "status": {
                "conditions": [
                    {
                        "type": "Complete" if ok else "Failed",
                        "status": "True",
                        "reason": "" if ok else "PodFailurePolicy",
                        "message": "",
                        "lastTransitionTime": fake.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                    }
                ]
            }
        },
    )
    fake.cluster.add(
        a_pod(
            job,
            "Succeeded" if ok else "Failed",
            {"terminated": {"exitCode": code, "message": message, **terminated}},
            image,
        )
    )


def a_pod(
    job: dict[str, Any], phase: str, state: dict[str, Any], image: str = ""
) -> dict[str, Any]:
    template = job["spec"]["template"]
    container = {"name": "evaluate", "imageID": image, "state": state}
    return {
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": "pod",
            "namespace": NAMESPACE,
            "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": "j"}],
        },
        "status": {"phase": phase, "containerStatuses": [container]},
    }


async def test_without_a_report_a_pod_evaluates_and_its_word_counts() -> None:
    version = a_version(evaluation={"gates": [{"metric": "RougeL", "atLeast": 0.3}]})
    fake = world_of(version)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "Evaluating")
    assert seen(fake).status.image == "trimtab/pipelines:dev"
    ended(fake, message=json.dumps(RESULT))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")
    status = seen(fake).status
    assert status.evaluation is not None
    assert [g.message for g in status.evaluation.gates] == ["RougeL 0.4 is at least 0.3"]
    assert (status.evaluation.report, status.size_bytes) == (uri_of("report"), 7)


async def test_an_evaluation_requests_something_and_limits_nothing_by_default() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    container = fake.cluster.one("Job")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "1Gi"}}


@pytest.mark.parametrize(("wanted", "seconds"), [({}, 86400), ({"activeDeadlineSeconds": 60}, 60)])
async def test_an_evaluation_does_not_run_for_ever(wanted: dict[str, Any], seconds: int) -> None:
    fake = world_of(a_version(evaluation=wanted))
    await settle(reconcile, KEY, fake)
    assert fake.cluster.one("Job")["spec"]["activeDeadlineSeconds"] == seconds
    batchjobs.verdict(fake.cluster, "evaluate", "Failed", "DeadlineExceeded", "too long")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Evaluated") == ("False", "DeadlineExceeded")
    assert told(fake, "Ready")[0] != "True"


async def test_an_evaluation_on_a_gpu_is_told_that_it_has_one() -> None:
    fake = world_of(a_version(evaluation={"resources": {"gpus": 1}}))
    await settle(reconcile, KEY, fake)
    container = fake.cluster.one("Job")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    task = json.loads(fake.cluster.one("ConfigMap")["data"]["run.json"])
    assert task["gpus"] == 1


async def test_an_evaluation_that_a_queue_holds_back_is_not_said_to_be_at_work() -> None:
    fake = world_of(a_version(labels={"kueue.x-k8s.io/queue-name": "gpus"}))
    await settle(reconcile, KEY, fake)
    name = fake.cluster.one("Job")["metadata"]["name"]
    fake.cluster.edit("Job", (NAMESPACE, name), {"spec": {"suspend": True}})
    await settle(reconcile, KEY, fake)
    ready = find(seen(fake).status.conditions, "Ready")
    assert ready is not None
    assert "queue" in ready.message


async def test_a_version_that_has_lost_its_status_says_again_which_image_evaluated_it() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    ended(fake, message=json.dumps(RESULT))
    await settle(reconcile, KEY, fake)
    before = seen(fake).status
    fake.cluster.edit("ModelVersion", KEY, {"status": None})
    await settle(reconcile, KEY, fake)
    assert seen(fake).status == before


async def test_an_evaluation_that_is_tried_again_keeps_its_image_although_the_tag_has_moved() -> (
    None
):
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    pulled = "docker.io/trimtab/pipelines@sha256:" + "1" * 64
    failure = {"failure": {"reason": "RegistryUnreachable", "message": "because"}}
    ended(fake, message=json.dumps(failure), code=1, image=pulled)
    await settle(reconcile, KEY, fake)
    status = seen(fake).status
    assert (status.image, status.image_digest) == (pulled, pulled.partition("@")[2])
    fake.clock.advance(minutes=2)
    await reconcile(KEY, fake.world)
    fake.cluster.take_away("Pod", (NAMESPACE, "pod"))
    await settle(reconcile, KEY, fake)
    template = fake.cluster.one("Job")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == pulled


async def test_a_pod_that_is_gone_has_left_its_result_in_the_registry() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    ended(fake, message="the last line of a log")
    tagged = "oci://registry.internal:5000/trimtab/ns/bot-1:run-uid-bot-1-evaluate-0"
    fake.registry.error = ArtifactUnreachable("down")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    fake.registry.documents[tagged] = json.dumps(RESULT).encode()
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")


FAILURES = [
    ("UnsafeFormat", "ArtifactVerified", ("False", "UnsafeFormat")),
    ("CorruptWeights", "ArtifactVerified", ("False", "CorruptWeights")),
    ("DigestMismatch", "ArtifactVerified", ("False", "DigestMismatch")),
    ("UnsupportedAdapter", "ArtifactVerified", ("False", "UnsupportedAdapter")),
    ("TooFewRecords", "Evaluated", ("False", "TooFewRecords")),
    ("RegistryUnreachable", "Evaluated", ("Unknown", "RegistryUnreachable")),
]


@pytest.mark.parametrize(
    ("reason", "kind", "then"), FAILURES, ids=[f"{f[0]} shows in {f[1]}" for f in FAILURES]
)
async def test_a_failed_evaluation(reason: str, kind: str, then: tuple[str, str]) -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    failure = {"failure": {"reason": reason, "message": "because"}}
    ended(fake, message=json.dumps(failure), code=42)
    await settle(reconcile, KEY, fake)
    assert told(fake, kind) == then
    assert told(fake, "Ready") == then


async def test_a_failure_that_may_pass_is_tried_again_by_itself() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    failure = {"failure": {"reason": "RegistryUnreachable", "message": "because"}}
    ended(fake, message=json.dumps(failure), code=1)
    await settle(reconcile, KEY, fake)
    fake.clock.advance(minutes=2)
    await reconcile(KEY, fake.world)
    ended_job = fake.cluster.of_kind("Job")
    assert ended_job == []
    fake.cluster.take_away("Pod", (NAMESPACE, "pod"))
    await settle(reconcile, KEY, fake)
    assert "status" not in fake.cluster.one("Job")


async def test_a_pod_out_of_memory_is_told() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    ended(fake, code=137, reason="OOMKilled")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "OutOfMemory")
    assert told(fake, "ArtifactVerified") == ("Unknown", "NotEvaluated")
    fake.cluster.take_away("Pod", (NAMESPACE, "pod"))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Evaluated") == ("False", "OutOfMemory")


async def test_a_request_to_try_again_makes_another_job_with_the_present_image() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    first = fake.cluster.one("Job")["metadata"]["name"]
    ended(fake, code=137, reason="OOMKilled")
    await settle(reconcile, KEY, fake)
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await settle(reconcile, KEY, fake)
    assert fake.cluster.one("Job")["metadata"]["name"] != first


async def test_an_image_that_cannot_be_pulled_is_told() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    fake.cluster.add(a_pod(fake.cluster.one("Job"), "Pending", waiting))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "ImagePullFailed")


async def test_a_node_that_cannot_take_the_pod_just_now_is_told_when_it_lasts() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    pod = a_pod(fake.cluster.one("Job"), "Pending", {})
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 node(s) had untolerated taint(s)",
        "lastTransitionTime": timestamp(fake.clock.now()),
    }
    fake.cluster.add({**pod, "status": {"phase": "Pending", "conditions": [condition]}})
    outcome = await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "Evaluating")
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "Unschedulable")


async def test_a_cluster_that_refuses_the_job_is_told() -> None:
    fake = world_of(a_version())
    fake.cluster.fails = lambda verb, manifest: (
        Forbidden("quota") if manifest.get("kind") == "Job" else None
    )
    outcome = await settle(reconcile, KEY, fake)
    assert isinstance(outcome, Retry)
    assert told(fake, "Ready") == ("Unknown", "JobRefused")


async def test_the_log_of_an_evaluation_is_kept_for_an_hour() -> None:
    fake = world_of(a_version())
    await settle(reconcile, KEY, fake)
    ended(fake, message=json.dumps(RESULT))
    await settle(reconcile, KEY, fake)
    assert len(fake.cluster.of_kind("Job")) == 1
    fake.clock.advance(minutes=61)
    await settle(reconcile, KEY, fake)
    assert fake.cluster.of_kind("Job") == []
    assert told(fake, "Ready") == ("True", "Ready")
