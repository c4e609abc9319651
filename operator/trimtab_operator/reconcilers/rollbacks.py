"""Carrying a rollback out: status has it already, and the routing table; now whatever outlives the service.

A rollback counts as carried out once status has its duration. Until then every visit does this
again, and finds done what was done.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.rollout import RollbackStatus
from trimtab_operator.domain.errors import Forbidden, NameTaken, Refused
from trimtab_operator.domain.inferenceservice import rollouts
from trimtab_operator.domain.inferenceservice.plan import Plan
from trimtab_operator.domain.manifests import name_of
from trimtab_operator.reconcilers.ports import World


@dataclass(frozen=True)
class CarriedOut:
    """The plan with what came of its rollbacks, and what the cluster did not accept."""

    todo: Plan
    faults: tuple[str, ...] = ()


async def carried_out(
    service: InferenceService, todo: Plan, decided_at: datetime, world: World
) -> CarriedOut:
    """Quarantine what was rolled back, and tell."""
    found = rollouts.pending(service.status.models)
    if todo.routing is None or not found:
        return CarriedOut(todo)
    took = max(world.clock.now() - decided_at, timedelta())
    done, faults = dict[str, RollbackStatus](), list[str]()
    for model, rollback in found.items():
        manifest = rollouts.quarantine(service, model, rollback, world.settings.account)
        try:
            if manifest is not None:
                await world.cluster.create(manifest, None)
        except (Forbidden, NameTaken, Refused) as error:
            faults.append(f"Decision {name_of(manifest or {})}: {error}")
            continue
        bad = world.cluster.get(ModelVersion, (service.metadata.namespace, rollback.from_version))
        await world.cluster.emit(rollouts.rolled_back(service, model, rollback, bad))
        world.tally.rolled_back(*service.key, model, took.total_seconds())
        told = {
            "duration_ms": round(took.total_seconds() * 1000),
            "decision": name_of(manifest) if manifest else None,
        }
        done[model] = rollback.model_copy(update=told)
    routes = tuple(
        replace(r, record=replace(r.record, last_rollback=done.get(r.name, r.record.last_rollback)))
        for r in todo.routing.models
    )
    return CarriedOut(replace(todo, routing=replace(todo.routing, models=routes)), tuple(faults))
