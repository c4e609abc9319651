"""The engines of a service by the base that they hold: one pool, and a second one while the base changes.

    table of before, status --> known pools --> new table --> wanted pools --> status, Deployments

Which pools there should be follows from the new table alone: a version of the base that is in it has
engines, unless they are to make room. So a pool comes with its candidate and goes with it, and an
operator that was killed in between finds in the table what it had begun.

The engines of the first base keep the names and labels that they had when there were no others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api import names
from trimtab_api.routing import AgentReport, RoutedModel, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel, VersionSelector
from trimtab_api.v1alpha1.pools import EnginePool
from trimtab_operator.domain.inferenceservice.base import with_proof
from trimtab_operator.domain.inferenceservice.health import is_ready
from trimtab_operator.domain.inferenceservice.loads import EnginePod
from trimtab_operator.domain.inferenceservice.routes import Base
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of

FIRST: Final = names.ENGINE


@dataclass(frozen=True)
class Pool:
    """Engines that hold one base."""

    name: str
    base: Base

    @property
    def table_key(self) -> str:
        """Where in the ConfigMap its agents find their table."""
        return names.ROUTING_TABLE_KEY if self.name == FIRST else f"{self.name}.json"


def base_as_model(service: InferenceService) -> ServedModel | None:
    """The base's public name as one that a ModelVersion stands behind; None where an address does."""
    base = service.spec.base_model
    if base.model_version is None:
        return None
    selector = VersionSelector(name=base.model_version.name)
    return ServedModel(name=base.name, version=selector, rollout=base.rollout)


def named_models(service: InferenceService) -> tuple[ServedModel, ...]:
    """Every public name that a ModelVersion stands behind, the base's too."""
    base, base_name = base_as_model(service), service.spec.base_model.name
    # A model with the base's name is refused at admission; the name always means the base.
    models = (m for m in service.spec.models if m.name != base_name)
    return (*([base] if base else []), *models)


def base_entry(service: InferenceService, table: RoutingTable | None) -> RoutedModel | None:
    """What the table says of the base's public name."""
    name = service.spec.base_model.name
    return next((m for m in table.models if m.name == name), None) if table else None


def present_base(
    service: InferenceService,
    found: Base,
    previous: RoutingTable | None,
    versions: Mapping[str, ModelVersion],
) -> Base:
    """The base that answers: by the table, which is written before status is.

    The same content under another ModelVersion's name is the same base.
    """
    entry = base_entry(service, previous)
    active = next((v for v in entry.versions if v.weight > 0), None) if entry else None
    base = Base(active.version, active.digest, active.uri or found.uri) if active else found
    named = service.spec.base_model.model_version
    wanted = versions.get(named.name) if named else None
    if wanted is not None and wanted.spec.artifact.digest == base.digest:
        base = Base(wanted.metadata.name, base.digest, base.uri)
    return with_proof(base, versions.get(base.version))


def known_pools(
    service: InferenceService, base: Base, deployments: Sequence[Manifest] = ()
) -> tuple[Pool, ...]:
    """Those that status tells of.

    An older release, or a backup, may have left it without a word of them. The engines that hold the
    base must not go for that, before those that would take their place are ready.
    """
    told = service.status.engine_pools
    if not told:
        ready = {pool_name(d): get(d, "status", "readyReplicas", default=0) for d in deployments}
        own = _name(base.digest)
        return (Pool(own if own in ready and not ready.get(FIRST) else FIRST, base),)
    return tuple(Pool(p.name, Base(p.version, p.digest, p.uri)) for p in told)


def wanted_pools(
    service: InferenceService, table: RoutingTable, known: Sequence[Pool], alone: str | None
) -> tuple[Pool, ...]:
    """Those that the table needs; one alone where the others have made room for it."""
    entry = base_entry(service, table)
    named = {pool.base.digest: pool.name for pool in known}
    return tuple(
        Pool(named.get(v.digest) or _name(v.digest), Base(v.version, v.digest, v.uri or ""))
        for v in (entry.versions if entry else [])
        if alone in (None, v.digest)
    )


def told(pools: Sequence[Pool]) -> list[EnginePool]:
    """The pools as status has them: nothing of a service that has only ever had the first."""
    if [pool.name for pool in pools] == [FIRST]:
        return []
    return [
        EnginePool(name=p.name, version=p.base.version, digest=p.base.digest, uri=p.base.uri)
        for p in pools
    ]


def tables(
    service: InferenceService,
    table: RoutingTable,
    pools: Sequence[Pool],
    engines: Sequence[EnginePod],
) -> dict[str, RoutingTable]:
    """The table by key: gateways see everything, engines what they hold.

    An engine that was told of another base would take it for something that it has to load.
    """
    if [pool.name for pool in pools] == [FIRST]:
        return {names.ROUTING_TABLE_KEY: table}
    found = {names.GATEWAY_TABLE_KEY: table}
    for pool in pools:
        found[pool.table_key] = _narrowed(service, table, pool, engines)
    return found


def pool_name(child: Manifest) -> str:
    """The pool that a Deployment or a pod of engines belongs to."""
    return str(get(child, "metadata", "labels", names.LABEL_POOL, default=FIRST))


def pods_of_pool(pods: Sequence[Manifest], name: str) -> tuple[Manifest, ...]:
    """The pods of one pool."""
    return tuple(pod for pod in pods if pool_name(pod) == name)


def engine_pods(
    pods: Sequence[Manifest],
    reports: Mapping[str, AgentReport | None],
    pools: Sequence[Pool],
) -> list[EnginePod]:
    """The engines that gateways may know of, and what their agents say.

    A new one is ready only once the table names it, so that its agent's word has to do.
    """
    bases = {pool.name: pool.base.digest for pool in pools}
    found = []
    for pod in pods:
        address, base = agent_address(pod), bases.get(pool_name(pod))
        report = reports.get(address) if address else None
        if _is_misled(pod, report):
            continue
        if base and address and (is_ready(pod) or (report is not None and report.joins)):
            found.append(EnginePod(name_of(pod), address, report, base))
    return found


def _is_misled(pod: Manifest, report: AgentReport | None) -> bool:
    """Whether an agent of an older release takes its engine's base for that of the first engines."""
    return report is not None and not report.knows_pools and pool_name(pod) != FIRST


def agent_address(pod: Manifest) -> str | None:
    """host:port of the pod's agent, once the pod has an address and until it goes."""
    ip = get(pod, "status", "podIP")
    if not ip or is_deleting(pod):
        return None
    return f"[{ip}]:{names.PORT_AGENT}" if ":" in ip else f"{ip}:{names.PORT_AGENT}"


def _name(digest: str) -> str:
    return f"{FIRST}-{digest.removeprefix('sha256:')[:8]}"


def _narrowed(
    service: InferenceService, table: RoutingTable, pool: Pool, engines: Sequence[EnginePod]
) -> RoutingTable:
    digest = pool.base.digest
    mine = {engine.name for engine in engines if engine.base == digest}
    base_name = service.spec.base_model.name
    models = []
    for model in table.models:
        if model.name == base_name:
            versions = [v for v in model.versions if v.digest == digest]
            models.append(model.model_copy(update={"versions": versions}))
            continue
        adapters = [v for v in model.versions if (v.base or table.base_digest) == digest]
        if adapters or digest == table.base_digest:
            models.append(model.model_copy(update={"versions": adapters}))
    return table.model_copy(
        update={
            "base_digest": digest,
            "engines": [e for e in table.engines if e.name in mine],
            "models": models,
        }
    )
