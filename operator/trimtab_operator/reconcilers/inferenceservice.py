"""InferenceService: gather, decide, act, look at what came of it, say so."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from trimtab_api import names
from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import FailureReason
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_api.v1alpha1 import Decision, InferenceService, ModelVersion
from trimtab_operator.domain.errors import (
    ArtifactError,
    ArtifactMissing,
    Conflict,
    Forbidden,
    NameTaken,
    PodError,
    Refused,
)
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import base as base_model
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.base import Preparation
from trimtab_operator.domain.inferenceservice.health import is_ready
from trimtab_operator.domain.inferenceservice.notes import stored_notes, written_notes
from trimtab_operator.domain.inferenceservice.observed import Observed, Pods
from trimtab_operator.domain.inferenceservice.plan import (
    Plan,
    conclude,
    observe_parts,
    plan,
    refused,
    to_ask,
)
from trimtab_operator.domain.inferenceservice.pools import agent_address
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.observation import JobState, document_of, parsed, pods_of
from trimtab_operator.domain.outcome import Done, Outcome, also_after, soonest
from trimtab_operator.domain.references import MODEL, SERVICE
from trimtab_operator.reconcilers import abuse, drift, reevaluation, rollbacks
from trimtab_operator.reconcilers.decided import isolations
from trimtab_operator.reconcilers.looking import looked
from trimtab_operator.reconcilers.ports import Cluster, Key, World
from trimtab_operator.settings import ExposureKind

ASKED_AT_ONCE: Final = 8
EXPOSURES: Final = tuple(kind.value for kind in ExposureKind if kind is not ExposureKind.NONE)


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one InferenceService nearer to what it should be."""
    service = world.cluster.get(InferenceService, key)
    if service is None or service.metadata.deletion_timestamp:
        world.agents.follow(SERVICE, key, ())
        world.tally.traffic(*key, {})
        abuse.forget(key, world)
        return Done()
    todo = plan(await _observed(service, world), world.settings, world.clock.now())
    await asyncio.gather(*(world.cluster.emit(e) for e in todo.announced))
    decided_at = world.clock.now()
    if todo.decision is not None:
        service = await world.cluster.write_status(service, todo.decision)
    faults = await _act(todo, service, world.cluster)
    for model in todo.promoted:
        world.tally.promoted(*service.key, model)
    back = await rollbacks.carried_out(service, todo, decided_at, world)
    todo, faults = back.todo, [*faults, *back.faults]
    pods = _pods(service, world.cluster)
    parts = observe_parts(service, todo, pods, world.clock.now())
    answers = await _ask(to_ask(service, todo, parts), pods.gateways, world)
    now = world.clock.now()
    concluded = conclude(service, todo, pods, answers, world.settings, now)
    if faults:
        concluded = refused(service, concluded, faults, now)
    traffic = await drift.look(service, concluded.report.status, todo.drift_plans, world)
    callers = await abuse.look(service, traffic.status, world)
    events = (*concluded.report.events, *traffic.events, *callers.events)
    await asyncio.gather(*(world.cluster.emit(e) for e in events))
    service = await world.cluster.write_status(service, callers.status)
    abuse.remember(key, callers, world)
    service = await drift.act(service, world)
    await reevaluation.act(service, world)
    return also_after(concluded.outcome, soonest(traffic.again_after, callers.again_after))


async def _observed(service: InferenceService, world: World) -> Observed:
    reports = await _reports(service, world)
    cluster = world.cluster
    namespace, _ = service.key
    named = service.spec.base_model.model_version
    pods = _pods(service, cluster)
    config_maps = cluster.children(service, "ConfigMap")
    routing = _called(config_maps, children.name(service, children.ROUTING))
    evidence = written_notes(config_maps)
    versions = _versions(service, routing, cluster)
    return Observed(
        service=service,
        versions=versions,
        base=cluster.get(ModelVersion, (namespace, named.name)) if named else None,
        preparation=await _preparation(service, world),
        routing=routing,
        pods=pods,
        reports=reports,
        policy=cluster.policy(namespace),
        decisions=tuple(cluster.referrers(Decision, (SERVICE, namespace, service.metadata.name))),
        isolations=isolations(versions.values(), cluster),
        evidence=evidence,
        heard=await looked(service, stored_notes(evidence), world),
        exposures=tuple(e for kind in EXPOSURES for e in cluster.children(service, kind)),
    )


async def _reports(service: InferenceService, world: World) -> Mapping[str, AgentReport | None]:
    engines = _pods(service, world.cluster).engines
    addresses = [a for p in engines if (a := agent_address(p))]
    ready = [a for p in engines if is_ready(p) and (a := agent_address(p))]
    world.agents.follow(SERVICE, service.key, addresses)
    await world.agents.first_words(ready)
    return world.agents.follow(SERVICE, service.key, addresses)


def _versions(
    service: InferenceService, routing: Manifest | None, cluster: Cluster
) -> Mapping[str, ModelVersion]:
    """Those that spec, status or the present table name, and all of the models that it follows."""
    namespace, _ = service.key
    selectors = [m.version for m in service.spec.models]
    table = children.read_table(routing)
    base = service.spec.base_model.model_version
    named = {s.name for s in selectors if s.name} | ({base.name} if base else set())
    named |= {v.version for m in (table.models if table else []) for v in m.versions}
    named |= {m.active_version for m in service.status.models if m.active_version}
    rollouts = [m.rollout for m in service.status.models if m.rollout]
    named |= {r.stable for r in rollouts}
    change = service.status.base_change
    named |= {change.version} if change else set()
    named |= {v for r in rollouts for c in r.companions for v in (c.stable, c.candidate)}
    followed = {s.latest_of for s in selectors if s.latest_of}
    found = [cluster.get(ModelVersion, (namespace, name)) for name in named]
    for model in followed:
        found += cluster.referrers(ModelVersion, (MODEL, namespace, model))
    return {v.metadata.name: v for v in found if v is not None}


def _pods(service: InferenceService, cluster: Cluster) -> Pods:
    deployments = cluster.children(service, "Deployment")
    pods = cluster.children(service, "Pod")
    budgets = cluster.children(service, "PodDisruptionBudget")
    return Pods(
        engine_deployments=_of_component(deployments, names.ENGINE),
        engine_budgets=_of_component(budgets, names.ENGINE),
        gateway_deployment=_called(deployments, children.name(service, names.GATEWAY)),
        engines=_of_component(pods, names.ENGINE),
        gateways=_of_component(pods, names.GATEWAY),
    )


async def _preparation(service: InferenceService, world: World) -> Preparation:
    """What came of the pod that mirrors the base, while that matters."""
    if not base_model.needs_preparation(service):
        return Preparation()
    name = base_model.job_name(service)
    jobs = _of_component(world.cluster.children(service, "Job"), names.PREPARE)
    pods = _of_component(world.cluster.children(service, "Pod"), names.PREPARE)
    job = _called(jobs, name)
    if job is None or not JobState(job).is_complete:
        return Preparation(jobs, pods)
    result = document_of(pods_of(name, pods), PrepareResult, succeeded=True)
    if result is not None:
        return Preparation(jobs, pods, result)
    try:
        content = await world.registry.document(base_model.result_uri(service, world.settings))
    except ArtifactMissing:
        return Preparation(jobs, pods)
    except ArtifactError as error:
        fault = Finding.unknown(FailureReason.REGISTRY_UNREACHABLE, str(error))
        return Preparation(jobs, pods, result_fault=fault)
    return Preparation(jobs, pods, parsed(content, PrepareResult))


async def _act(todo: Plan, service: InferenceService, cluster: Cluster) -> list[str]:
    """Write every child; one that is refused keeps no other from being written."""
    faults = []
    for manifest in (*todo.base.create, *todo.apply):
        try:
            if manifest in todo.base.create:
                await cluster.create(manifest, service)
            else:
                await cluster.apply(manifest, service)
        except (Forbidden, NameTaken, Refused) as error:
            faults.append(f"{manifest['kind']} {name_of(manifest)}: {error}")
    for child in todo.base.delete:
        await cluster.delete(child)
    for child in todo.delete:
        faults += await _take_away(child, cluster)
    return faults


async def _take_away(child: Manifest, cluster: Cluster) -> list[str]:
    """A child of a kind that nobody watches: where our view of it is old, the next list has a newer."""
    try:
        await cluster.delete(child)
    except Conflict:
        return []
    except Forbidden as error:
        return [f"{child['kind']} {name_of(child)}, which is not wanted any more: {error}"]
    return []


async def _ask(
    models: Sequence[str], gateways: Sequence[Manifest], world: World
) -> Mapping[str, ProbeAnswer]:
    """A real request to each name, through one gateway; a few at a time."""
    address = next((str(get(p, "status", "podIP")) for p in gateways if is_ready(p)), None)
    if address is None:
        return {}
    room = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(model: str) -> ProbeAnswer:
        async with room:
            try:
                return await world.pods.probe(address, model)
            except PodError as error:
                return ProbeAnswer(model=model, ok=False, message=str(error))

    answers = await asyncio.gather(*(ask(m) for m in models))
    return dict(zip(models, answers, strict=True))


def _called(manifests: Sequence[Manifest], name: str) -> Manifest | None:
    return next((m for m in manifests if name_of(m) == name), None)


def _of_component(manifests: Sequence[Manifest], component: str) -> tuple[Manifest, ...]:
    found = [
        m
        for m in manifests
        if get(m, "metadata", "labels", default={}).get(names.LABEL_COMPONENT) == component
    ]
    return tuple(sorted(found, key=name_of))
