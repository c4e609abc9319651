"""What Jobs and their pods say about themselves, in one form for all stages.

Kubernetes spreads the truth over conditions, phases, waiting reasons and exit codes. Here it
becomes three questions: is it over, what did it leave, and what is in its way.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import ValidationError

from trimtab_api import names
from trimtab_api.model import ApiModel
from trimtab_api.reasons import FailureReason, JobReason
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of
from trimtab_operator.domain.outcome import soonest

Document = TypeVar("Document", bound=ApiModel)

# Reasons that come from the cluster, beside those of `trimtab_api.reasons.FailureReason`.
UNSCHEDULABLE: Final = JobReason.UNSCHEDULABLE
IMAGE_PULL_FAILED: Final = JobReason.IMAGE_PULL_FAILED
CONTAINER_NOT_CREATED: Final = JobReason.CONTAINER_NOT_CREATED
EVICTED: Final = JobReason.EVICTED
NODE_LOST: Final = JobReason.NODE_LOST
DEADLINE_EXCEEDED: Final = JobReason.DEADLINE_EXCEEDED
CONTAINER_FAILED: Final = JobReason.CONTAINER_FAILED
JOB_FAILED: Final = JobReason.JOB_FAILED
# What a pod's end or delay may be about, whoever's pod it is.
POD_TROUBLES: Final = frozenset(
    {
        *FailureReason,
        UNSCHEDULABLE,
        IMAGE_PULL_FAILED,
        CONTAINER_NOT_CREATED,
        CONTAINER_FAILED,
        EVICTED,
        NODE_LOST,
        DEADLINE_EXCEEDED,
        JOB_FAILED,
    }
)

SCHEDULED_WITHIN: Final = timedelta(seconds=5)
CATCHES_UP_WITHIN: Final = timedelta(seconds=30)
_PULL_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CREATE_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
)


@dataclass(frozen=True)
class Obstacle:
    """Why a pod does not run yet; it may pass by itself."""

    reason: str
    message: str


@dataclass(frozen=True)
class JobState:
    """A batch Job, reduced to what decisions need."""

    manifest: Manifest

    @property
    def name(self) -> str:
        """metadata.name."""
        return name_of(self.manifest)

    @property
    def outlives_its_pods(self) -> bool:
        """Whether its last word comes after that of its pods."""
        return True

    @property
    def is_complete(self) -> bool:
        """Whether it has succeeded."""
        return self._condition("Complete") is not None

    @property
    def failure(self) -> tuple[str, str] | None:
        """The Job controller's reason and message, once it has given up."""
        found = self._condition("Failed")
        if found is None:
            return None
        return str(found.get("reason", "")), str(found.get("message", ""))

    @property
    def ended_at(self) -> str | None:
        """When the Job controller said its last word."""
        return (self._condition("Complete") or self._condition("Failed") or {}).get(
            "lastTransitionTime"
        )

    @property
    def failed_at(self) -> str | None:
        """When the Job controller gave up."""
        return (self._condition("Failed") or {}).get("lastTransitionTime")

    @property
    def is_finished(self) -> bool:
        """Whether no further pod will be started."""
        return self.is_complete or self.failure is not None

    @property
    def is_suspended(self) -> bool:
        """Whether its pods are held back, by us or by a queue."""
        return bool(get(self.manifest, "spec", "suspend", default=False))

    def image(self, container: str) -> str:
        """The image that its pods are given for a container."""
        containers = get(self.manifest, "spec", "template", "spec", "containers", default=[])
        return next((str(c["image"]) for c in containers if c["name"] == container), "")

    def _condition(self, kind: str) -> Manifest | None:
        for each in get(self.manifest, "status", "conditions", default=[]):
            if each.get("type") == kind and each.get("status") == "True":
                return dict(each)
        return None


def pods_of(job: str, pods: Sequence[Manifest]) -> list[Manifest]:
    """The pods of a Job or RayJob, the youngest first."""
    mine = [
        p
        for p in pods
        if get(p, "metadata", "labels", default={}).get(names.LABEL_RAY_JOB) == job
        or any(
            r.get("kind") == "Job" and r.get("name") == job
            for r in get(p, "metadata", "ownerReferences", default=[])
        )
    ]
    return sorted(
        mine,
        key=lambda p: (get(p, "metadata", "creationTimestamp", default=""), name_of(p)),
        reverse=True,
    )


def running_address(pods: Sequence[Manifest], container: str) -> str | None:
    """IP of the pod in which the container runs now, as far as the node still tells."""
    for pod in pods:
        running = any(
            s.get("name") == container and "running" in (s.get("state") or {})
            for s in get(pod, "status", "containerStatuses", default=[])
        )
        if running and not is_deleting(pod) and lost_node(pod) is None:
            return get(pod, "status", "podIP")  # type: ignore[no-any-return] # JSON
    return None


def has_live_pod(pods: Sequence[Manifest]) -> bool:
    """Whether a pod may still be writing to the volume."""
    return any(get(p, "status", "phase") not in {"Succeeded", "Failed"} for p in pods)


def catches_up_in(
    job: JobState | None, pods: Sequence[Manifest], now: datetime
) -> timedelta | None:
    """How long what a Job's end means may wait for its pods, of which we know less than its controller.

    A Job is over only once its pods are, but each kind has a watch of its own. By an older view of
    a pod nobody would know why it has failed, or which image it ran, and what is then written down
    stays. A pod may be lost for good, or have been deleted, so that this ends.
    """
    ended = moment_of(job.ended_at) if job else None
    if job is None or ended is None or not job.outlives_its_pods:
        return None
    is_missing = job.is_complete and not pods  # at a deadline the Job itself takes its pods away
    if not (is_missing or has_live_pod([p for p in pods if not is_deleting(p)])):
        return None
    left = min(ended + CATCHES_UP_WITHIN - now, CATCHES_UP_WITHIN)
    return left if left > timedelta() else None


def obstacle(pods: Sequence[Manifest], now: datetime) -> Obstacle | None:
    """What keeps the youngest pod from running, in the cluster's own words."""
    for pod in pods[:1]:
        node = lost_node(pod)
        if node is not None:
            return Obstacle(NODE_LOST, f"node {node} of {name_of(pod)} does not answer")
        if get(pod, "status", "phase") not in {None, "Pending"}:
            return None
        return _not_started(pod) or _not_scheduled(pod, now)
    return None


def lost_node(pod: Manifest) -> str | None:
    """The node of a pod that nobody has heard from.

    The cluster then takes back the pod's Ready, without a reason, and leaves all else as the
    kubelet said it last. A kubelet itself never says that a pod whose containers are ready is not,
    but for a readiness gate, and that by its name.
    """
    conditions = {c.get("type"): c for c in get(pod, "status", "conditions", default=[])}
    ready, containers = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    is_lost = (
        ready.get("status") == "False"
        and not ready.get("reason")
        and containers.get("status") == "True"
    )
    return str(get(pod, "spec", "nodeName", default="")) if is_lost else None


def settles_in(pods: Sequence[Manifest], now: datetime) -> timedelta | None:
    """When to look again, because a pod may turn out not to be schedulable although nothing changes."""
    left = (_patience(found, now) for pod in pods if (found := unscheduled(pod)))
    return soonest(*(each for each in left if each > timedelta()))


def _not_scheduled(pod: Manifest, now: datetime) -> Obstacle | None:
    found = unscheduled(pod)
    if found is None or _patience(found, now) > timedelta():
        return None
    return Obstacle(UNSCHEDULABLE, f"no node can take the pod: {found.get('message', '')}")


def unscheduled(pod: Manifest) -> Manifest | None:
    """The scheduler's word on a pod that it could not place."""
    for each in get(pod, "status", "conditions", default=[]):
        is_scheduling = each.get("type") == "PodScheduled" and each.get("status") == "False"
        if is_scheduling and each.get("reason") in {UNSCHEDULABLE, "SchedulerError"}:
            return dict(each)
    return None


def _patience(unscheduled: Manifest, now: datetime) -> timedelta:
    """How long the scheduler's word is not yet worth telling.

    A volume that is being bound keeps a pod away for a moment, and that is no trouble. Where
    something is short, the word is final until somebody does something.
    """
    since = moment_of(unscheduled.get("lastTransitionTime"))
    if since is None or "Insufficient" in unscheduled.get("message", ""):
        return timedelta()
    return since + SCHEDULED_WITHIN - now


def _not_started(pod: Manifest) -> Obstacle | None:
    for status in _container_statuses(pod):
        waiting = get(status, "state", "waiting", default={})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _PULL_REASONS:
            detail = message or reason
            return Obstacle(
                IMAGE_PULL_FAILED,
                f"an image or image volume of container {status.get('name')} cannot be pulled: "
                f"{detail}",
            )
        if reason in _CREATE_REASONS:
            return Obstacle(
                CONTAINER_NOT_CREATED,
                f"container {status.get('name')} cannot be started: {message or reason}",
            )
    return None


def document_of(
    pods: Sequence[Manifest], kind: type[Document], *, succeeded: bool
) -> Document | None:
    """The result document in the termination message of the youngest pod that ended so."""
    for pod in pods:
        if get(pod, "status", "phase") != ("Succeeded" if succeeded else "Failed"):
            continue
        for terminated in _terminations(pod):
            found = parsed(terminated.get("message", ""), kind)
            if found is not None:
                return found
    return None


def parsed(text: str | bytes, kind: type[Document]) -> Document | None:
    """The document, or None where the text is something else (a log's last lines)."""
    try:
        content = json.loads(text)
        return kind.model_validate(content) if isinstance(content, dict) else None
    except (ValueError, ValidationError):
        return None


def failure_of(job: JobState, pods: Sequence[Manifest], kind: type[ApiModel]) -> Failure:
    """Why a Job has failed: what the program said, else what the kubelet saw, else the Job."""
    reason, message = job.failure or (JOB_FAILED, "the Job has failed")
    if reason == DEADLINE_EXCEEDED:
        return Failure(
            reason=DEADLINE_EXCEEDED,
            message="it ran longer than activeDeadlineSeconds allows",
        )
    for pod in pods:
        found = pod_failure(pod, kind)
        if found is not None:
            return found
    return Failure(reason=JOB_FAILED, message=f"Job {job.name}: {reason}: {message}"[:2048])


def pod_failure(pod: Manifest, kind: type[ApiModel]) -> Failure | None:
    """Why this pod has failed, if it has."""
    if get(pod, "status", "reason") == EVICTED:
        text = get(pod, "status", "message", default="the node was short of something")
        return Failure(reason=EVICTED, message=f"the pod was evicted: {text}"[:2048])
    for terminated in _terminations(pod):
        found = _container_failure(terminated, kind)
        if found is not None:
            return found
    return None


def _container_failure(terminated: Manifest, kind: type[ApiModel]) -> Failure | None:
    code = int(terminated.get("exitCode", 0))
    if code == 0:
        return None
    if terminated.get("reason") == "OOMKilled":
        return Failure(
            reason=FailureReason.OUT_OF_MEMORY,
            message=f"container {terminated['container']} was killed because it used more memory "
            "than its limit: raise resources.memory or make batches smaller",
            exit_code=code,
        )
    document = parsed(terminated.get("message", ""), kind)
    told = getattr(document, "failure", None)
    if told is not None:
        return Failure(reason=told.reason, message=told.message[:2048], exit_code=code)
    if code == names.EXIT_INTERRUPTED:
        return None
    last = terminated.get("message", "").strip().splitlines()
    return Failure(
        reason=CONTAINER_FAILED,
        message=f"container {terminated['container']} ended with exit code {code}"
        + (f": {last[-1]}"[:1024] if last else ""),
        exit_code=code,
    )


def words_of(failure: Failure) -> str:
    """What is said of a failed pod while its Job goes on.

    A user error ends the Job, too; its controller says so a moment later.
    """
    is_final = failure.exit_code == names.EXIT_USER_ERROR
    return failure.message if is_final else f"{failure.message}; it is tried again"


def retry_delay(failures: int) -> timedelta:
    """Distance between attempts that the operator makes by itself."""
    return timedelta(seconds=min(20 * 2 ** min(failures, 5), 600))


def _container_statuses(pod: Manifest) -> Iterator[Manifest]:
    for part in ("initContainerStatuses", "containerStatuses"):
        yield from get(pod, "status", part, default=[])


def _terminations(pod: Manifest) -> Iterator[Manifest]:
    """Ends of containers, with their names; the main ones first, whose word counts most."""
    for part in ("containerStatuses", "initContainerStatuses"):
        for status in get(pod, "status", part, default=[]):
            terminated = get(status, "state", "terminated")
            if terminated:
                yield {**terminated, "container": status.get("name", "")}
