"""What is said about an InferenceService: derived from what was seen, never from what was done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import FailureReason, LoadReason, ServiceReason
from trimtab_api.routing import ProbeAnswer
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import (
    FrozenRelease,
    InferenceServiceStatus,
    ServedModelStatus,
)
from trimtab_api.v1alpha1.pools import BaseChange, EnginePool
from trimtab_operator.domain.conditions import condition, is_true, with_conditions
from trimtab_operator.domain.events import Event, about, transitions
from trimtab_operator.domain.finding import Answer, Finding, gravest
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.loads import PASSING
from trimtab_operator.domain.inferenceservice.routes import Base, ModelRoute

KIND: Final = children.KIND
# Everything else that keeps a version away should worry somebody.
CALM: Final = PASSING | {
    ServiceReason.ADAPTERS_READY,
    ServiceReason.BASE_CHANGING,
    ServiceReason.BASE_WAITS,
    ServiceReason.ENGINE_READY,
    ServiceReason.GATEWAY_READY,
    ServiceReason.PREPARING_BASE,
    ServiceReason.PROBING,
    ServiceReason.READY,
    ServiceReason.ROLLING_OUT,
    ServiceReason.SCALED_TO_ZERO,
    ServiceReason.STARTING,
    ServiceReason.VERSION_NOT_READY,
    ServiceReason.WAITS_FOR_BASE,
}
LOAD_FAILURES: Final = frozenset({*FailureReason, *LoadReason, ServiceReason.LOAD_FAILED})
MESSAGE_LENGTH: Final = 512
# Their transitions are told once for each model, by `rollouts`.
OF_ROLLOUTS: Final = frozenset({"RolloutProgressing", "RolledBack"})


@dataclass(frozen=True)
class Parts:
    """The three observations that Ready rests on."""

    engine: Answer
    adapters: Answer
    gateway: Answer

    @property
    def fault(self) -> Answer | None:
        return gravest(self.engine, self.adapters, self.gateway)


@dataclass(frozen=True)
class Facts:
    """What status tells beside its conditions."""

    url: str
    base: Base | None = None
    release: FrozenRelease | None = None
    replicas: int = 0
    # The engines that answer the base's name.
    pool: str = names.ENGINE
    routes: tuple[ModelRoute, ...] = ()
    pools: tuple[EnginePool, ...] = ()
    base_change: BaseChange | None = None


@dataclass(frozen=True)
class Report:
    """The status and what is new about it."""

    status: InferenceServiceStatus
    events: tuple[Event, ...]


def with_failures(
    service: InferenceService, routes: Sequence[ModelRoute]
) -> tuple[ModelRoute, ...]:
    """A load that has failed has failed until it succeeds.

    What comes in between is news of no kind: a further attempt, an engine that is started anew, an
    agent that is silent for a moment.
    """
    before = {m.name: m for m in service.status.models}
    return tuple(_with_failure(r, before.get(r.name)) for r in routes)


def _with_failure(route: ModelRoute, before: ServedModelStatus | None) -> ModelRoute:
    if before is None or before.reason is None or before.reason not in LOAD_FAILURES:
        return route
    is_same = (before.active_version, before.candidate_version) == (route.active, route.candidate)
    if route.finding is None or route.finding.reason not in PASSING or not is_same:
        return route
    return replace(route, finding=Finding(before.reason, before.message or ""))


def adapters(service: InferenceService, routes: Sequence[ModelRoute]) -> Answer:
    """Whether every public name is answered by the version that was asked for."""
    faults = [(r, r.finding) for r in routes if r.finding is not None]
    if not faults:
        count = max(len(routes) - 1, 0)
        return Answer(
            True,
            ServiceReason.ADAPTERS_READY,
            f"{count} models are loaded" if count else "no models",
        )
    if all(f.is_unknown for _, f in faults) and _was_as_it_is(service, routes):
        # Agents that an operator has not asked yet, on pods that the kubelet finds ready.
        return Answer(True, ServiceReason.ADAPTERS_READY, "as told by the engines last")
    lasting = [(r, f) for r, f in faults if f.reason not in PASSING]
    _, finding = next(iter(lasting or faults))
    message = "; ".join(f"{r.name}: {f.message}" for r, f in faults)
    return Answer(None if finding.is_unknown else False, finding.reason, message)


def unproven(
    service: InferenceService, routes: Sequence[ModelRoute], parts: Parts
) -> tuple[str, ...]:
    """The names that a request has to be sent to before Ready may be said.

    Nothing is asked while a part is missing, nor again of what was proven and has not changed.
    """
    if parts.fault is not None or _was_proven(service, routes):
        return ()
    return tuple(r.name for r in routes)


def readiness(
    parts: Parts,
    routes: Sequence[ModelRoute],
    asked: Sequence[str],
    answers: Mapping[str, ProbeAnswer],
) -> Answer:
    """Ready is: every name was answered, through a gateway, by its active version."""
    if parts.fault is not None:
        return parts.fault
    for route in routes:
        if route.name in asked and (fault := _wrong_answer(route, answers.get(route.name))):
            return fault
    return Answer(True, ServiceReason.READY, f"{len(routes)} models answer")


def report(
    service: InferenceService, answers: Mapping[str, Answer], facts: Facts, now: datetime
) -> Report:
    """The status, and the events for what differs from the one before."""
    before, generation = service.status, service.metadata.generation
    conditions = [
        condition(kind, a.holds, a.reason, a.message, generation=generation, now=now)
        for kind, a in answers.items()
    ]
    gone = OF_ROLLOUTS - answers.keys()
    kept = [c for c in before.conditions if c.type not in gone]
    first = before.selector or children.selector_text(service, names.ENGINE)
    status = InferenceServiceStatus(
        observed_generation=generation,
        conditions=with_conditions(kept, conditions),
        url=facts.url,
        replicas=facts.replicas,
        selector=children.selector_text(service, facts.pool) if facts.base else first,
        base_uri=facts.base.uri if facts.base else before.base_uri,
        base_digest=facts.base.digest if facts.base else before.base_digest,
        release=facts.release or before.release,
        engine_pools=list(facts.pools) if facts.base else before.engine_pools,
        base_change=facts.base_change if facts.base else before.base_change,
        models=[_model(r) for r in facts.routes] if facts.base else before.models,
    )
    return Report(status, (*_events(service, status), *_changes(service, facts.routes)))


def _events(service: InferenceService, status: InferenceServiceStatus) -> list[Event]:
    reasons = {c.reason for c in status.conditions}
    own = [c for c in status.conditions if c.type not in OF_ROLLOUTS]
    return transitions(KIND, service, own, warnings=reasons - CALM)


def _changes(service: InferenceService, routes: Sequence[ModelRoute]) -> list[Event]:
    before = {m.name: m.active_version for m in service.status.models}
    return [
        about(
            KIND,
            service,
            ServiceReason.VERSION_ACTIVE,
            f"{route.name} is answered by {route.active}"
            + (f" instead of {before[route.name]}" if before.get(route.name) else ""),
            occasion=f"{route.name}/{route.active}/{before.get(route.name)}",
        )
        for route in routes
        if route.active and before.get(route.name) != route.active
        # The base answers from the first day on.
        if before.get(route.name) or route.name != service.spec.base_model.name
    ]


def _model(route: ModelRoute) -> ServedModelStatus:
    said = route.finding.message if route.finding else route.note
    return ServedModelStatus(
        name=route.name,
        active_version=route.active,
        candidate_version=route.candidate,
        weight=route.weight,
        rollout=route.record.rollout,
        last_rollback=route.record.last_rollback,
        decisions=list(route.record.rulings),
        reason=route.finding.reason if route.finding else None,
        message=said[:MESSAGE_LENGTH] if said else None,
    )


def _wrong_answer(route: ModelRoute, answer: ProbeAnswer | None) -> Answer | None:
    if answer is None:
        return Answer(None, ServiceReason.PROBING, f"{route.name} has not been asked yet")
    if not answer.ok:
        why = answer.message or "no cause given"
        return Answer(False, ServiceReason.PROBE_FAILED, f"a request to {route.name} failed: {why}")
    if answer.version != route.active and not (route.weight and answer.version == route.candidate):
        return Answer(
            None,
            ServiceReason.PROBING,
            f"{route.name} was answered by {answer.version}, not yet by {route.active}",
        )
    return None


def _was_as_it_is(service: InferenceService, routes: Sequence[ModelRoute]) -> bool:
    conditions = service.status.conditions
    return is_true(conditions, "AdaptersReady") and _same_versions(service, routes)


def _was_proven(service: InferenceService, routes: Sequence[ModelRoute]) -> bool:
    return is_true(service.status.conditions, "Ready") and _same_versions(service, routes)


def _same_versions(service: InferenceService, routes: Sequence[ModelRoute]) -> bool:
    before = {m.name: m.active_version for m in service.status.models}
    return before == {r.name: r.active for r in routes}
