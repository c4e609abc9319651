"""What a Dataset says about itself.

One condition, Ready. Unknown means that a preparation is on its way or waits for something; True and
False are verdicts about one generation, and stay until the spec changes or somebody asks again. What
an earlier preparation has made stays in status all the while.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from trimtab_api.documents import PrepareResult
from trimtab_api.names import ANNOTATION_RETRY
from trimtab_api.reasons import DatasetReason
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.common import Condition, ConditionStatus
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.dataset import DatasetStatus, HeldOutData
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_operator.domain.conditions import condition, find, with_condition
from trimtab_operator.domain.dataset.children import KIND
from trimtab_operator.domain.events import Event, transitions
from trimtab_operator.domain.images import Image
from trimtab_operator.domain.observation import POD_TROUBLES

READY: Final = "Ready"
WARNINGS: Final = frozenset(
    {
        *POD_TROUBLES,
        DatasetReason.CIRCULAR,
        DatasetReason.RAY_NOT_ENABLED,
        DatasetReason.RESULT_MISSING,
        DatasetReason.REFUSED,
        DatasetReason.NOT_ALLOWED,
        DatasetReason.NAME_TAKEN,
    }
)


class Scribe:
    """Writes one status; every method returns a new one. It knows the object and the time."""

    def __init__(self, dataset: Dataset, now: datetime) -> None:
        self._dataset = dataset
        self._now = now

    def begun(self, status: DatasetStatus) -> DatasetStatus:
        """As a new generation finds it: nothing of an earlier preparation counts any more.

        A request from before asks for nothing that is not done anyway.
        """
        if status.observed_generation == self._dataset.metadata.generation:
            return status
        changes = {
            "attempt": 0,
            "held_out": [],
            "retry": retry_request(self._dataset) or status.retry,
        }
        return self._being_prepared(status.model_copy(update=changes))

    def again(self, status: DatasetStatus, request: str | None) -> DatasetStatus:
        """A new attempt at the same generation."""
        changes = {
            "attempt": status.attempt + 1,
            "held_out": [],
            "retry": request or status.retry,
        }
        return self._being_prepared(status.model_copy(update=changes))

    def waiting(self, status: DatasetStatus, reason: str, message: str) -> DatasetStatus:
        """No verdict yet, and why."""
        return self._with(status, None, reason, message)

    def preparing(self, status: DatasetStatus, held_out: Sequence[HeldOutData]) -> DatasetStatus:
        """A pod is at work, on references that are frozen from now on."""
        return self._being_prepared(status.model_copy(update={"held_out": list(held_out)}))

    def prepared(self, status: DatasetStatus, result: PrepareResult, image: Image) -> DatasetStatus:
        """The data is there."""
        if result.data is None:
            return status
        records = result.records or PreparedRecords()
        changes = {
            "digest": result.data.digest,
            "artifact": result.data.uri,
            "report": result.report,
            "recording": result.recording,
            "task": self._dataset.spec.task,
            "records": records,
            "prepared_generation": self._dataset.metadata.generation,
            "image": image.reference,
            "image_digest": image.digest,
        }
        message = (
            f"{records.kept} of {records.read} records are kept: {records.train} to train on, "
            f"{records.validation} to validate, {records.test} to test"
        )
        done = status.model_copy(update=changes)
        return self._with(done, True, DatasetReason.READY, message)

    def failed(self, status: DatasetStatus, failure: Failure) -> DatasetStatus:
        """There will be no data, unless something changes."""
        return self._with(status, False, failure.reason, failure.message)

    def _being_prepared(self, status: DatasetStatus) -> DatasetStatus:
        message = "the data is being prepared"
        if status.artifact:
            message += f"; status.artifact is that of generation {status.prepared_generation}"
        return self.waiting(status, DatasetReason.PREPARING, message)

    def _with(
        self, status: DatasetStatus, holds: bool | None, reason: str, message: str
    ) -> DatasetStatus:
        generation = self._dataset.metadata.generation
        new = condition(READY, holds, reason, message, generation=generation, now=self._now)
        changes = {
            "conditions": with_condition(status.conditions, new),
            "observed_generation": generation,
        }
        return status.model_copy(update=changes)


def readiness(dataset: Dataset) -> Condition | None:
    """What is said of the present generation, if anything."""
    ready = find(dataset.status.conditions, READY)
    if ready is None or ready.observed_generation != dataset.metadata.generation:
        return None
    return ready


def has_verdict(dataset: Dataset) -> bool:
    """Whether the present generation is prepared or was given up.

    A circle is none: another Dataset can break it, and this one need not change for that.
    """
    ready = readiness(dataset)
    if ready is None or ready.reason == DatasetReason.CIRCULAR:
        return False
    return ready.status is not ConditionStatus.UNKNOWN


def attempt_of(dataset: Dataset) -> int:
    """Which attempt at the present generation it is."""
    status = dataset.status
    return status.attempt if status.observed_generation == dataset.metadata.generation else 0


def retry_request(dataset: Dataset) -> str | None:
    """A request to prepare it again that has not been served yet."""
    asked = dataset.metadata.annotations.get(ANNOTATION_RETRY)
    return asked if asked and asked != dataset.status.retry else None


def events(dataset: Dataset, after: DatasetStatus) -> tuple[Event, ...]:
    """What is worth telling."""
    occasion = str(after.attempt)
    return tuple(transitions(KIND, dataset, after.conditions, warnings=WARNINGS, occasion=occasion))
