"""What a FineTuneJob says about itself.

Four conditions. `Started` follows the pods (a job whose pod was taken away is not started until the
next one runs), the others are verdicts. `Complete` and `Failed` exclude each other and are final,
until a failed job is tried again on request.
"""

from datetime import datetime, timedelta
from typing import Final

from trimtab_api.documents import TrainingResult
from trimtab_api.names import ANNOTATION_RETRY
from trimtab_api.reasons import JobReason
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.finetunejob import (
    Failure,
    FineTuneJobStatus,
    Objective,
    Progress,
    RecordCounts,
    ResolvedInputs,
)
from trimtab_operator.domain.conditions import (
    condition,
    find,
    is_true,
    moment_of,
    timestamp,
    with_conditions,
)
from trimtab_operator.domain.events import Event, about, transitions
from trimtab_operator.domain.observation import POD_TROUBLES

KIND: Final = "FineTuneJob"
STARTED: Final = "Started"
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
SUSPENDED: Final = "Suspended"

# Reasons of Started.
PREPARING: Final = JobReason.PREPARING
PENDING: Final = JobReason.PENDING
FETCHING: Final = JobReason.FETCHING
TRAINING: Final = JobReason.TRAINING
QUEUED: Final = JobReason.QUEUED
STOPPING: Final = JobReason.STOPPING
TRAINED: Final = JobReason.TRAINED
# Reasons of the verdicts.
IN_PROGRESS: Final = JobReason.IN_PROGRESS
SUCCEEDED: Final = JobReason.SUCCEEDED
NOT_FAILED: Final = JobReason.NOT_FAILED
ON_REQUEST: Final = JobReason.SUSPENDED_ON_REQUEST
NOT_SUSPENDED: Final = JobReason.NOT_SUSPENDED
RESUMED: Final = JobReason.RESUMED
RESULT_MISSING: Final = JobReason.RESULT_MISSING
VERSION_NAME_TAKEN: Final = JobReason.VERSION_NAME_TAKEN
REFUSED: Final = JobReason.REFUSED
NOT_ALLOWED: Final = JobReason.NOT_ALLOWED
NAME_TAKEN: Final = JobReason.NAME_TAKEN

WARNINGS: Final = frozenset(
    {
        *POD_TROUBLES,
        RESULT_MISSING,
        VERSION_NAME_TAKEN,
        REFUSED,
        NOT_ALLOWED,
        NAME_TAKEN,
        JobReason.BASE_MODEL_UNSUITABLE,
        JobReason.DATASET_UNSUITABLE,
    }
)
_SILENT: Final = frozenset({IN_PROGRESS, NOT_FAILED, NOT_SUSPENDED})


class Scribe:
    """Writes one status; every method returns a new one. It knows the object and the time."""

    def __init__(self, job: FineTuneJob, now: datetime) -> None:
        self._generation = job.metadata.generation
        self._now = now

    def begun(self, status: FineTuneJobStatus, suspend: bool) -> FineTuneJobStatus:
        """The verdicts as they stand while there are none yet."""
        new = [
            self._is(COMPLETE, False, IN_PROGRESS, "not finished"),
            self._is(FAILED, False, NOT_FAILED, "has not failed"),
            self._suspension(status, suspend),
        ]
        return self._with(status, *new)

    def waiting(self, status: FineTuneJobStatus, reason: str, message: str) -> FineTuneJobStatus:
        """No pod trains now, and why."""
        return self._with(status, self._is(STARTED, False, reason, message))

    def training(self, status: FineTuneJobStatus, progress: Progress | None) -> FineTuneJobStatus:
        """A pod trains now, and how far it is."""
        changes: dict[str, object] = {"start_time": status.start_time or timestamp(self._now)}
        if progress is not None:
            changes["progress"] = progress
        started = self._is(STARTED, True, TRAINING, "a pod trains")
        return self._with(status.model_copy(update=changes), started)

    def resolved(
        self, status: FineTuneJobStatus, inputs: ResolvedInputs, records: PreparedRecords | None
    ) -> FineTuneJobStatus:
        """The inputs, from now on."""
        return status.model_copy(update={"resolved": inputs, "records": _counted(records)})

    def completed(
        self, status: FineTuneJobStatus, version: str, result: TrainingResult
    ) -> FineTuneJobStatus:
        """The result is there."""
        message = f"the result is ModelVersion {version}"
        changes = {
            "model_version": version,
            "completion_time": timestamp(self._now),
            "start_time": status.start_time or timestamp(self._now),
            "progress": result.progress or status.progress,
            "records": _learned(status.records, result),
            "failure": None,
        }
        return self._with(
            status.model_copy(update=changes),
            self._is(STARTED, True, TRAINED, "training has ended"),
            self._is(COMPLETE, True, SUCCEEDED, message),
        )

    def failed(self, status: FineTuneJobStatus, failure: Failure) -> FineTuneJobStatus:
        """There will be no result."""
        changes = {"failure": failure, "completion_time": timestamp(self._now)}
        return self._with(
            status.model_copy(update=changes),
            self._is(STARTED, False, failure.reason, failure.message),
            self._is(COMPLETE, False, failure.reason, failure.message),
            self._is(FAILED, True, failure.reason, failure.message),
        )

    def ended(self, status: FineTuneJobStatus) -> FineTuneJobStatus:
        """A verdict holds for every later spec too, and nothing is suspended any more."""
        about = {"observed_generation": self._generation}
        conditions = [c.model_copy(update=about) for c in status.conditions]
        if is_true(conditions, SUSPENDED):
            conditions = with_conditions(
                conditions, [self._is(SUSPENDED, False, NOT_SUSPENDED, "it has ended")]
            )
        return status.model_copy(update={**about, "conditions": conditions})

    def again(self, status: FineTuneJobStatus, suspend: bool) -> FineTuneJobStatus:
        """A new attempt: the inputs, the volume and the checkpoints stay."""
        changes = {"attempt": status.attempt + 1, "failure": None, "completion_time": None}
        fresh = self.begun(status.model_copy(update=changes), suspend)
        return self.waiting(fresh, PENDING, "it is tried again")

    def _suspension(self, status: FineTuneJobStatus, suspend: bool) -> Condition:
        if suspend:
            return self._is(
                SUSPENDED, True, ON_REQUEST, "spec.suspend is true; the volume and checkpoints stay"
            )
        before = find(status.conditions, SUSPENDED)
        was = before is not None and (before.status == "True" or before.reason == RESUMED)
        if was:
            trained = status.progress is not None
            words = "goes on from the last checkpoint" if trained else "has not trained yet; begins"
            return self._is(SUSPENDED, False, RESUMED, words)
        return self._is(SUSPENDED, False, NOT_SUSPENDED, "not suspended")

    def _is(self, kind: str, holds: bool, reason: str, message: str) -> Condition:
        return condition(kind, holds, reason, message, generation=self._generation, now=self._now)

    def _with(self, status: FineTuneJobStatus, *new: Condition) -> FineTuneJobStatus:
        changes = {
            "conditions": with_conditions(status.conditions, new),
            "observed_generation": self._generation,
        }
        return status.model_copy(update=changes)


def _counted(records: PreparedRecords | None) -> RecordCounts | None:
    """The counts of prepared data, as a job shows them."""
    if records is None:
        return None
    return RecordCounts.model_validate(records.model_dump(exclude={"dropped"}))


def _learned(records: RecordCounts | None, result: TrainingResult) -> RecordCounts | None:
    if records is None:
        return None
    return records.model_copy(update={"cut": result.cut, "dropped": result.dropped})


def is_over(status: FineTuneJobStatus) -> bool:
    """Whether there is a verdict."""
    return is_true(status.conditions, COMPLETE) or is_true(status.conditions, FAILED)


def retry_request(job: FineTuneJob) -> str | None:
    """A request to try again that has not been served yet."""
    asked = job.metadata.annotations.get(ANNOTATION_RETRY)
    return asked if asked and asked != job.status.retry else None


def time_to_live(job: FineTuneJob, now: datetime) -> timedelta | None:
    """How long a finished job has left; None means for ever, nothing or less means gone."""
    ttl = job.spec.ttl_seconds_after_finished
    ended = moment_of(job.status.completion_time)
    if ttl is None or ended is None:
        return None
    return ended + timedelta(seconds=ttl) - now


def events(job: FineTuneJob, after: FineTuneJobStatus) -> tuple[Event, ...]:
    """What is worth telling; that nothing has happened yet is not."""
    told = [
        c
        for c in after.conditions
        if c.reason not in _SILENT and not (c.type == COMPLETE and c.status != "True")
    ]
    if is_true(after.conditions, FAILED):
        told = [c for c in told if c.type != STARTED]
    found = transitions(KIND, job, told, warnings=WARNINGS, occasion=str(after.attempt))
    return (*found, *_records_lost(job, after))


def _records_lost(job: FineTuneJob, after: FineTuneJobStatus) -> list[Event]:
    """What a user finds out about in production, if nobody says it."""
    before, now = job.status.records, after.records
    if now is None or now == before or job.spec.objective is Objective.PRETRAINING:
        return []
    lost = []
    if now.cut:
        lost.append(
            f"{now.cut} of {now.train} training records are longer than hyperparameters.maxLength "
            "or than the model reads, and were cut"
        )
    if now.dropped:
        lost.append(f"{now.dropped} had no answer left and were not learned from")
    message = f"{'; '.join(lost)}: raise maxLength or shorten the records"
    return [about(KIND, job, JobReason.RECORDS_CUT, message, warning=True)] if lost else []
