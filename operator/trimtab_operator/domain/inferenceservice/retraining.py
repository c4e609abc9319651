"""From drift to a FineTuneJob: whether one is made now, which one, and what it may cost.

What must never happen: two jobs for one drift, a job after another while the first has not ended,
a job that nobody has paid for, a job that somebody has deleted and that comes back. Hence the
decision is an entry of status with all names in it, written before anything is made; names derive
from when the drift began; and an entry is carried out once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, InferenceService
from trimtab_api.v1alpha1.common import LONGEST_SPAN
from trimtab_api.v1alpha1.data import MOST_SOURCES, DatasetTask
from trimtab_api.v1alpha1.dataset import DatasetSpec
from trimtab_api.v1alpha1.drift import (
    MOST_RETRAININGS,
    DriftStatus,
    OnDrift,
    Retrain,
    RetrainingState,
    RetrainingStatus,
)
from trimtab_operator.domain.conditions import find, is_true, moment_of, timestamp
from trimtab_operator.domain.inferenceservice.drift import Watched
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import fitted, short_hash

JOB_NAME_LENGTH: Final = 52
_SECONDS_IN_HOUR: Final = 3600
# With less left a job could not even begin.
_LEAST_GPU_HOURS: Final = 0.1


@dataclass(frozen=True)
class Materials:
    """What a retraining is made of, as far as it is there."""

    template: FineTuneJob | None = None
    dataset: Dataset | None = None  # that the template names
    jobs: Mapping[str, FineTuneJob] = field(default_factory=dict)
    prepared: Mapping[str, Dataset] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One model with drift, and what there is to retrain it."""

    service: InferenceService
    watched: Watched
    retrain: Retrain
    status: DriftStatus
    materials: Materials
    now: datetime

    @property
    def runs_by_itself(self) -> bool:
        """Whether nobody is asked."""
        return self.watched.drift.on_drift is OnDrift.RETRAIN

    @property
    def correlation(self) -> str:
        """The same for all that follows from this drift, however often it is looked at."""
        return "drift-" + short_hash(
            self.service.metadata.uid,
            self.watched.model.name,
            self.watched.digest,
            self.status.since or "",
        )


Check = Callable[[Case], str | None]


def unfinished(case: Case) -> str | None:
    for entry in case.status.retrainings:
        job = case.materials.jobs.get(entry.job)
        if entry.state is RetrainingState.DECIDED or (job is not None and not has_ended(job)):
            return f"FineTuneJob {entry.job} has not ended: let it run, or delete it"
    return None


def cooling_down(case: Case) -> str | None:
    last = _latest(case.status.retrainings)
    if last is None:
        return None
    until = last + timedelta(seconds=case.retrain.cooldown_seconds)
    return f"retrain.cooldownSeconds lasts until {timestamp(until)}" if case.now < until else None


def jobs_spent(case: Case) -> str | None:
    if not case.runs_by_itself:
        return None
    spent, allowed = len(_paid(case)), case.retrain.budget.jobs
    return f"retrain.budget.jobs is spent: {spent} of {allowed}" if spent >= allowed else None


def gpu_hours_spent(case: Case) -> str | None:
    template, left = case.materials.template, gpu_hours_left(case)
    if left is None or template is None or not template.spec.resources.gpus:
        return None
    if left >= _LEAST_GPU_HOURS:
        return None
    return (
        f"retrain.budget.gpuHours is spent: {left:.2f} of {case.retrain.budget.gpu_hours} are left"
    )


def template_missing(case: Case) -> str | None:
    name = case.retrain.template.name
    if case.materials.template is None:
        return f"there is no FineTuneJob {name} in this namespace, which retrain.template names"
    return None


def other_model(case: Case) -> str | None:
    template, followed = case.materials.template, case.watched.model.version.latest_of
    if template is None or followed is None or template.spec.output.model == followed:
        return None
    return (
        f"FineTuneJob {template.metadata.name} makes versions of {template.spec.output.model}, and "
        f"{case.watched.model.name} is the latest of {followed}: name another in retrain.template"
    )


def dataset_missing(case: Case) -> str | None:
    template = case.materials.template
    name = template.spec.dataset.name if template else None
    if name and case.materials.dataset is None:
        return f"there is no Dataset {name} in this namespace, which the template learns from"
    return None


def data_without_end(case: Case) -> str | None:
    """Whether there is anything new to learn shows in a Dataset's digest, before a GPU is asked for."""
    template = case.materials.template
    if not case.runs_by_itself or template is None or template.spec.dataset.name:
        return None
    return (
        f"FineTuneJob {template.metadata.name} describes its data itself; onDrift: Retrain takes a "
        "Dataset, of which it can tell whether there is anything new to learn"
    )


CHECKS: Final[tuple[Check, ...]] = (
    unfinished,
    cooling_down,
    jobs_spent,
    template_missing,
    other_model,
    dataset_missing,
    gpu_hours_spent,
    data_without_end,
)


def obstacle(case: Case) -> str | None:
    """Why no job is made now; None where nothing is in the way."""
    return next((why for check in CHECKS if (why := check(case))), None)


def decided(case: Case) -> DriftStatus:
    """The status with what follows from the drift: an entry to be carried out, or why there is none."""
    known = next((e for e in case.status.retrainings if e.correlation == case.correlation), None)
    if known is not None:
        is_waiting = known.state is RetrainingState.DECIDED
        if is_waiting and case.watched.drift.dry_run:
            plan = f"dryRun: FineTuneJob {known.job} was decided upon before, and is not made"
            return case.status.model_copy(update={"plan": plan})
        waits = is_waiting and case.status.plan
        return case.status.model_copy(update={"plan": waits or told(known)})
    why = obstacle(case)
    if why is not None:
        return case.status.model_copy(update={"plan": f"no job is made: {why}"[:512]})
    entry = _entry(case)
    if case.watched.drift.dry_run:
        verb = "run" if case.runs_by_itself else "be proposed"
        plan = f"dryRun: FineTuneJob {entry.job} would {verb}"
        return case.status.model_copy(update={"plan": plan})
    entries = [*case.status.retrainings, entry]
    return case.status.model_copy(update={"retrainings": entries, "plan": told(entry)})


def _entry(case: Case) -> RetrainingStatus:
    template = case.materials.template
    called = fitted(f"{case.watched.model.name}-{case.correlation}", JOB_NAME_LENGTH)
    return RetrainingStatus(
        correlation=case.correlation,
        version=case.watched.version.metadata.name,
        job=called,
        dataset=called if template and template.spec.dataset.name else None,
        time=timestamp(case.now),
        proposed=not case.runs_by_itself,
        gpu_hours=_booked(case) if case.runs_by_itself else 0.0,
    )


def told(entry: RetrainingStatus) -> str:
    if entry.state is RetrainingState.DROPPED:
        return f"FineTuneJob {entry.job} was not made: there is nothing new to learn from"
    if entry.proposed:
        return f"FineTuneJob {entry.job} is proposed: set its spec.suspend to false to let it run"
    return f"FineTuneJob {entry.job} trains a successor"


# --- the budget ----------------------------------------------------------------------------------


def has_ended(job: FineTuneJob) -> bool:
    """Whether it has made its version or was given up."""
    conditions = job.status.conditions
    return is_true(conditions, "Complete") or is_true(conditions, "Failed")


def gpu_hours_left(case: Case) -> float | None:
    """What may still be booked in this period; None without a limit."""
    allowed = case.retrain.budget.gpu_hours
    if allowed is None:
        return None
    return allowed - sum(entry.gpu_hours for entry in _paid(case))


def deadline(case: Case, entry: RetrainingStatus) -> int | None:
    """activeDeadlineSeconds of the job: the template's, and no more than what was booked."""
    template = case.materials.template
    own = template.spec.active_deadline_seconds if template else None
    gpus = template.spec.resources.gpus if template else 0
    if entry.proposed or not gpus or case.retrain.budget.gpu_hours is None:
        return own
    booked = max(1, int(entry.gpu_hours * _SECONDS_IN_HOUR / gpus))
    return min(booked, own or LONGEST_SPAN)


def settled(
    status: DriftStatus, retrain: Retrain | None, jobs: Mapping[str, FineTuneJob], now: datetime
) -> DriftStatus:
    """What jobs have really taken, once they have ended; and no entries that nothing rests on."""
    entries = [_paid_off(entry, jobs.get(entry.job)) for entry in status.retrainings]
    span = max(retrain.budget.period_seconds, retrain.cooldown_seconds) if retrain else 0
    kept = [
        entry
        for entry in entries
        if entry is entries[-1]  # cooldown and plan rest on it
        or now - (moment_of(entry.time) or now) < timedelta(seconds=span)
        or (entry.job in jobs and not has_ended(jobs[entry.job]))
    ]
    kept = kept[-MOST_RETRAININGS:]
    return status if kept == status.retrainings else status.model_copy(update={"retrainings": kept})


def _paid_off(entry: RetrainingStatus, job: FineTuneJob | None) -> RetrainingStatus:
    if job is None or entry.proposed or not has_ended(job):
        return entry  # of a job that was deleted, nobody knows: it stays booked as it was
    began, ended = moment_of(job.status.start_time), moment_of(job.status.completion_time)
    if began is None or ended is None:
        return entry
    hours = max((ended - began).total_seconds(), 0.0) / _SECONDS_IN_HOUR
    return entry.model_copy(update={"gpu_hours": round(hours * job.spec.resources.gpus, 2)})


def _booked(case: Case) -> float:
    template, left = case.materials.template, gpu_hours_left(case)
    if template is None or not template.spec.resources.gpus:
        return 0.0
    own = template.spec.active_deadline_seconds
    wanted = own * template.spec.resources.gpus / _SECONDS_IN_HOUR if own else None
    limits = [each for each in (wanted, left) if each is not None]
    return round(min(limits), 2) if limits else 0.0


def _paid(case: Case) -> list[RetrainingStatus]:
    """What this period's budget has paid for."""
    period = timedelta(seconds=case.retrain.budget.period_seconds)
    return [
        entry
        for entry in case.status.retrainings
        if not entry.proposed
        and entry.state is not RetrainingState.DROPPED
        and case.now - (moment_of(entry.time) or case.now) < period
    ]


def _latest(entries: Sequence[RetrainingStatus]) -> datetime | None:
    return max((m for entry in entries if (m := moment_of(entry.time))), default=None)


# --- what is made --------------------------------------------------------------------------------


def waits_for_data(case: Case, entry: RetrainingStatus) -> str | None:
    """Why the job cannot be made yet. What is proposed waits for nothing: it is suspended anyway."""
    if entry.proposed or entry.dataset is None:
        return None
    dataset = case.materials.prepared.get(entry.dataset)
    if dataset is None:
        return f"Dataset {entry.dataset} is being made"
    if is_true(dataset.status.conditions, "Ready"):
        return None
    ready = find(dataset.status.conditions, "Ready")
    why = f": {ready.message}" if ready and ready.message else ""
    return f"Dataset {entry.dataset} is not Ready{why}"


def is_nothing_new(case: Case, entry: RetrainingStatus) -> bool:
    """Whether the same data would make the same model, at a price."""
    dataset = case.materials.prepared.get(entry.dataset or "")
    lineage = case.watched.version.spec.lineage
    known = lineage.dataset.digest if lineage.dataset else None
    if entry.proposed or dataset is None or known is None:
        return False
    return dataset.status.digest == known


def dataset(case: Case, entry: RetrainingStatus) -> Manifest | None:
    """The template's data, read anew, and what was captured; what is held out there is not learned here."""
    source = case.materials.dataset
    if source is None or entry.dataset is None:
        return None
    spec = source.spec.to_wire()
    spec["sources"] = [*spec["sources"], *_captured(case, source.spec)]  # type: ignore[misc]
    against = {"dataset": {"name": source.metadata.name}}
    leakage = spec.get("leakage") or {"against": [], "action": "Drop"}
    listed = list(leakage["against"])  # type: ignore[index]
    if against not in listed and len(listed) < _MOST_AGAINST:
        listed.append(against)
    spec["leakage"] = {**leakage, "against": listed}  # type: ignore[dict-item]
    return _made(case, entry, "Dataset", entry.dataset, spec)


_MOST_AGAINST: Final = 16


def _captured(case: Case, data: DatasetSpec) -> list[dict[str, str]]:
    """What the gateways kept, as one more source.

    It has the columns that the Dataset names and no others, so that templates cannot be filled from it,
    and it holds no text that a teacher could ask about.
    """
    uri = f"{names.CAPTURE}://{case.service.metadata.name}"
    is_kept = case.service.spec.gateway.capture is not None
    is_of_records = data.task is not DatasetTask.TEXT and data.synthetic is None
    is_new = all(each.uri != uri for each in data.sources) and len(data.sources) < MOST_SOURCES
    return [{"uri": uri}] if is_kept and is_of_records and data.templates is None and is_new else []


def job(case: Case, entry: RetrainingStatus) -> Manifest | None:
    """The template's job, with the data of now."""
    template = case.materials.template
    if template is None:
        return None
    spec = template.spec.to_wire()
    spec["suspend"] = entry.proposed
    if entry.dataset is not None:
        spec["dataset"] = {"name": entry.dataset}
    limit = deadline(case, entry)
    if limit is not None:
        spec["activeDeadlineSeconds"] = limit
    return _made(case, entry, "FineTuneJob", entry.job, spec)


def _made(
    case: Case, entry: RetrainingStatus, kind: str, called: str, spec: dict[str, object]
) -> Manifest:
    template = case.materials.template
    queue = template.metadata.labels.get(names.LABEL_KUEUE_QUEUE) if template else None
    labels = {
        names.LABEL_CORRELATION: entry.correlation,
        names.LABEL_SERVICE: case.service.metadata.name,
        **({names.LABEL_KUEUE_QUEUE: queue} if queue else {}),
    }
    why = f"{case.watched.model.name}: {case.status.message}"
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {
            "name": called,
            "namespace": case.service.metadata.namespace,
            "labels": labels,
            "annotations": {names.ANNOTATION_REASON: why[:512]},
        },
        "spec": spec,
    }
