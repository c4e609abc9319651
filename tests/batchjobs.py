"""What Kubernetes would do with the Jobs of a FakeCluster: pods that run, end, fail or wait."""

from typing import Any

from tests.fakes import FakeCluster

from trimtab_api.model import ApiModel
from trimtab_operator.domain.manifests import Manifest

ENDED_AT = "2026-01-02T03:04:05Z"


def job_of(cluster: FakeCluster, stage: str) -> Manifest:
    """The Job of a stage; the last one where there were several attempts."""
    label = "app.kubernetes.io/component"
    found = [j for j in cluster.of_kind("Job") if j["metadata"]["labels"][label] == stage]
    return max(found, key=lambda j: int(j["metadata"]["resourceVersion"]))


def pod(cluster: FakeCluster, stage: str, status: Manifest, name: str | None = None) -> Manifest:
    """A pod of a stage's Job with this status."""
    job = job_of(cluster, stage)
    template = job["spec"]["template"]["metadata"]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template,
            "name": name or f"{job['metadata']['name']}-x",
            "namespace": job["metadata"]["namespace"],
            "ownerReferences": [
                {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
            ],
        },
        "spec": {"nodeName": "n1"},
        "status": status,
    }
    cluster.add(made)
    return made


def runs(
    cluster: FakeCluster, stage: str, ip: str = "10.0.0.9", *, image: str = "", name: str = ""
) -> None:
    """The pod's main container runs, on what its node calls `image`."""
    state = {"name": stage, "imageID": image, "state": {"running": {}}}
    status = {"phase": "Running", "podIP": ip, "containerStatuses": [state]}
    pod(cluster, stage, status, name or None)


def loses_its_node(cluster: FakeCluster, stage: str) -> None:
    """Nobody hears from the kubelet any more, so that its last word stands but for Ready."""
    conditions = [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
    ]
    state = {"name": stage, "state": {"running": {}}}
    status = {"phase": "Running", "podIP": "10.0.0.9", "conditions": conditions}
    pod(cluster, stage, {**status, "containerStatuses": [state]})


def waits(cluster: FakeCluster, stage: str, reason: str, message: str) -> None:
    """The pod's main container cannot be started."""
    state = {"name": stage, "state": {"waiting": {"reason": reason, "message": message}}}
    pod(cluster, stage, {"phase": "Pending", "containerStatuses": [state]})


def is_unschedulable(cluster: FakeCluster, stage: str, message: str, since: str = ENDED_AT) -> None:
    """No node can take the pod."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since,
    }
    pod(cluster, stage, {"phase": "Pending", "conditions": [condition]})


def succeeds(
    cluster: FakeCluster, stage: str, result: ApiModel | None = None, *, image: str = ""
) -> None:
    """The Job is done; its pod leaves a result in the termination message."""
    text = "" if result is None else result.model_dump_json(by_alias=True, exclude_none=True)
    terminated = {"exitCode": 0, "reason": "Completed", "message": text}
    status = {"name": stage, "imageID": image, "state": {"terminated": terminated}}
    pod(cluster, stage, {"phase": "Succeeded", "containerStatuses": [status]})
    verdict(cluster, stage, "Complete", "CompletionsReached", "")


def fails(
    cluster: FakeCluster,
    stage: str,
    *,
    code: int = 1,
    result: ApiModel | None = None,
    container: str | None = None,
    terminated: Manifest | None = None,
    **status: Any,
) -> None:
    """The Job has given up after its pod failed."""
    text = "" if result is None else result.model_dump_json(by_alias=True, exclude_none=True)
    ended = {"exitCode": code, "reason": "Error", "message": text, **(terminated or {})}
    part = "containerStatuses" if container is None else "initContainerStatuses"
    state = {"name": container or stage, "state": {"terminated": ended}}
    pod(cluster, stage, {"phase": "Failed", part: [state], **status})
    verdict(cluster, stage, "Failed", "BackoffLimitExceeded", "Job has reached the limit")


def stumbles(cluster: FakeCluster, stage: str, code: int, result: ApiModel) -> None:
    """A pod has failed, and the Job controller has not spoken yet."""
    text = result.model_dump_json(by_alias=True, exclude_none=True)
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": text}}
    pod(cluster, stage, {"phase": "Failed", "containerStatuses": [{"name": stage, "state": state}]})


def verdict(cluster: FakeCluster, stage: str, kind: str, reason: str, message: str) -> None:
    """The Job controller's last word."""
    metadata = job_of(cluster, stage)["metadata"]
    condition = {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": ENDED_AT,
    }
    cluster.edit(
        "Job",
        (metadata["namespace"], metadata["name"]),
        {"status": {"conditions": [condition]}},
    )
