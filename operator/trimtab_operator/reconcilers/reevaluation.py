"""Evaluations by schedule of the versions that an InferenceService serves: see, decide; then make the Job.

`look` is a step before the status is written and `act` one after it, so that a run is written down
before its Job is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab_api import names
from trimtab_api.documents import EvaluationResult
from trimtab_api.reasons import DriftReason, FailureReason, VersionReason
from trimtab_api.v1alpha1 import Dataset, InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.reevaluation import ReevaluationState, ReevaluationStatus
from trimtab_operator.domain.dataset.inputs import not_ready
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactMissing,
    Forbidden,
    NameTaken,
    Refused,
)
from trimtab_operator.domain.events import Event, about
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import reevaluation as domain
from trimtab_operator.domain.inferenceservice.drift import Watched
from trimtab_operator.domain.inferenceservice.reevaluation import Seen, Task
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.modelversion import evaluation
from trimtab_operator.domain.modelversion.base import resolved
from trimtab_operator.domain.observation import JobState, document_of, parsed, pods_of
from trimtab_operator.reconcilers.ports import Cluster, World

Found = dict[str, ReevaluationStatus]


@dataclass(frozen=True)
class Looked:
    """How far each model's evaluation is, and what is new about it."""

    found: Found
    events: tuple[Event, ...] = ()


async def look(
    service: InferenceService,
    watched: Sequence[Watched],
    before: Mapping[str, ReevaluationStatus],
    world: World,
) -> Looked:
    """One step of each model that is evaluated by schedule, one run at a time among them."""
    asked = [each for each in watched if each.drift.reevaluate is not None]
    found: Found = {
        each.model.name: before[each.model.name] for each in asked if each.model.name in before
    }
    events = list[Event]()
    for each in asked:
        name = each.model.name
        is_busy = any(f.state in domain.UNDER_WAY for n, f in found.items() if n != name)
        known = found.get(name)
        seen = await _seen(service, each, known, world)
        task = _task(service, each, world.cluster)
        status = domain.turned(task, each, known, seen, world.clock.now(), is_busy=is_busy)
        if status is None:
            continue
        if domain.is_news(known, status):
            events.append(_event(service, name, status))
        found[name] = status
    await _tidy(service, found, world)
    return Looked(found, tuple(events))


async def act(service: InferenceService, world: World) -> InferenceService:
    """Make the Jobs that status says were decided on, each once; then say that they were made."""
    specs = {m.name: m for m in service.spec.models}
    models = list[ServedModelStatus]()
    for told in service.status.models:
        model, run = specs.get(told.name), told.drift.reevaluation if told.drift else None
        is_decided = run is not None and run.state is ReevaluationState.DECIDED
        if not is_decided or run is None or model is None or model.drift is None or not told.drift:
            models.append(told)
            continue
        version = world.cluster.get(ModelVersion, (service.metadata.namespace, run.version))
        made = run
        if version is not None:
            watched = Watched(model, model.drift, version)
            made = await _made(service, watched, run, world)
        drift = told.drift.model_copy(update={"reevaluation": made})
        models.append(told.model_copy(update={"drift": drift}))
    status = service.status.model_copy(update={"models": models})
    return await world.cluster.write_status(service, status)


async def _made(
    service: InferenceService, watched: Watched, run: ReevaluationStatus, world: World
) -> ReevaluationStatus:
    task = _task(service, watched, world.cluster)
    if isinstance(task, Finding):
        return run.model_copy(update={"message": task.message[:512]})
    try:
        for manifest in domain.children(task, run, world.settings):
            await world.cluster.create(manifest, service)
    except (Forbidden, NameTaken, Refused) as error:
        return run.model_copy(update={"message": f"its Job cannot be made: {error}"[:512]})
    return domain.running(run)


def _task(service: InferenceService, watched: Watched, cluster: Cluster) -> Task | Finding:
    """What is asked, as things stand now."""
    wished, version = watched.drift.reevaluate, watched.version
    if wished is None:
        return Finding(VersionReason.NOT_EVALUATED, "no evaluation is asked for")
    namespace = service.metadata.namespace
    data = version.spec.evaluation.dataset
    uri = data.uri if data else None
    if wished.dataset is not None:
        dataset = cluster.get(Dataset, (namespace, wished.dataset.name))
        if (why := not_ready(wished.dataset.name, dataset)) or dataset is None:
            return Finding.unknown(FailureReason.SOURCE_NOT_FOUND, why or "")
        uri = dataset.status.artifact
    if uri is None and not version.spec.evaluation.suites:
        name = version.metadata.name
        why = f"ModelVersion {name} has no held-out data; name a Dataset in reevaluate.dataset"
        return Finding(VersionReason.NOT_EVALUATED, why)
    named = version.spec.base_model.model_version if version.spec.base_model else None
    base = resolved(version, cluster.get(ModelVersion, (namespace, named.name)) if named else None)
    if isinstance(base, Finding):
        return base
    return Task(service, watched, wished, base, uri)


async def _seen(
    service: InferenceService, watched: Watched, run: ReevaluationStatus | None, world: World
) -> Seen:
    """The run's Job, and its result where it is over: the termination message, else the registry's."""
    if run is None or run.state is not ReevaluationState.RUNNING or run.job is None:
        return Seen()
    jobs = world.cluster.children(service, "Job")
    job = next((j for j in jobs if name_of(j) == run.job), None)
    pods = pods_of(run.job, world.cluster.children(service, "Pod"))
    if job is not None and not JobState(job).is_complete:
        return Seen(job, pods)
    result = document_of(pods, EvaluationResult, succeeded=True)
    if result is not None and not result.shortened:
        return Seen(job, pods, result)
    try:
        uri = domain.result_uri(service, watched, run, world.settings)
        return Seen(job, pods, parsed(await world.registry.document(uri), EvaluationResult))
    except ArtifactMissing:
        return Seen(job, pods)
    except ArtifactError as error:
        fault = Finding.unknown(FailureReason.REGISTRY_UNREACHABLE, str(error))
        return Seen(job, pods, fault=fault)


async def _tidy(service: InferenceService, found: Found, world: World) -> None:
    """What belongs to no run any more; the log of one that is over is kept for a while."""
    current = {run.job for run in found.values() if run.state in domain.UNDER_WAY}
    jobs = [j for j in _of_evaluations(service, "Job", world) if name_of(j) not in current]
    due, _ = evaluation.over(jobs, world.clock.now())
    for job in jobs:
        if job in due or not JobState(job).is_finished:
            await world.cluster.delete(job)
    kept = current | {name_of(job) for job in jobs}
    for task in _of_evaluations(service, "ConfigMap", world):
        if name_of(task) not in kept:
            await world.cluster.delete(task)


def _of_evaluations(service: InferenceService, kind: str, world: World) -> list[Manifest]:
    children = world.cluster.children(service, kind)
    return [
        each
        for each in children
        if get(each, "metadata", "labels", default={}).get(names.LABEL_COMPONENT) == names.EVALUATE
    ]


def _event(service: InferenceService, model: str, run: ReevaluationStatus) -> Event:
    is_done = run.state is ReevaluationState.DONE
    reason = DriftReason.REEVALUATED if is_done else DriftReason.NOT_REEVALUATED
    what = "was evaluated again" if is_done else "was not evaluated again"
    return about(
        domain.KIND,
        service,
        reason,
        f"{model}: {run.version} {what}: {run.message}",
        warning=run.is_worse or not is_done,
        occasion=f"{model}/{run.digest}/{run.number}/{run.time}",
    )
