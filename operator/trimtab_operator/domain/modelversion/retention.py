"""When the artifact of a retired version goes, and what keeps it.

    retired --> DeletionDue --> StillReferenced --> DeletingArtifact --> ArtifactDeleted
                   (time)        (while somebody       |  written down before the Job is made;
                                  needs it)            v  from here on there is no way back
                                                   Job fails: said, tried again

What must never happen: an artifact is deleted that something refers to. So all references are
looked at, by name and by digest; the version is not Ready before its Job exists; and a retired
version, which has to have been one for a while, is named by nobody new.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import DeletionResult, DeletionRun, Owner
from trimtab_api.documents.common import Stored
from trimtab_api.reasons import VersionReason
from trimtab_api.v1alpha1 import FineTuneJob, InferenceService, ModelVersion
from trimtab_operator.domain import pods as podding
from trimtab_operator.domain.conditions import find, is_true, moment_of, timestamp
from trimtab_operator.domain.decision.standing import Standing
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.manifests import Manifest, get
from trimtab_operator.domain.modelversion import usage
from trimtab_operator.domain.naming import child_name, image_reference
from trimtab_operator.domain.observation import JobState, failure_of, obstacle, pods_of, settles_in
from trimtab_operator.settings import Settings

KIND: Final = "ModelVersion"
CONDITION: Final = "ArtifactDeleted"
BACKOFF_LIMIT: Final = 3
TRIED_AGAIN_AFTER: Final = timedelta(minutes=10)
LOGS_KEPT: Final = timedelta(hours=1)
LOOKED_AGAIN_AFTER: Final = timedelta(minutes=10)
# Before the point of no return.
REVERSIBLE: Final = frozenset(
    {VersionReason.DELETION_DUE, VersionReason.STILL_REFERENCED, VersionReason.NOT_RETIRED}
)


@dataclass(frozen=True)
class Deletion:
    """What to say about the artifact's end, and to do for it; nothing is said where nothing is planned."""

    answer: Answer | None = None
    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    again_after: timedelta | None = None


def has_begun(version: ModelVersion) -> bool:
    """Whether the artifact is gone, or on its way."""
    told = find(version.status.conditions, CONDITION)
    return told is not None and told.reason not in REVERSIBLE


def others(
    version: ModelVersion,
    versions: Iterable[ModelVersion],
    services: Iterable[InferenceService],
    jobs: Iterable[FineTuneJob],
) -> tuple[str, ...]:
    """Who refers to the same content by its digest, in any namespace."""
    found = [
        *(f"ModelVersion {'/'.join(v.key)}" for v in versions if _needs(v, version)),
        *(f"InferenceService {'/'.join(s.key)}" for s in services),
        *(f"FineTuneJob {'/'.join(j.key)}" for j in jobs if not usage.is_over(j)),
    ]
    return tuple(sorted(set(found)))


def deletion(
    version: ModelVersion,
    stands: Standing,
    needed_by: tuple[str, ...],
    jobs: tuple[Manifest, ...],
    pods: tuple[Manifest, ...],
    settings: Settings,
    now: datetime,
) -> Deletion:
    """What becomes of the artifact. A version that is being deleted takes nothing with it."""
    if is_true(version.status.conditions, CONDITION):
        return _over(jobs, now)
    if version.metadata.deletion_timestamp:
        return Deletion()
    if has_begun(version):
        return _under_way(version, jobs, pods, settings, now)
    return _considered(version, stands, needed_by, settings, now)


def job_name(version: ModelVersion) -> str:
    """One name per version."""
    return child_name(version.metadata.name, names.DELETE, version.metadata.uid)


def _needs(other: ModelVersion, version: ModelVersion) -> bool:
    """Another version of the same content keeps it, unless it is out of use as well."""
    if other.metadata.uid == version.metadata.uid or has_begun(other):
        return False
    conditions = other.status.conditions
    is_same = other.spec.artifact.digest == version.spec.artifact.digest
    is_out_of_use = is_true(conditions, "Retired") and not is_true(conditions, "InUse")
    return not (is_same and is_out_of_use)


def _considered(
    version: ModelVersion,
    stands: Standing,
    needed_by: tuple[str, ...],
    settings: Settings,
    now: datetime,
) -> Deletion:
    seconds = settings.retention.delete_retired_after_seconds
    retired = stands.retirement
    was_planned = find(version.status.conditions, CONDITION) is not None
    if not seconds or retired is None or not _is_ours(version, settings):
        never = Answer(False, VersionReason.NOT_RETIRED, "its artifact is not going to be deleted")
        return Deletion(never if was_planned else None)
    due = (moment_of(retired.time) or now) + timedelta(seconds=seconds)
    if now < due:
        message = (
            f"its artifact will be deleted after {timestamp(due)}, unless it is used or approved"
        )
        return Deletion(Answer(False, VersionReason.DELETION_DUE, message), again_after=due - now)
    if needed_by:
        named = ", ".join(needed_by[: usage.NAMED_AT_MOST])
        rest = len(needed_by) - usage.NAMED_AT_MOST
        message = f"its artifact is kept for {named}" + (f" and {rest} more" if rest > 0 else "")
        answer = Answer(False, VersionReason.STILL_REFERENCED, message)
        return Deletion(answer, again_after=LOOKED_AGAIN_AFTER)
    return Deletion(_deleting(), tuple(_children(version, settings)))


def _under_way(
    version: ModelVersion,
    jobs: tuple[Manifest, ...],
    pods: tuple[Manifest, ...],
    settings: Settings,
    now: datetime,
) -> Deletion:
    if not jobs:
        return Deletion(_deleting(), tuple(_children(version, settings)))
    state, its_pods = JobState(jobs[0]), pods_of(job_name(version), pods)
    if state.is_complete:
        return _over(jobs, now)
    if not state.is_finished:
        found = obstacle(its_pods, now)
        told = Answer(False, found.reason, found.message) if found else _deleting()
        return Deletion(told, again_after=settles_in(its_pods, now))
    failure = failure_of(state, its_pods, DeletionResult)
    told = Answer(False, failure.reason, f"{failure.message}; it will be tried again")
    left = TRIED_AGAIN_AFTER - (now - (moment_of(state.ended_at) or now))
    if left > timedelta():
        return Deletion(told, again_after=left)
    return Deletion(told, delete=jobs[:1], again_after=timedelta(seconds=1))


def _over(jobs: tuple[Manifest, ...], now: datetime) -> Deletion:
    """The Job's log is kept for a while."""
    gone = Answer(True, VersionReason.ARTIFACT_DELETED, "its artifact is gone from the registry")
    if not jobs:
        return Deletion(gone)
    ended = moment_of(JobState(jobs[0]).ended_at) or now
    left = LOGS_KEPT - (now - ended)
    if left > timedelta():
        return Deletion(gone, again_after=left)
    return Deletion(gone, delete=jobs)


def _deleting() -> Answer:
    return Answer(False, VersionReason.DELETING_ARTIFACT, "its artifact is being deleted")


def _is_ours(version: ModelVersion, settings: Settings) -> bool:
    """What is elsewhere in the registry, or in another one, was not put there by us."""
    address = image_reference(version.spec.artifact.uri)
    return address.startswith(f"{settings.registry.prefix}/")


def _children(version: ModelVersion, settings: Settings) -> list[Manifest]:
    """The task's ConfigMap and the Job."""
    name, artifact = job_name(version), version.spec.artifact
    document = DeletionRun(
        owner=Owner(
            kind=KIND,
            namespace=version.metadata.namespace,
            name=version.metadata.name,
            uid=version.metadata.uid,
        ),
        artifact=Stored(uri=artifact.uri, digest=artifact.digest),
        plain_http=settings.registry.plain_http,
    )
    mounts = [
        podding.run_document(name),
        podding.scratch_space(),
        *podding.registry_credentials(settings),
    ]
    container = podding.container(
        names.DELETE,
        settings.images.pipelines,
        ["python", "-m", "trimtab_pipelines", names.DELETE],
        mounts,
        settings,
        wants={"requests": {"cpu": "50m", "memory": "128Mi"}},
    )
    # Its user's tolerations and proxies hold here too; GPUs and their nodes are not needed.
    overrides = version.spec.evaluation.pod.model_copy(update={"node_selector": {}})
    pod = podding.pod_spec([container], mounts, settings, overrides=overrides)
    text = document.model_dump_json(exclude_none=True)
    return [
        podding.run_config_map(KIND, version, names.DELETE, name, text),
        podding.task_job(KIND, version, names.DELETE, name, pod, backoff_limit=BACKOFF_LIMIT),
    ]


def is_deletion(job: Manifest) -> bool:
    """Whether this Job of a version deletes its artifact."""
    return bool(
        get(job, "metadata", "labels", default={}).get(names.LABEL_COMPONENT) == names.DELETE
    )
