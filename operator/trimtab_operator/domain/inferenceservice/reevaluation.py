"""The version that answers, evaluated again by a schedule, and its figures held against those of registration.

    Waiting --due--> Decided --Job made--> Running --> Done | Failed --due--> Decided ...

What must never happen: two at once in a service, one that nobody has budgeted, a Job that somebody has
deleted and that comes back, a version called worse by chance because it is looked at for years. So a
run is written down before its Job is made, names derive from when it was decided, and the level is spent: the
k-th run of a version has 6 / (pi k)^2 of it, shared among its figures, which is the level in all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any, Final

from trimtab_api import names
from trimtab_api.documents import EvaluationResult, EvaluationRun
from trimtab_api.documents.common import Stored
from trimtab_api.reasons import DriftReason
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.drift import DriftStatus
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.evaluation import LESS_IS_BETTER, Metric
from trimtab_api.v1alpha1.reevaluation import (
    FigureThenAndNow,
    Reevaluate,
    ReevaluationState,
    ReevaluationStatus,
)
from trimtab_operator.domain.conditions import moment_of, timestamp
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import children as children_of
from trimtab_operator.domain.inferenceservice.drift import Watched
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.modelversion import evaluation
from trimtab_operator.domain.modelversion.base import ResolvedBase
from trimtab_operator.domain.naming import child_name, digest_of, result_tag, short_hash
from trimtab_operator.domain.observation import JobState, failure_of
from trimtab_operator.settings import Settings

KIND: Final = children_of.KIND
SIGNAL: Final = "Reevaluation"
UNDER_WAY: Final = frozenset({ReevaluationState.DECIDED, ReevaluationState.RUNNING})
_OVER: Final = frozenset({ReevaluationState.DONE, ReevaluationState.FAILED})
# An interval of 95 % reaches so many standard deviations to either side.
_REACH: Final = NormalDist().inv_cdf(0.975)
_MESSAGE_LENGTH: Final = 512


@dataclass(frozen=True)
class Seen:
    """What there is of a run: its Job, its pods, and its result, once it has one."""

    job: Manifest | None = None
    pods: Sequence[Manifest] = field(default_factory=tuple)
    result: EvaluationResult | None = None
    fault: Finding | None = None


@dataclass(frozen=True)
class Task:
    """What a run asks, and of whom."""

    service: InferenceService
    watched: Watched
    wished: Reevaluate
    base: ResolvedBase | None
    data_uri: str | None


def turned(
    task: Task | Finding,
    watched: Watched,
    before: ReevaluationStatus | None,
    seen: Seen,
    now: datetime,
    *,
    is_busy: bool,
) -> ReevaluationStatus | None:
    """How far the version's evaluation is; None where none is asked for. `is_busy`: another one runs."""
    wished = watched.drift.reevaluate
    if wished is None:
        return None
    artifact = watched.version.spec.artifact.digest
    if before is None or (before.version, before.digest) != (_name(watched), artifact):
        return ReevaluationStatus(version=_name(watched), digest=artifact, time=timestamp(now))
    if before.state is ReevaluationState.RUNNING:
        return _ended(watched.version, wished, before, seen, now)
    if before.state is ReevaluationState.DECIDED or is_busy or now < due(before, wished):
        return before
    if isinstance(task, Finding):
        if task.is_unknown:  # what is missing may come
            return before
        return _failed(before, task.message, now)
    changes = {
        "number": before.number + 1,
        "state": ReevaluationState.DECIDED,
        "time": timestamp(now),
        "job": job_name(task, timestamp(now)),
        "data": task.data_uri,
        "message": "its Job is being made",
    }
    return before.model_copy(update=changes)


def due(status: ReevaluationStatus, wished: Reevaluate) -> datetime:
    """When the next one begins. A moment that cannot be read has been long ago."""
    since = moment_of(status.time) or datetime.fromtimestamp(0, UTC)
    return since + timedelta(seconds=wished.every_seconds)


def running(status: ReevaluationStatus) -> ReevaluationStatus:
    """Its Job was made; from now on nobody makes it again."""
    changes = {"state": ReevaluationState.RUNNING, "message": "its Job is at work"}
    return status.model_copy(update=changes)


def is_news(before: ReevaluationStatus | None, after: ReevaluationStatus | None) -> bool:
    """Whether a run has come to its end."""
    return (
        after is not None
        and after.state in _OVER
        and (before is None or (before.number, before.state) != (after.number, after.state))
    )


def overlaid(drift: DriftStatus, quality: ReevaluationStatus | None) -> DriftStatus:
    """The drift with what the evaluation says: a version that has become worse has drifted."""
    drift = drift.model_copy(update={"reevaluation": quality})
    is_of_it = quality is not None and quality.version == drift.version
    if quality is None or not (is_of_it and quality.is_worse):
        return drift
    if drift.reason == DriftReason.DRIFTING and drift.signal != SIGNAL:
        return drift  # the traffic has moved as well, and has numbers of its own
    changes: dict[str, Any] = {
        "reason": DriftReason.DRIFTING.value,
        "message": quality.message,
        "signal": SIGNAL,
        "since": quality.worse_since,
        "psi": None,
        "log_evidence": None,
        "alarm_at": None,
        "moved": [],
    }
    return drift.model_copy(update=changes)


# --- the figures ---------------------------------------------------------------------------------


def figures(
    version: ModelVersion, wished: Reevaluate, number: int, found: Sequence[MetricValue]
) -> list[FigureThenAndNow]:
    """Each figure that was measured both times, with its interval, and the chance of its loss."""
    told = version.status.evaluation.metrics if version.status.evaluation else []
    now = {each.metric: each for each in found}
    pairs = [(then, now[then.metric]) for then in told if then.metric in now]
    known = [(then, later) for then, later in pairs if _has_interval(then) and _has_interval(later)]
    if not known:
        return []
    level = wished.false_alarm_rate * 6 / (math.pi * number) ** 2 / len(known)
    return [_figure(then, later, wished.margin, level) for then, later in known]


def _has_interval(value: MetricValue) -> bool:
    return value.low is not None and value.high is not None


def _figure(then: MetricValue, now: MetricValue, margin: float, level: float) -> FigureThenAndNow:
    """Both figures are taken for independent: on the same examples that errs to the side of calm."""
    unit = abs(then.value) if then.metric is Metric.PERPLEXITY and then.value else 1.0
    change = (now.value - then.value) / unit
    loss = change if then.metric in LESS_IS_BETTER else -change
    spread = math.hypot(_deviation(then), _deviation(now)) / unit
    if spread > 0:
        chance = 1 - NormalDist().cdf((loss - margin) / spread)
    else:
        chance = 0.0 if loss > margin else 1.0
    return FigureThenAndNow(
        metric=then.metric,
        before=then.value,
        now=now.value,
        loss=round(loss, 6),
        chance=round(chance, 9),
        alarm_at=round(level, 9),
    )


def _deviation(value: MetricValue) -> float:
    return ((value.high or 0.0) - (value.low or 0.0)) / (2 * _REACH)


# --- how a run ends ------------------------------------------------------------------------------


def _ended(
    version: ModelVersion,
    wished: Reevaluate,
    before: ReevaluationStatus,
    seen: Seen,
    now: datetime,
) -> ReevaluationStatus:
    if seen.result is not None:
        return _done(version, wished, before, seen.result, now)
    if seen.fault is not None and seen.fault.is_unknown:
        return before.model_copy(update={"message": seen.fault.message[:_MESSAGE_LENGTH]})
    if seen.job is None:
        return _failed(before, f"Job {before.job} is gone and has left no result", now)
    job = JobState(seen.job)
    if not job.is_finished:
        return before
    if job.is_complete:
        return _failed(before, f"Job {before.job} has left no result", now)
    failure = failure_of(job, seen.pods, EvaluationResult)
    return _failed(before, f"{failure.reason}: {failure.message}", now)


def _done(
    version: ModelVersion,
    wished: Reevaluate,
    before: ReevaluationStatus,
    result: EvaluationResult,
    now: datetime,
) -> ReevaluationStatus:
    if result.failure is not None:
        return _failed(before, f"{result.failure.reason}: {result.failure.message}", now)
    found = figures(version, wished, before.number, result.metrics)
    if not found:
        return _failed(before, "no figure was measured both then and now, with its interval", now)
    worse = [each for each in found if each.chance <= each.alarm_at]
    since = (before.worse_since or timestamp(now)) if worse else None
    changes = {
        "state": ReevaluationState.DONE,
        "time": timestamp(now),
        "report": result.report_uri,
        "figures": found,
        "is_worse": bool(worse),
        "worse_since": since,
        "message": _told(found, worse)[:_MESSAGE_LENGTH],
    }
    return before.model_copy(update=changes)


def _told(found: Sequence[FigureThenAndNow], worse: Sequence[FigureThenAndNow]) -> str:
    if not worse:
        return f"{len(found)} figures are as they were when the version was registered"
    listed = ", ".join(f"{w.metric} {w.before:.4g} to {w.now:.4g}" for w in worse)
    return f"the version has become worse since it was registered: {listed}"


def _failed(before: ReevaluationStatus, why: str, now: datetime) -> ReevaluationStatus:
    """Nothing was found out: what was known of the figures stays."""
    changes = {
        "state": ReevaluationState.FAILED,
        "time": timestamp(now),
        "message": why[:_MESSAGE_LENGTH],
    }
    return before.model_copy(update=changes)


# --- what is made --------------------------------------------------------------------------------


def job_name(task: Task, decided: str) -> str:
    """One name per service, model, content and run: a version that comes back counts its runs from one again."""
    service = task.service.metadata
    inputs = (service.uid, task.watched.model.name, task.watched.digest, decided)
    return child_name(service.name, names.EVALUATE, *inputs)


def children(task: Task, status: ReevaluationStatus, settings: Settings) -> list[Manifest]:
    """The task's ConfigMap and the Job, of the service: the version's own evaluation stays what it was."""
    version = task.watched.version
    return evaluation.task(
        KIND,
        task.service,
        version,
        status.job or job_name(task, status.time),
        document(task, status, settings),
        settings,
        image=settings.images.pipelines,
        seconds=task.wished.deadline_seconds,
    )


def document(task: Task, status: ReevaluationStatus, settings: Settings) -> EvaluationRun:
    """As at registration, but for the data that is named, and against nobody."""
    run = evaluation.run_document(task.watched.version, task.base, None, settings)
    data = status.data
    output = run.output.model_copy(update={"result_tag": tag(task.service, task.watched, status)})
    stored = Stored(uri=data, digest=digest_of(data)) if data else None
    return run.model_copy(update={"data": stored, "output": output})


def tag(service: InferenceService, watched: Watched, status: ReevaluationStatus) -> str:
    """Under which the pod leaves its result; what an earlier run has left must not count as this one's."""
    who = short_hash(service.metadata.uid, watched.model.name, status.time)
    return result_tag(watched.version.metadata.uid, f"again-{who}", status.number)


def result_uri(
    service: InferenceService, watched: Watched, status: ReevaluationStatus, settings: Settings
) -> str:
    """Address of the result document."""
    repository = evaluation.repository(watched.version, settings)
    return f"oci://{repository}:{tag(service, watched, status)}"


def _name(watched: Watched) -> str:
    return watched.version.metadata.name
