"""Dataset: gather what the store, the pods and the registry know, decide, act."""

from dataclasses import replace
from typing import Final

from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import DatasetReason
from trimtab_api.v1alpha1 import Dataset
from trimtab_operator.domain import rayjobs
from trimtab_operator.domain.dataset import children, inputs
from trimtab_operator.domain.dataset.plan import Plan, Seen, plan
from trimtab_operator.domain.dataset.status import Scribe, attempt_of, events, has_verdict
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactMissing,
    ClusterError,
    Forbidden,
    NameTaken,
    Refused,
)
from trimtab_operator.domain.observation import document_of, parsed, pods_of
from trimtab_operator.domain.outcome import Done, Outcome, Retry
from trimtab_operator.reconcilers.ports import Cluster, Key, World

# Of a web of Datasets that wait for each other; a circle that is longer is waited for.
LOOKED_AT_MOST: Final = 256
_JOBS: Final = ("Job", rayjobs.KIND)
_REASONS: Final[dict[type[ClusterError], str]] = {
    Forbidden: DatasetReason.NOT_ALLOWED,
    NameTaken: DatasetReason.NAME_TAKEN,
    Refused: DatasetReason.REFUSED,
}


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one Dataset nearer to what it should be."""
    dataset = world.cluster.get(Dataset, key)
    if dataset is None:
        return Done()
    seen = await _gather(dataset, world)
    return await _act(plan(dataset, seen, world.settings, world.clock.now()), dataset, world)


async def _gather(dataset: Dataset, world: World) -> Seen:
    cluster = world.cluster
    seen = Seen(
        jobs=tuple(job for kind in _JOBS for job in cluster.children(dataset, kind)),
        tasks=tuple(cluster.children(dataset, "ConfigMap")),
        pods=tuple(cluster.children(dataset, "Pod")),
        others=_others(dataset, cluster),
    )
    return seen if has_verdict(dataset) else await _with_result(dataset, seen, world)


def _others(dataset: Dataset, cluster: Cluster) -> dict[str, Dataset | None]:
    """Those that it names, and those that these wait for in turn: a circle would never end."""
    found: dict[str, Dataset | None] = {}
    names = inputs.named_by(dataset)
    while names:
        name = names.pop()
        if name in found or len(found) >= LOOKED_AT_MOST:
            continue
        found[name] = there = cluster.get(Dataset, (dataset.metadata.namespace, name))
        names += inputs.waits_for(there) if there else []
    return found


async def _with_result(dataset: Dataset, seen: Seen, world: World) -> Seen:
    """What a Job that has succeeded left: the termination message, else the registry's copy.

    The registry alone has what a RayJob left, be it a failure: its pods go on after the program.
    """
    attempt = attempt_of(dataset)
    name = children.job_name(dataset, attempt)
    found = seen.job(name)
    is_over = found is not None and (
        found.is_complete or (found.is_finished and children.is_spread(dataset))
    )
    if not is_over:
        return seen
    result = document_of(pods_of(name, seen.pods), PrepareResult, succeeded=True)
    if result is not None:
        return replace(seen, result=result)
    try:
        uri = children.result_uri(dataset, attempt, world.settings)
        content = await world.registry.document(uri)
    except ArtifactMissing:
        return seen
    except ArtifactError as error:
        return replace(seen, registry_problem=str(error))
    return replace(seen, result=parsed(content, PrepareResult))


async def _act(todo: Plan, dataset: Dataset, world: World) -> Outcome:
    cluster = world.cluster
    for note in todo.notes:
        await cluster.emit(note)
    if todo.decision is not None:
        dataset = await cluster.write_status(dataset, todo.decision)
    for child in todo.delete:
        await cluster.delete(child)
    try:
        for manifest in todo.create:
            await cluster.create(manifest, owner=dataset)
    except (Forbidden, NameTaken, Refused) as error:
        return await _blocked(todo, dataset, error, world)
    for event in todo.events:
        await cluster.emit(event)
    await cluster.write_status(dataset, todo.status)
    return todo.outcome


async def _blocked(todo: Plan, dataset: Dataset, error: ClusterError, world: World) -> Outcome:
    """A quota, a policy or a namesake stands in the way: said in status, tried again."""
    scribe = Scribe(dataset, world.clock.now())
    status = scribe.waiting(todo.status, _REASONS[type(error)], str(error))
    for event in events(dataset, status):
        await world.cluster.emit(event)
    await world.cluster.write_status(dataset, status)
    return Retry(str(error))
