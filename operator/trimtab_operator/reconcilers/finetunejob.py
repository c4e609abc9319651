"""FineTuneJob: gather what the store, the pods and the registry know, decide, act."""

from dataclasses import replace
from typing import Final, TypeVar

from trimtab_api import names
from trimtab_api.documents import PrepareResult, TrainingResult
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, ModelVersion
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactMissing,
    ClusterError,
    Forbidden,
    NameTaken,
    PodError,
    Refused,
)
from trimtab_operator.domain.finetunejob import children
from trimtab_operator.domain.finetunejob.plan import Plan, Seen, plan
from trimtab_operator.domain.finetunejob.status import (
    NAME_TAKEN,
    NOT_ALLOWED,
    REFUSED,
    Scribe,
    events,
    is_over,
)
from trimtab_operator.domain.naming import version_name
from trimtab_operator.domain.observation import (
    document_of,
    parsed,
    pods_of,
    running_address,
)
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.reconcilers.ports import Cluster, Key, World

Document = TypeVar("Document", bound=ApiModel)
_REASONS: Final[dict[type[ClusterError], str]] = {
    Forbidden: NOT_ALLOWED,
    NameTaken: NAME_TAKEN,
    Refused: REFUSED,
}


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one FineTuneJob nearer to what it should be."""
    job = world.cluster.get(FineTuneJob, key)
    if job is None:
        return Done()
    seen = await _gather(job, world)
    return await _act(plan(job, seen, world.settings, world.clock.now()), job, world)


async def _gather(job: FineTuneJob, world: World) -> Seen:
    cluster = world.cluster
    reference = job.spec.base_model.model_version
    seen = Seen(
        jobs=tuple(cluster.children(job, "Job")),
        pods=tuple(cluster.children(job, "Pod")),
        base=cluster.get(ModelVersion, (job.metadata.namespace, reference.name))
        if reference
        else None,
        dataset=_dataset(job, cluster),
    )
    if is_over(job.status):
        return replace(seen, version=_made(job, cluster))
    if job.status.resolved is None:
        return await _with_prepared(job, seen, world)
    return await _with_trained(job, seen, world)


def _dataset(job: FineTuneJob, cluster: Cluster) -> Dataset | None:
    """What the data is named by, as long as it matters."""
    name = job.spec.dataset.name
    if name is None or job.status.resolved is not None:
        return None
    return cluster.get(Dataset, (job.metadata.namespace, name))


def _made(job: FineTuneJob, cluster: Cluster) -> ModelVersion | None:
    """What came out of it, for a job that will go; one that stays never asks."""
    name = job.status.model_version
    if name is None or job.spec.ttl_seconds_after_finished is None:
        return None
    return cluster.get(ModelVersion, (job.metadata.namespace, name))


async def _with_prepared(job: FineTuneJob, seen: Seen, world: World) -> Seen:
    result, problem = await _result(job, names.PREPARE, seen, PrepareResult, world)
    return replace(seen, prepared=result, registry_problem=problem)


async def _with_trained(job: FineTuneJob, seen: Seen, world: World) -> Seen:
    result, problem = await _result(job, names.TRAIN, seen, TrainingResult, world)
    seen = replace(seen, trained=result, registry_problem=problem)
    if result is None or result.artifact is None:
        return await _with_progress(job, seen, world)
    name = version_name(job.spec.output.model, result.artifact.digest)
    return replace(seen, version=world.cluster.get(ModelVersion, (job.metadata.namespace, name)))


async def _with_progress(job: FineTuneJob, seen: Seen, world: World) -> Seen:
    stage = children.job_name(job, names.TRAIN, job.status.attempt)
    address = running_address(pods_of(stage, seen.pods), names.TRAIN)
    if address is None:
        return seen
    try:
        return replace(seen, progress=await world.pods.progress(address))
    except PodError:
        return seen  # it is starting or ending; the last progress stays


async def _result(
    job: FineTuneJob, stage: str, seen: Seen, kind: type[Document], world: World
) -> tuple[Document | None, str | None]:
    """What a Job that has succeeded left, or why that cannot be read now.

    The termination message is the fast path; it goes with its pod, the registry's copy stays.
    """
    name = children.job_name(job, stage, job.status.attempt)
    found = seen.job(name)
    if found is None or not found.is_complete:
        return None, None
    result = document_of(pods_of(name, seen.pods), kind, succeeded=True)
    if result is not None:
        return result, None
    try:
        content = await world.registry.document(children.result_uri(job, stage, world.settings))
    except ArtifactMissing:
        return None, None
    except ArtifactError as error:
        return None, str(error)
    return parsed(content, kind), None


async def _act(todo: Plan, job: FineTuneJob, world: World) -> Outcome:
    cluster = world.cluster
    if todo.expired:
        await cluster.delete_resource(job)
        return Done()
    for note in todo.notes:
        await cluster.emit(note)
    if todo.decision is not None:
        job = await cluster.write_status(job, todo.decision)
    try:
        if todo.version is not None:
            await cluster.create(todo.version, owner=None)
        for manifest in todo.create:
            await cluster.create(manifest, owner=job)
    except (Forbidden, NameTaken, Refused) as error:
        return await _blocked(todo, job, error, world)
    for child, changes in todo.patch:
        await cluster.patch(child, changes)
    for child in todo.delete:
        await cluster.delete(child)
    for event in todo.events:
        await cluster.emit(event)
    await cluster.write_status(job, todo.status)
    return todo.outcome


async def _blocked(todo: Plan, job: FineTuneJob, error: ClusterError, world: World) -> Outcome:
    """A quota, a policy or a namesake stands in the way: said in status, tried again."""
    status = todo.status.model_copy(update={"conditions": job.status.conditions})
    scribe = Scribe(job, world.clock.now())
    status = scribe.waiting(
        scribe.begun(status, job.spec.suspend), _REASONS[type(error)], str(error)
    )
    for event in events(job, status):
        await world.cluster.emit(event)
    await world.cluster.write_status(job, status)
    return Retry(str(error))
