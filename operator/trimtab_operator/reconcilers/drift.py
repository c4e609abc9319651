"""Drift of an InferenceService's models: ask Prometheus, remember, say so; then make what was decided.

`look` is a step before the status is written and `act` one after it, so that what is made was
written down first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from trimtab_api.documents.evaluation import EvaluationReport
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.reasons import DriftReason
from trimtab_api.v1alpha1 import Dataset, FineTuneJob, InferenceService, ModelVersion
from trimtab_api.v1alpha1.drift import DriftStatus, RetrainingState, RetrainingStatus
from trimtab_api.v1alpha1.inferenceservice import (
    InferenceServiceStatus,
    ServedModel,
    ServedModelStatus,
)
from trimtab_api.v1alpha1.reevaluation import ReevaluationStatus
from trimtab_operator.domain.errors import (
    ArtifactError,
    Forbidden,
    MetricsError,
    MetricsUnavailable,
    NameTaken,
    Refused,
)
from trimtab_operator.domain.events import Event, about
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import children, retraining
from trimtab_operator.domain.inferenceservice import drift as domain
from trimtab_operator.domain.inferenceservice.driftstatus import measured, with_drift
from trimtab_operator.domain.inferenceservice.reevaluation import overlaid
from trimtab_operator.domain.inferenceservice.retraining import Case, Materials
from trimtab_operator.domain.manifests import Manifest, name_of
from trimtab_operator.reconcilers import reevaluation
from trimtab_operator.reconcilers.ports import Cluster, World

KIND: Final = children.KIND


@dataclass(frozen=True)
class Looked:
    """What is to be said, and when to look again; None where nothing is watched."""

    status: InferenceServiceStatus
    events: tuple[Event, ...] = ()
    again_after: timedelta | None = None


async def look(
    service: InferenceService,
    status: InferenceServiceStatus,
    rollbacks: Mapping[str, str],
    world: World,
) -> Looked:
    """The status with what is known of the traffic of each model that is watched.

    `rollbacks` says of models that drift would take back what would come of it.
    """
    now = world.clock.now()
    before = {m.name: m.drift for m in service.status.models}
    quality = await _evaluated(service, status, before, world)
    found: dict[str, DriftStatus] = {}
    away: Finding | None = None
    for model in service.spec.models:
        if model.drift is None:
            continue
        looked = quality.found.get(model.name)
        told = await _look_at(service, model, status, before.get(model.name), looked, away, world)
        if told.trouble is not None and told.is_away:
            away = told.trouble  # it is asked once, not once for each model
        if told.status is not None:
            found[model.name] = _with_rollback(told.status, rollbacks.get(model.name))
    await _forget(service, world.cluster)
    world.tally.traffic(*service.key, measured(found))
    result, events = with_drift(service, status, found, now)
    is_new = any(_is_new_drift(before.get(name), drift) for name, drift in found.items())
    after = domain.ROLLED_BACK_AFTER if rollbacks and is_new else domain.EVERY
    return Looked(result, (*quality.events, *events), after if found else None)


async def _evaluated(
    service: InferenceService,
    status: InferenceServiceStatus,
    before: Mapping[str, DriftStatus | None],
    world: World,
) -> reevaluation.Looked:
    watched = (_watched(service, model, status, world.cluster) for model in service.spec.models)
    known = {n: d.reevaluation for n, d in before.items() if d and d.reevaluation}
    return await reevaluation.look(service, [w for w in watched if w is not None], known, world)


def _with_rollback(drift: DriftStatus, plan: str | None) -> DriftStatus:
    is_drifting = drift.reason == DriftReason.DRIFTING
    return drift.model_copy(update={"plan": plan[:512]}) if plan and is_drifting else drift


def _is_new_drift(before: DriftStatus | None, now: DriftStatus) -> bool:
    is_drifting = now.reason == DriftReason.DRIFTING
    return is_drifting and (before is None or before.reason != now.reason)


async def _forget(service: InferenceService, cluster: Cluster) -> None:
    """What was kept of models that are watched no more."""
    watched = {domain.name(service, m.name) for m in service.spec.models if m.drift is not None}
    for kept in domain.memories(cluster.children(service, "ConfigMap")):
        if name_of(kept) not in watched:
            await cluster.delete(kept)


@dataclass(frozen=True)
class _Told:
    status: DriftStatus | None = None
    trouble: Finding | None = None
    is_away: bool = False


async def _look_at(
    service: InferenceService,
    model: ServedModel,
    status: InferenceServiceStatus,
    before: DriftStatus | None,
    quality: ReevaluationStatus | None,
    away: Finding | None,
    world: World,
) -> _Told:
    now = world.clock.now()
    watched = _watched(service, model, status, world.cluster)
    if watched is None:
        return _Told(domain.without_version(before, now))
    stored = _stored(service, model, world.cluster)
    memory = domain.remembered(stored, watched)
    trouble, is_away = away, away is not None
    if trouble is None:
        is_told = before and before.version == watched.version.metadata.name
        if before and is_told and not domain.is_due(memory, now):
            said = overlaid(before, quality)
            return _Told(_decided(service, watched, said, world, now))
        try:
            memory, trouble = await _asked(service, watched, memory, world, now)
        except MetricsError as error:
            is_away = isinstance(error, MetricsUnavailable)
            trouble = domain.unavailable(world.settings.prometheus.url, str(error))
            memory = replace(memory, looked=now)
        await world.cluster.apply(domain.config_map(service, model.name, memory), service)
    said = overlaid(domain.told(watched, memory, trouble, before, now), quality)
    if before is not None and domain.is_old_news(before, said, now):
        said = before.model_copy(update={"reevaluation": quality})
    return _Told(_decided(service, watched, said, world, now), trouble, is_away)


async def _asked(
    service: InferenceService,
    watched: domain.Watched,
    memory: domain.Memory,
    world: World,
    now: datetime,
) -> tuple[domain.Memory, Finding | None]:
    selector = domain.selector(service, watched)
    series = await world.metrics.samples(selector, domain.asked_from(memory, now), now)
    if not series:
        return replace(memory, looked=now), domain.no_series(selector)
    if domain.is_new(memory):
        memory = domain.with_profile(memory, watched, await _profile(watched.version, world))
    return domain.looked(memory, watched, series, now), None


async def _profile(version: ModelVersion, world: World) -> ReferenceProfile | None:
    """A first guess at the shares; live traffic has the say soon, so that it may be missing."""
    evaluation = version.status.evaluation
    uri = evaluation.report if evaluation else version.spec.evaluation.report
    if uri is None:
        return None
    try:
        content = await world.registry.document(uri)
        return EvaluationReport.model_validate_json(content).profile
    except (ArtifactError, ValidationError):
        return None


def _decided(
    service: InferenceService,
    watched: domain.Watched,
    status: DriftStatus,
    world: World,
    now: datetime,
) -> DriftStatus:
    case = _case(service, watched, status, world.cluster, now)
    status = retraining.settled(
        status, watched.model.retrain, _jobs(service, status, world.cluster), now
    )
    if case is None or status.reason != DriftReason.DRIFTING:
        return status
    return retraining.decided(replace(case, status=status))


async def act(service: InferenceService, world: World) -> InferenceService:
    """Make what status says was decided, each once; then say that it was made."""
    now = world.clock.now()
    models = list[ServedModelStatus]()
    events = list[Event]()
    specs = {m.name: m for m in service.spec.models}
    for told in service.status.models:
        model = specs.get(told.name)
        pending = told.drift and any(
            e.state is RetrainingState.DECIDED for e in told.drift.retrainings
        )
        is_dry = model is not None and model.drift is not None and model.drift.dry_run
        if model is None or told.drift is None or not pending or is_dry:
            models.append(told)
            continue
        drift, said = await _carried_out(service, model, told.drift, world, now)
        models.append(told.model_copy(update={"drift": drift}))
        events += said
    for event in events:
        await world.cluster.emit(event)
    status = service.status.model_copy(update={"models": models})
    return await world.cluster.write_status(service, status)


async def _carried_out(
    service: InferenceService, model: ServedModel, drift: DriftStatus, world: World, now: datetime
) -> tuple[DriftStatus, list[Event]]:
    """Only while the traffic of that version is still found to have moved."""
    watched = _watched(service, model, service.status, world.cluster)
    entries, events, plan = list[RetrainingStatus](), list[Event](), drift.plan
    for entry in drift.retrainings:
        if entry.state is not RetrainingState.DECIDED:
            entries.append(entry)
            continue
        case = _case(service, watched, drift, world.cluster, now) if watched else None
        if case is None or case.correlation != entry.correlation:
            continue  # it was decided upon, and nothing was made: the reason for it is gone
        state, said = await _make(case, entry, world.cluster)
        entries.append(entry.model_copy(update={"state": state}))
        plan = said or retraining.told(entries[-1])
        if state is not RetrainingState.DECIDED or said != drift.plan:
            events.append(_event(service, entry, state, f"{model.name}: {plan}"))
    return drift.model_copy(
        update={"retrainings": entries, "plan": plan[:512] if plan else None}
    ), events


async def _make(
    case: Case, entry: RetrainingStatus, cluster: Cluster
) -> tuple[RetrainingState, str | None]:
    """How far it is afterwards, and what is in the way."""
    waiting = RetrainingState.DECIDED
    data, job = retraining.dataset(case, entry), retraining.job(case, entry)
    if job is None or (entry.dataset is not None and data is None):
        return waiting, retraining.obstacle(case) or "the template is not there any more"
    try:
        if data is not None:
            await cluster.create(data, case.service)
        fresh = replace(
            case, materials=_materials(case.service, case.watched.model, case.status, cluster)
        )
        if (why := retraining.waits_for_data(fresh, entry)) is not None:
            return waiting, why
        if retraining.is_nothing_new(fresh, entry):
            return RetrainingState.DROPPED, None
        await cluster.create(job, case.service)
    except (Forbidden, NameTaken, Refused) as error:
        return waiting, f"FineTuneJob {entry.job} cannot be made: {error}"
    return RetrainingState.MADE, None


def _event(
    service: InferenceService, entry: RetrainingStatus, state: RetrainingState, message: str
) -> Event:
    made = DriftReason.PROPOSED if entry.proposed else DriftReason.RETRAINING
    is_made = state is RetrainingState.MADE
    return about(
        KIND,
        service,
        made if is_made else DriftReason.NOT_RETRAINED,
        message,
        warning=not is_made,
        occasion=f"{entry.correlation}/{'' if is_made else message}",
        correlation=entry.correlation,
    )


def _watched(
    service: InferenceService, model: ServedModel, status: InferenceServiceStatus, cluster: Cluster
) -> domain.Watched | None:
    told = next((m for m in status.models if m.name == model.name), None)
    if told is None or told.active_version is None or model.drift is None:
        return None
    version = cluster.get(ModelVersion, (service.metadata.namespace, told.active_version))
    return domain.Watched(model, model.drift, version) if version else None


def _case(
    service: InferenceService,
    watched: domain.Watched,
    status: DriftStatus,
    cluster: Cluster,
    now: datetime,
) -> Case | None:
    if watched.model.retrain is None:
        return None
    materials = _materials(service, watched.model, status, cluster)
    return Case(service, watched, watched.model.retrain, status, materials, now)


def _materials(
    service: InferenceService, model: ServedModel, status: DriftStatus, cluster: Cluster
) -> Materials:
    namespace = service.metadata.namespace
    retrain = model.retrain
    template = cluster.get(FineTuneJob, (namespace, retrain.template.name)) if retrain else None
    named = template.spec.dataset.name if template else None
    made = [e.dataset for e in status.retrainings if e.dataset]
    datasets = ((name, cluster.get(Dataset, (namespace, name))) for name in made)
    return Materials(
        template=template,
        dataset=cluster.get(Dataset, (namespace, named)) if named else None,
        jobs=_jobs(service, status, cluster),
        prepared={name: dataset for name, dataset in datasets if dataset is not None},
    )


def _jobs(
    service: InferenceService, status: DriftStatus, cluster: Cluster
) -> dict[str, FineTuneJob]:
    namespace = service.metadata.namespace
    found = ((e.job, cluster.get(FineTuneJob, (namespace, e.job))) for e in status.retrainings)
    return {name: job for name, job in found if job is not None}


def _stored(service: InferenceService, model: ServedModel, cluster: Cluster) -> Manifest | None:
    called = domain.name(service, model.name)
    maps: Sequence[Manifest] = cluster.children(service, "ConfigMap")
    return next((m for m in maps if name_of(m) == called), None)
