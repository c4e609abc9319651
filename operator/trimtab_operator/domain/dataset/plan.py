"""What a Dataset needs next, as a pure function of what is seen.

    new generation ──► held-out data of others (frozen) ──prepare Job──► digest, Ready
                            │                                  │
                            └── waits until it is Ready        └── fails, or is tried again

Every state follows from the object and its children; nothing is remembered elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import RETRYABLE, DatasetReason, FailureReason
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.dataset import DatasetStatus
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_operator.domain import rayjobs
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.dataset import children, inputs
from trimtab_operator.domain.dataset import status as told
from trimtab_operator.domain.dataset.status import Scribe
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.images import Image, observed
from trimtab_operator.domain.manifests import Manifest, is_deleting, name_of
from trimtab_operator.domain.observation import (
    JobState,
    catches_up_in,
    failure_of,
    obstacle,
    pod_failure,
    pods_of,
    retry_delay,
    settles_in,
    words_of,
)
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.domain.preparation import OUTAGES, remarks
from trimtab_operator.domain.rayjobs import RayJobState
from trimtab_operator.settings import Settings

AT_REST: Final = Done()
_SOON: Final = timedelta(seconds=2)
_NO_RAY: Final = (
    "engine is Ray, and this Trimtab follows no RayJobs; install KubeRay and set ray.enabled in the chart's values, "
    "or set engine: Local"
)


@dataclass(frozen=True)
class Seen:
    """The world around one Dataset; `others` are those that it waits for by way of others, by name."""

    jobs: tuple[Manifest, ...] = ()
    tasks: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    others: Mapping[str, Dataset | None] = field(default_factory=dict)
    result: PrepareResult | None = None
    registry_problem: str | None = None

    def job(self, name: str) -> JobState | None:
        """A preparation's Job, unless it is on its way out."""
        there = next((j for j in self.jobs if name_of(j) == name and not is_deleting(j)), None)
        if there is None:
            return None
        return RayJobState(there) if there["kind"] == rayjobs.KIND else JobState(there)


@dataclass(frozen=True)
class Plan:
    """What to write, in this order: notes, decision, deletions, children, events, status.

    Notes are Events about what nobody would see any more after the decision. Earlier Jobs go before
    a new one comes: the quota that they use up may be what it needs, and where it is refused for
    good they would work on.
    """

    status: DatasetStatus
    notes: tuple[Event, ...] = ()
    decision: DatasetStatus | None = None
    delete: tuple[Manifest, ...] = ()
    create: tuple[Manifest, ...] = ()
    events: tuple[Event, ...] = ()
    outcome: Outcome = AT_REST


def plan(dataset: Dataset, seen: Seen, settings: Settings, now: datetime) -> Plan:
    """The next writes. Same inputs, same plan."""
    if dataset.metadata.deletion_timestamp:
        return Plan(dataset.status)
    todo = _next(dataset, seen, settings, now)
    decided = dataset.model_copy(update={"status": todo.decision or dataset.status})
    after = dataset.model_copy(update={"status": todo.status})
    return replace(
        todo,
        notes=(*todo.notes, *told.events(dataset, decided.status)),
        delete=tuple(_of_earlier_preparations(after, seen)),
        events=told.events(decided, todo.status),
    )


def _next(dataset: Dataset, seen: Seen, settings: Settings, now: datetime) -> Plan:
    if told.has_verdict(dataset):
        request = told.retry_request(dataset)
        return _again(dataset, seen, settings, now, request) if request else Plan(dataset.status)
    status = Scribe(dataset, now).begun(dataset.status)
    return _preparing(dataset.model_copy(update={"status": status}), seen, settings, now)


def _again(
    dataset: Dataset, seen: Seen, settings: Settings, now: datetime, request: str | None
) -> Plan:
    """A new attempt. It is written down first: its number names the new Job."""
    status = Scribe(dataset, now).again(dataset.status, request)
    fresh = replace(seen, result=None, registry_problem=None)
    todo = _preparing(dataset.model_copy(update={"status": status}), fresh, settings, now)
    return replace(todo, decision=todo.decision or status)


def _of_earlier_preparations(dataset: Dataset, seen: Seen) -> list[Manifest]:
    """Jobs that nobody waits for any more, and their tasks; looked for each time, since a deletion may have failed."""
    current = children.job_name(dataset, told.attempt_of(dataset))
    there = (*seen.jobs, *seen.tasks)
    return [each for each in there if name_of(each) != current and not is_deleting(each)]


def _preparing(dataset: Dataset, seen: Seen, settings: Settings, now: datetime) -> Plan:
    stage = seen.job(children.job_name(dataset, dataset.status.attempt))
    if stage is None:
        return _starting(dataset, seen, settings, now)
    if behind := catches_up_in(stage, pods_of(stage.name, seen.pods), now):
        return Plan(dataset.status, outcome=Done(behind))
    if seen.result is not None and seen.result.data is not None:
        return _prepared(dataset, stage, seen.result, seen, now)
    if stage.failure is not None:
        return _gave_up(dataset, stage, seen, settings, now)
    if stage.is_complete:
        return _without_result(dataset, stage, seen, now)
    pods = pods_of(stage.name, seen.pods)
    trouble = _trouble(pods, now)
    scribe = Scribe(dataset, now)
    status = (
        scribe.waiting(dataset.status, *trouble)
        if trouble
        else scribe.preparing(dataset.status, dataset.status.held_out)
    )
    return Plan(status, outcome=Done(settles_in(pods, now)))


def _starting(dataset: Dataset, seen: Seen, settings: Settings, now: datetime) -> Plan:
    scribe = Scribe(dataset, now)
    if children.is_spread(dataset) and not settings.ray.enabled:
        return Plan(scribe.waiting(dataset.status, DatasetReason.RAY_NOT_ENABLED, _NO_RAY))
    found = tuple(dataset.status.held_out) or inputs.held_out(dataset, seen.others)
    if isinstance(found, Finding):
        if found.is_unknown:
            return Plan(scribe.waiting(dataset.status, found.reason, found.message))
        fault = Failure(reason=found.reason, message=found.message[:2048])
        return Plan(scribe.failed(dataset.status, fault))
    # What is said of it changes only once the Job is there: a quota may stand in the way for long.
    decision = dataset.status.model_copy(update={"held_out": list(found)})
    create = children.preparing(dataset, found, settings)
    return Plan(scribe.preparing(decision, found), decision=decision, create=tuple(create))


def _prepared(
    dataset: Dataset, stage: JobState, result: PrepareResult, seen: Seen, now: datetime
) -> Plan:
    given = Image.of(stage.image(names.PREPARE))
    image = observed(given, pods_of(stage.name, seen.pods), {names.PREPARE})
    notes = remarks(children.KIND, dataset, result, occasion=str(dataset.status.attempt))
    return Plan(Scribe(dataset, now).prepared(dataset.status, result, image), notes=notes)


def _trouble(pods: Sequence[Manifest], now: datetime) -> tuple[str, str] | None:
    blocked = obstacle(pods, now)
    if blocked is not None:
        return blocked.reason, blocked.message
    for pod in pods:
        last = pod_failure(pod, PrepareResult)
        if last is not None:
            return last.reason, words_of(last)
    return None


def _gave_up(
    dataset: Dataset, stage: JobState, seen: Seen, settings: Settings, now: datetime
) -> Plan:
    failure = _failure(stage, seen)
    scribe = Scribe(dataset, now)
    if failure.reason not in OUTAGES and not _may_pass(failure, dataset):
        return Plan(scribe.failed(dataset.status, failure))
    request = told.retry_request(dataset)
    ended = moment_of(stage.failed_at) or now
    left = ended + retry_delay(dataset.status.attempt) - now
    if request or left <= timedelta():
        return _again(dataset, seen, settings, now, request)
    message = f"{failure.message}; it is tried again"
    status = scribe.waiting(dataset.status, failure.reason, message)
    return Plan(status, outcome=Done(max(left, _SOON)))


def _failure(stage: JobState, seen: Seen) -> Failure:
    """What the program has said; of a RayJob, whose pods say nothing of it, in the registry."""
    told = seen.result.failure if seen.result else None
    if told is not None:
        return Failure(reason=told.reason, message=told.message)
    return failure_of(stage, pods_of(stage.name, seen.pods), PrepareResult)


def _may_pass(failure: Failure, dataset: Dataset) -> bool:
    """A Job tries such again by itself; for a RayJob it is decided here."""
    is_due = dataset.status.attempt < children.BACKOFF_LIMIT
    return children.is_spread(dataset) and failure.reason in RETRYABLE and is_due


def _without_result(dataset: Dataset, stage: JobState, seen: Seen, now: datetime) -> Plan:
    scribe = Scribe(dataset, now)
    if seen.registry_problem is not None:
        message = f"the result cannot be read: {seen.registry_problem}"
        status = scribe.waiting(dataset.status, FailureReason.REGISTRY_UNREACHABLE, message)
        return Plan(status, outcome=Retry(message))
    message = (
        f"Job {stage.name} has succeeded, but its result is neither in its pod nor in the registry"
    )
    failure = Failure(reason=DatasetReason.RESULT_MISSING, message=message)
    return Plan(scribe.failed(dataset.status, failure))
