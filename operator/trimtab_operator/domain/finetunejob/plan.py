"""What a FineTuneJob needs next, as a pure function of what is seen.

    unresolved ──prepare Job──► resolved (frozen) ──train Job──► result ──► ModelVersion, Complete
        │                          │                   │
        └── waits for its base     └── waits for room  └── fails, or is tried again

Every state follows from the object and its children; nothing is remembered elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import PrepareResult, TrainingResult
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, ModelVersion
from trimtab_api.v1alpha1.finetunejob import Failure, FineTuneJobStatus, Progress
from trimtab_operator.domain.conditions import is_true, moment_of
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.finetunejob import children, inputs
from trimtab_operator.domain.finetunejob import status as told
from trimtab_operator.domain.finetunejob.status import Scribe
from trimtab_operator.domain.finetunejob.version import model_version
from trimtab_operator.domain.images import Image, observed
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of
from trimtab_operator.domain.modelversion.usage import awaits
from trimtab_operator.domain.observation import (
    JobState,
    catches_up_in,
    failure_of,
    has_live_pod,
    obstacle,
    pod_failure,
    pods_of,
    retry_delay,
    running_address,
    settles_in,
    words_of,
)
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.domain.preparation import OUTAGES, remarks
from trimtab_operator.settings import Settings

PROGRESS_INTERVAL: Final = timedelta(seconds=2)
# A version notes its producers within moments; a job that is due to go looks for it this often.
NOTED_INTERVAL: Final = timedelta(seconds=1)
AT_REST: Final = Done()


@dataclass(frozen=True)
class Seen:
    """The world around one job."""

    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    base: ModelVersion | None = None
    dataset: Dataset | None = None
    prepared: PrepareResult | None = None
    trained: TrainingResult | None = None
    progress: Progress | None = None
    version: ModelVersion | None = None
    registry_problem: str | None = None

    def job(self, name: str) -> JobState | None:
        """A stage's Job, unless it is on its way out."""
        return next(
            (JobState(j) for j in self.jobs if name_of(j) == name and not is_deleting(j)), None
        )


@dataclass(frozen=True)
class Plan:
    """What to write, in this order: notes, decision, version, children, deletions, events, status.

    Notes are Events about what is seen only once: after the decision nobody would look again.
    """

    status: FineTuneJobStatus
    notes: tuple[Event, ...] = ()
    decision: FineTuneJobStatus | None = None
    version: Manifest | None = None
    create: tuple[Manifest, ...] = ()
    patch: tuple[tuple[Manifest, Manifest], ...] = ()
    delete: tuple[Manifest, ...] = ()
    events: tuple[Event, ...] = ()
    expired: bool = False
    outcome: Outcome = AT_REST


def plan(job: FineTuneJob, seen: Seen, settings: Settings, now: datetime) -> Plan:
    """The next writes. Same inputs, same plan."""
    if job.metadata.deletion_timestamp:
        return Plan(job.status)
    todo = _next(job, seen, settings, now)
    return replace(todo, events=told.events(job, todo.status))


def _next(job: FineTuneJob, seen: Seen, settings: Settings, now: datetime) -> Plan:
    if told.is_over(job.status):
        request = told.retry_request(job)
        if request and is_true(job.status.conditions, told.FAILED):
            return _again(job, seen, settings, now, request)
        return _after_the_end(job, seen, now)
    scribe = Scribe(job, now)
    status = scribe.begun(job.status, job.spec.suspend)
    if not job.status.conditions:
        # A request from before the beginning asks for nothing that is not done anyway.
        status = status.model_copy(update={"retry": told.retry_request(job)})
    begun = job.model_copy(update={"status": status})
    name = children.job_name(
        begun, names.PREPARE if status.resolved is None else names.TRAIN, status.attempt
    )
    if behind := catches_up_in(seen.job(name), pods_of(name, seen.pods), now):
        return Plan(status, outcome=Done(behind))
    step = _preparing if status.resolved is None else _training
    todo = step(begun, seen, settings, now)
    return replace(todo, delete=(*todo.delete, *_of_earlier_attempts(begun, seen)))


def _of_earlier_attempts(job: FineTuneJob, seen: Seen) -> list[Manifest]:
    """Jobs that nobody waits for any more; looked for each time, since a deletion may have failed."""
    stages = (names.PREPARE, names.TRAIN)
    current = {children.job_name(job, stage, job.status.attempt) for stage in stages}
    return [j for j in seen.jobs if name_of(j) not in current and not is_deleting(j)]


def _after_the_end(job: FineTuneJob, seen: Seen, now: datetime) -> Plan:
    left = told.time_to_live(job, now)
    if left is not None and left <= timedelta():
        if seen.version is None or not awaits(seen.version, job):
            return Plan(job.status, expired=True)
        left = NOTED_INTERVAL
    return Plan(Scribe(job, now).ended(job.status), outcome=Done(left))


def _again(
    job: FineTuneJob, seen: Seen, settings: Settings, now: datetime, request: str | None = None
) -> Plan:
    """A new attempt. It is written down first: its number names the new Jobs."""
    status = Scribe(job, now).again(job.status, job.spec.suspend)
    if request:
        status = status.model_copy(update={"retry": request})
    fresh = replace(seen, prepared=None, trained=None, progress=None, registry_problem=None)
    todo = _next(job.model_copy(update={"status": status}), fresh, settings, now)
    return replace(todo, decision=todo.decision or status)


# --- before training: what the references mean -------------------------------------------------


def _preparing(job: FineTuneJob, seen: Seen, settings: Settings, now: datetime) -> Plan:
    base = inputs.known_base(job, seen.base)
    data = inputs.known_data(job, seen.dataset)
    stage = seen.job(children.job_name(job, names.PREPARE, job.status.attempt))
    if stage is not None and job.spec.suspend and not stage.is_finished:
        return _watching(job, stage, seen, settings, now)
    if isinstance(base, Finding) or isinstance(data, Finding):
        return _without(job, [f for f in (base, data) if isinstance(f, Finding)], now)
    scribe = Scribe(job, now)
    if stage is not None and seen.prepared is not None:
        base, data = (
            base or inputs.found_base(seen.prepared),
            data or inputs.found_data(seen.prepared),
        )
        if base is not None and data is not None:
            given = Image.of(stage.image(names.PREPARE))
            image = observed(given, pods_of(stage.name, seen.pods), {names.PREPARE})
            todo = _resolved(job, base, data, image, seen, settings, now)
            return replace(todo, notes=remarks(children.KIND, job, seen.prepared))
    if stage is None:
        if job.spec.suspend:
            return Plan(scribe.waiting(job.status, told.ON_REQUEST, "spec.suspend is true"))
        if base is not None and data is not None:
            image = Image.of(settings.images.pipelines)
            return _resolved(job, base, data, image, seen, settings, now)
        return Plan(
            scribe.waiting(job.status, told.PREPARING, "data and base model are being resolved"),
            create=tuple(children.preparation(job, settings, with_base=base is None)),
        )
    return _watching(job, stage, seen, settings, now)


def _without(job: FineTuneJob, findings: Sequence[Finding], now: datetime) -> Plan:
    """Nothing can be begun: for good, or (which is said last) until somebody else is ready."""
    gravest = min(findings, key=lambda f: f.is_unknown)
    if gravest.is_unknown:
        return Plan(Scribe(job, now).waiting(job.status, gravest.reason, gravest.message))
    return _failed(job, Failure(reason=gravest.reason, message=gravest.message), now)


def _resolved(
    job: FineTuneJob,
    base: inputs.Base,
    data: inputs.Data,
    image: Image,
    seen: Seen,
    settings: Settings,
    now: datetime,
) -> Plan:
    frozen = inputs.frozen(base, data, image)
    status = Scribe(job, now).resolved(job.status, frozen, data.records)
    if seen.job(children.job_name(job, names.TRAIN, job.status.attempt)) is not None:
        # The status was lost: what came of the training has not been looked for yet.
        return Plan(status, decision=status)
    todo = _training(job.model_copy(update={"status": status}), seen, settings, now)
    return replace(todo, decision=todo.decision or status)


# --- training -----------------------------------------------------------------------------------


def _training(job: FineTuneJob, seen: Seen, settings: Settings, now: datetime) -> Plan:
    job = _with_image(job, seen)
    if seen.trained is not None and seen.trained.artifact is not None:
        return _completed(job, seen, now)
    stage = seen.job(children.job_name(job, names.TRAIN, job.status.attempt))
    if stage is not None:
        return _watching(job, stage, seen, settings, now)
    scribe = Scribe(job, now)
    if job.spec.suspend:
        return Plan(scribe.waiting(job.status, told.ON_REQUEST, "spec.suspend is true"))
    if has_live_pod(_of_stage(seen.pods, names.TRAIN)):
        # Two trainers on one volume would ruin the checkpoints.
        return Plan(scribe.waiting(job.status, told.STOPPING, "waits for the last pod to end"))
    return Plan(
        scribe.waiting(job.status, told.PENDING, "the training pod is being started"),
        create=tuple(children.training(job, settings)),
    )


def _with_image(job: FineTuneJob, seen: Seen) -> FineTuneJob:
    """The job with what its pods say about their image, where that was not known before.

    A Job that exists keeps the reference that it was made with. A better one serves the next Job:
    after a suspension under Kueue, or of another attempt.
    """
    resolved = job.status.resolved
    if resolved is None or not resolved.image:
        return job
    pods = pods_of(children.job_name(job, names.TRAIN, job.status.attempt), seen.pods)
    before = Image(resolved.image, resolved.image_digest)
    image = observed(before, pods, {children.FETCH, names.TRAIN})
    changes = {"image": image.reference, "image_digest": image.digest}
    status = job.status.model_copy(update={"resolved": resolved.model_copy(update=changes)})
    return job.model_copy(update={"status": status})


def _completed(job: FineTuneJob, seen: Seen, now: datetime) -> Plan:
    result = seen.trained
    if result is None or result.artifact is None:
        return Plan(job.status)
    version = model_version(job, result.artifact)
    there = seen.version
    if there is not None and there.spec.artifact.digest != result.artifact.digest:
        message = (
            f"ModelVersion {name_of(version)} exists and holds {there.spec.artifact.digest}; "
            f"the result is {result.artifact.digest}: choose another output.model"
        )
        return _failed(job, Failure(reason=told.VERSION_NAME_TAKEN, message=message), now)
    status = Scribe(job, now).completed(job.status, name_of(version), result)
    left = told.time_to_live(job.model_copy(update={"status": status}), now)
    return Plan(status, version=None if there else version, outcome=Done(left))


# --- both stages: a Job that exists -------------------------------------------------------------


def _watching(
    job: FineTuneJob, stage: JobState, seen: Seen, settings: Settings, now: datetime
) -> Plan:
    pods = pods_of(stage.name, seen.pods)
    if stage.failure is not None:
        return _gave_up(job, stage, seen, settings, now)
    if stage.is_complete:
        return _without_result(job, stage, seen, now)
    if job.spec.suspend:
        return _suspending(job, stage, pods, now)
    scribe = Scribe(job, now)
    patch = _differences(job, stage)
    if running_address(pods, names.TRAIN):
        status = scribe.training(job.status, seen.progress)
        return Plan(status, patch=patch, outcome=Done(PROGRESS_INTERVAL))
    reason, message = _why_not_running(stage, pods, now)
    status = scribe.waiting(job.status, reason, message)
    return Plan(status, patch=patch, outcome=Done(settles_in(pods, now)))


def _why_not_running(stage: JobState, pods: Sequence[Manifest], now: datetime) -> tuple[str, str]:
    if _is_queued(stage) and stage.is_suspended and not pods:
        return told.QUEUED, "a queue holds the pods back until there is room"
    blocked = obstacle(pods, now)
    if blocked is not None:
        return blocked.reason, blocked.message
    kind = PrepareResult if _stage_of(stage) == names.PREPARE else TrainingResult
    for pod in pods:
        last = pod_failure(pod, kind)
        if last is not None:
            return last.reason, words_of(last)
    if _stage_of(stage) == names.PREPARE:
        return told.PREPARING, "data and base model are being resolved"
    if running_address(pods, children.FETCH):
        return told.FETCHING, "data is being fetched into the volume"
    return told.PENDING, "the training pod is being started"


def _suspending(job: FineTuneJob, stage: JobState, pods: Sequence[Manifest], now: datetime) -> Plan:
    live = has_live_pod(pods)
    message = "waits for the pod's last checkpoint" if live else "spec.suspend is true"
    status = Scribe(job, now).waiting(
        job.status, told.STOPPING if live else told.ON_REQUEST, message
    )
    if _is_queued(stage):
        # Kueue owns `suspend` of its Jobs and would start it again; a Job that is gone stays gone.
        return Plan(status, delete=(stage.manifest,))
    return Plan(status, patch=_differences(job, stage))


def _differences(job: FineTuneJob, stage: JobState) -> tuple[tuple[Manifest, Manifest], ...]:
    """The few fields of a Job that may follow the spec after its creation."""
    wanted: Manifest = {}
    if get(stage.manifest, "spec", "activeDeadlineSeconds") != job.spec.active_deadline_seconds:
        wanted["activeDeadlineSeconds"] = job.spec.active_deadline_seconds
    if not _is_queued(stage) and stage.is_suspended != job.spec.suspend:
        wanted["suspend"] = job.spec.suspend
    return ((stage.manifest, {"spec": wanted}),) if wanted else ()


def _is_queued(stage: JobState) -> bool:
    """Whether Kueue decides when its pods may run."""
    return names.LABEL_KUEUE_QUEUE in get(stage.manifest, "metadata", "labels", default={})


def _gave_up(
    job: FineTuneJob, stage: JobState, seen: Seen, settings: Settings, now: datetime
) -> Plan:
    kind = PrepareResult if _stage_of(stage) == names.PREPARE else TrainingResult
    failure = failure_of(stage, pods_of(stage.name, seen.pods), kind)
    if failure.reason not in OUTAGES:
        return _failed(job, failure, now)
    ended = moment_of(stage.failed_at) or now
    left = ended + retry_delay(job.status.attempt) - now
    if left <= timedelta() and not job.spec.suspend:
        return _again(job, seen, settings, now)
    message = f"{failure.message}; it is tried again from the last checkpoint"
    status = Scribe(job, now).waiting(job.status, failure.reason, message)
    return Plan(status, outcome=Done(max(left, PROGRESS_INTERVAL)))


def _without_result(job: FineTuneJob, stage: JobState, seen: Seen, now: datetime) -> Plan:
    if seen.registry_problem is not None:
        message = f"the result cannot be read: {seen.registry_problem}"
        reason = FailureReason.REGISTRY_UNREACHABLE
        status = Scribe(job, now).waiting(job.status, reason, message)
        return Plan(status, outcome=Retry(message))
    message = f"Job {stage.name} has succeeded, but left no result"
    return _failed(job, Failure(reason=told.RESULT_MISSING, message=message), now)


def _failed(job: FineTuneJob, failure: Failure, now: datetime) -> Plan:
    status = Scribe(job, now).failed(job.status, failure)
    left = told.time_to_live(job.model_copy(update={"status": status}), now)
    return Plan(status, outcome=Done(left))


def _stage_of(stage: JobState) -> str:
    return str(get(stage.manifest, "metadata", "labels", names.LABEL_COMPONENT, default=""))


def _of_stage(pods: Sequence[Manifest], stage: str) -> list[Manifest]:
    labels = (get(p, "metadata", "labels", default={}) for p in pods)
    return [
        p for p, own in zip(pods, labels, strict=True) if own.get(names.LABEL_COMPONENT) == stage
    ]
