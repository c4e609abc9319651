"""What has happened to a service, one entry for each decision or verdict, from objects of the API.

Most of it stands in two or three places: a rollback in status, in the quarantine and in an Event.
Status has the figures, Decisions outlive everything, Events have what status has forgotten; so in this
order the same story is told once, by whoever tells it best.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from trimtab_api import names
from trimtab_api.reasons import DriftReason, RolloutReason, ServiceReason
from trimtab_api.v1alpha1 import Decision, FineTuneJob, InferenceService, ModelVersion
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.drift import DriftStatus, RetrainingState
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.rollout import MetricEvidence
from trimtab_operator.domain.conditions import find, is_true, moment_of
from trimtab_operator.domain.inferenceservice.pools import named_models
from trimtab_operator.domain.inferenceservice.reevaluation import SIGNAL as REEVALUATION
from trimtab_operator.domain.inferenceservice.rollouts import DRIFT, ROLLOUT, quarantined_for
from trimtab_operator.domain.manifests import Manifest, get

OPERATOR: Final = "Trimtab"
# Tellers of one story may be so far apart.
_SAME_STORY: Final = timedelta(minutes=2)


class What(StrEnum):
    """The kinds of entries, in the order in which a page shows them."""

    ROLLOUT = "Rollout"
    PROMOTION = "Promotion"
    ROLLBACK = "Rollback"
    DECISION = "Decision"
    DRIFT = "Drift"
    RETRAINING = "Retraining"
    VERSION = "Version"


@dataclass(frozen=True)
class Entry:
    """One thing that happened."""

    time: datetime
    what: What
    title: str
    by: str = OPERATOR
    why: str = ""
    # The public name and the version or job that it is about, where it is about one.
    model: str = ""
    subject: str = ""
    evidence: tuple[MetricEvidence, ...] = ()
    query: str = ""


@dataclass(frozen=True)
class Sources:
    """Everything that a history is made of."""

    service: InferenceService
    versions: Sequence[ModelVersion] = ()
    decisions: Sequence[Decision] = ()
    jobs: Sequence[FineTuneJob] = ()
    events: Sequence[Manifest] = ()


def entries(sources: Sources) -> tuple[Entry, ...]:
    """All that is known, the latest first."""
    told = (
        *_of_status(sources),
        *_of_decisions(sources),
        *_of_versions(sources),
        *_of_events(sources),
    )
    kept: list[Entry] = []
    for entry in told:
        if not any(_is_same(entry, other) for other in kept):
            kept.append(entry)
    return tuple(sorted(kept, key=lambda entry: (entry.time, entry.title), reverse=True))


def _is_same(one: Entry, other: Entry) -> bool:
    same = (one.what, one.model, one.subject) == (other.what, other.model, other.subject)
    is_told_again = one.title == other.title or one.what in {What.ROLLBACK, What.PROMOTION}
    return same and is_told_again and abs(one.time - other.time) <= _SAME_STORY


def concerned(service: InferenceService, versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    """The versions that the service names, has named, or follows."""
    followed = {m.version.latest_of for m in service.spec.models if m.version.latest_of}
    named = {m.version.name for m in service.spec.models if m.version.name}
    if service.spec.base_model.model_version is not None:
        named.add(service.spec.base_model.model_version.name)
    for model in service.status.models:
        named |= {name for name in (model.active_version, model.candidate_version) if name}
        if model.rollout is not None:
            named |= {model.rollout.stable, model.rollout.candidate}
        if model.last_rollback is not None:
            named |= {model.last_rollback.from_version, model.last_rollback.to_version}
    found = [v for v in versions if v.metadata.name in named or v.spec.model in followed]
    return sorted(found, key=lambda v: (v.metadata.creation_timestamp or "", v.metadata.name))


# --- status ---------------------------------------------------------------------------------------


def _of_status(sources: Sources) -> Iterator[Entry]:
    jobs = {job.metadata.name: job for job in sources.jobs}
    for model in sources.service.status.models:
        yield from _rollout(model)
        yield from _rollback(model)
        if model.drift is not None:
            yield from _drift(model.name, model.drift, jobs)


def _rollout(model: ServedModelStatus) -> Iterator[Entry]:
    status = model.rollout
    if status is None:
        return
    about: dict[str, Any] = {"model": model.name, "subject": status.candidate}
    if (since := moment_of(status.since)) is not None:
        title = f"{status.candidate} got its first share beside {status.stable}"
        yield Entry(since, What.ROLLOUT, title, **about)
    if status.step > 1 and (since := moment_of(status.step_since)) is not None:
        yield Entry(
            since, What.ROLLOUT, f"{status.candidate} went on to step {status.step}", **about
        )
    if (promoted := moment_of(status.promoted)) is not None:
        title = f"{status.candidate} got all requests"
        figures = tuple(status.metrics)
        yield Entry(promoted, What.PROMOTION, title, evidence=figures, **about)


def _rollback(model: ServedModelStatus) -> Iterator[Entry]:
    last = model.last_rollback
    if last is None or (time := moment_of(last.time)) is None:
        return
    took = "" if last.duration_ms is None else f", {last.duration_ms} ms after the decision"
    kept = f"; its digest is quarantined by Decision {last.decision}" if last.decision else ""
    yield Entry(
        time,
        What.ROLLBACK,
        f"{last.from_version} was rolled back to {last.to_version}{took}",
        why=f"{last.reason}: {last.message}{kept}",
        model=model.name,
        subject=last.from_version,
        evidence=tuple(last.evidence),
        query=last.query or "",
    )


def _drift(model: str, status: DriftStatus, jobs: Mapping[str, FineTuneJob]) -> Iterator[Entry]:
    since = moment_of(status.since)
    if status.reason == DriftReason.DRIFTING and since is not None:
        is_quality = status.signal == REEVALUATION
        moved = f"the traffic of {status.version} has moved since then"
        title = f"an evaluation has found {status.version} worse" if is_quality else moved
        yield Entry(since, What.DRIFT, title, why=status.message, model=model)
    for each in status.retrainings:
        time = moment_of(each.time)
        if time is None:
            continue
        word = {
            RetrainingState.DECIDED: "is to be made",
            RetrainingState.MADE: "was proposed" if each.proposed else "was started",
            RetrainingState.DROPPED: "was not made: there was nothing new to learn",
        }[each.state]
        made = each.state is RetrainingState.MADE
        why = (
            f"{each.version} had drifted; {_became(jobs.get(each.job)) if made else 'there is no job'}. "
            f"All that follows has the label {names.LABEL_CORRELATION}={each.correlation}"
        )
        title = f"FineTuneJob {each.job} {word}"
        yield Entry(time, What.RETRAINING, title, why=why, model=model, subject=each.job)


def _became(job: FineTuneJob | None) -> str:
    if job is None:
        return "the job is not there any more"
    if job.status.model_version:
        return f"the job has made {job.status.model_version}"
    if job.status.failure is not None:
        return f"the job has failed: {job.status.failure.message}"
    if job.spec.suspend:
        return "the job is suspended, for somebody to let it run"
    return "the job has not ended yet"


# --- decisions ------------------------------------------------------------------------------------


def _of_decisions(sources: Sources) -> Iterator[Entry]:
    service = sources.service
    known = {v.metadata.name for v in sources.versions}
    done = {m.last_rollback.decision for m in service.status.models if m.last_rollback}
    seen = set[str]()
    for each in sources.decisions:
        target = each.spec.target
        is_mine = target.kind == "InferenceService" and target.name == service.metadata.name
        time = moment_of(each.metadata.creation_timestamp)
        if time is None or not (
            is_mine or (target.kind == "ModelVersion" and target.name in known)
        ):
            continue
        seen.add(each.metadata.uid)
        if each.metadata.name not in done:
            yield _decision(each, service, time)
    yield from _forgotten(service, seen)


def _decision(decision: Decision, service: InferenceService, time: datetime) -> Entry:
    target, reason = decision.spec.target, decision.spec.reason
    causes = {
        quarantined_for(service, model.name, what): model.name
        for model in named_models(service)
        for what in (ROLLOUT, DRIFT)
    }
    cause = next((each for each in causes if reason.startswith(each)), None)
    if decision.spec.action is Action.QUARANTINE and cause is not None:
        of, why = causes[cause], reason.removeprefix(cause)
        title = f"{target.name} was rolled back and quarantined"
        return Entry(time, What.ROLLBACK, title, why=why, model=of, subject=target.name)
    effective = find(decision.status.conditions, "Effective")
    lacks = effective is not None and not is_true(decision.status.conditions, "Effective")
    note = f" ({effective.reason}: {effective.message})" if lacks and effective else ""
    about = target.model or target.name
    title = f"{decision.spec.action} of {about}"
    by = decision.spec.by
    return Entry(time, What.DECISION, title, by, reason + note, target.model or "", target.name)


def _forgotten(service: InferenceService, seen: set[str]) -> Iterator[Entry]:
    """What the service remembers of Decisions that are not there any more."""
    for model in service.status.models:
        for each in model.decisions:
            time = moment_of(each.time)
            if time is None or each.uid in seen:
                continue
            why = f"{each.reason} (Decision {each.decision} was deleted, and counts all the same)"
            title = f"{each.action} of {model.name}"
            yield Entry(time, What.DECISION, title, each.by, why, model.name, each.decision)


# --- versions -------------------------------------------------------------------------------------


def _of_versions(sources: Sources) -> Iterator[Entry]:
    models = {m.version.latest_of: m.name for m in sources.service.spec.models}
    for version in sources.versions:
        time = moment_of(version.metadata.creation_timestamp)
        if time is None:
            continue
        yield Entry(
            time,
            What.VERSION,
            f"{version.metadata.name} came",
            by=_author(version),
            why=origin(version),
            model=models.get(version.spec.model, ""),
            subject=version.metadata.name,
        )


def _author(version: ModelVersion) -> str:
    """Who has made it; empty where that is not recorded."""
    made = next((p.author for p in version.status.producers if p.author), None)
    return made or version.metadata.annotations.get(names.ANNOTATION_AUTHOR, "")


def origin(version: ModelVersion) -> str:
    """What a version was made of, in one sentence."""
    jobs = ", ".join(p.fine_tune_job for p in version.status.producers)
    data = version.spec.lineage.dataset
    parts = [f"made by FineTuneJob {jobs}" if jobs else "imported"]
    if data is not None:
        parts.append(f"from {data.name or 'data of its own'} ({data.digest[:19]}…)")
    if version.spec.lineage.parent:
        parts.append(f"after {version.spec.lineage.parent}")
    if correlation := version.metadata.labels.get(names.LABEL_CORRELATION):
        parts.append(f"for {correlation}")
    return " ".join(parts)


# --- Events ---------------------------------------------------------------------------------------

_TOLD: Final[Mapping[str, What]] = {
    RolloutReason.STARTED: What.ROLLOUT,
    RolloutReason.STEP_TAKEN: What.ROLLOUT,
    RolloutReason.ENDED: What.ROLLOUT,
    RolloutReason.DRY_RUN: What.ROLLOUT,
    RolloutReason.PROMOTED: What.PROMOTION,
    RolloutReason.ROLLED_BACK: What.ROLLBACK,
    ServiceReason.VERSION_ACTIVE: What.VERSION,
    DriftReason.DRIFTING: What.DRIFT,
    DriftReason.NO_DRIFT: What.DRIFT,
    DriftReason.REEVALUATED: What.DRIFT,
    DriftReason.NOT_REEVALUATED: What.DRIFT,
    DriftReason.PROPOSED: What.RETRAINING,
    DriftReason.RETRAINING: What.RETRAINING,
    DriftReason.NOT_RETRAINED: What.RETRAINING,
}


def _of_events(sources: Sources) -> Iterator[Entry]:
    correlations = {
        each.correlation
        for model in sources.service.status.models
        for each in (model.drift.retrainings if model.drift else ())
    }
    for event in sources.events:
        about = event.get("involvedObject") or {}
        time = _time(event)
        mine = (about.get("kind"), about.get("name")) == (
            "InferenceService",
            sources.service.metadata.name,
        )
        what = _TOLD.get(str(event.get("reason"))) if mine else None
        label = get(event, "metadata", "labels", default={}).get(names.LABEL_CORRELATION)
        if not mine and label is not None and label in correlations:
            what = What.RETRAINING
        if time is None or what is None:
            continue
        message = str(event.get("message") or "")
        if mine:
            models = {model.name for model in named_models(sources.service)}
            yield _event(message, models, time, what)
        else:
            subject = str(about.get("name") or "")
            title = f"{about.get('kind')} {subject}: {event.get('reason')}"
            yield Entry(time, what, title, why=message, subject=subject)


def _event(message: str, models: Collection[str], time: datetime, what: What) -> Entry:
    """Messages about one model begin with its name, most of them with a colon after it."""
    model, _, rest = message.partition(": ")
    if model not in models:
        first = message.split(" ", maxsplit=1)[0]
        return Entry(time, what, message, model=first if first in models else "")
    subject = rest.removeprefix("the rollout of ").removeprefix("FineTuneJob ").split(" ")[0]
    title, _, why = rest.partition(": ")
    return Entry(time, what, title, why=why, model=model, subject=subject.rstrip(":;,"))


def _time(event: Manifest) -> datetime | None:
    told = (event.get("lastTimestamp"), event.get("eventTime"), event.get("firstTimestamp"))
    created = get(event, "metadata", "creationTimestamp", default=None)
    return next((m for m in map(moment_of, (*told, created)) if m is not None), None)
