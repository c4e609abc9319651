"""What an InferenceService should have, and then what may be said about it.

Two pure steps, because the second rests on what came of the first: `plan` says what to write,
`conclude` judges what is there afterwards and how the models answered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.reasons import FailureReason, ServiceReason
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import (
    FrozenRelease,
    InferenceServiceStatus,
    ServedModelStatus,
)
from trimtab_api.v1alpha1.pools import BaseChange
from trimtab_operator.domain.conditions import find, moment_of
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.inferenceservice import children, engine, gateway, network, rollouts
from trimtab_operator.domain.inferenceservice.base import BasePlan, resolve
from trimtab_operator.domain.inferenceservice.consent import Consent
from trimtab_operator.domain.inferenceservice.courses import Turned
from trimtab_operator.domain.inferenceservice.health import (
    SANDBOX_EXPECTED_WITHIN,
    Part,
    health,
    is_ready,
    waits_for_sandbox,
)
from trimtab_operator.domain.inferenceservice.loads import FAILED
from trimtab_operator.domain.inferenceservice.notes import config_map, outdated
from trimtab_operator.domain.inferenceservice.observed import Observed, Pods
from trimtab_operator.domain.inferenceservice.placement import placed
from trimtab_operator.domain.inferenceservice.pools import (
    FIRST,
    Pool,
    agent_address,
    pods_of_pool,
    pool_name,
    told,
)
from trimtab_operator.domain.inferenceservice.routes import Base, Routing
from trimtab_operator.domain.inferenceservice.status import (
    Facts,
    Parts,
    Report,
    adapters,
    readiness,
    report,
    unproven,
    with_failures,
)
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.observation import settles_in
from trimtab_operator.domain.outcome import Done, Outcome, Retry, soonest
from trimtab_operator.settings import Settings

# A gateway sees a new table within milliseconds, a model that fails will go on failing for a while.
ASKED_AGAIN_SOON: Final = timedelta(milliseconds=250)
ASKED_AGAIN_LATER: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Plan:
    """What to write, in this order."""

    base: BasePlan
    decision: InferenceServiceStatus | None = None
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    routing: Routing | None = None
    release: FrozenRelease | None = None
    pools: tuple[Pool, ...] = ()
    # What answers the base's name now, and whether its engines have made room for others.
    present: Base | None = None
    base_change: BaseChange | None = None
    unloadable: Mapping[str, Finding] = field(default_factory=dict)
    # What the status decision tells of rollouts; afterwards it would be news no more.
    announced: tuple[Event, ...] = ()
    promoted: tuple[str, ...] = ()
    # What drift leads to, of the models where it leads to a rollback.
    drift_plans: Mapping[str, str] = field(default_factory=dict)
    again_after: timedelta | None = None


@dataclass(frozen=True)
class Conclusion:
    """What to say, and when to look again."""

    report: Report
    outcome: Outcome


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """The children that the service should have now."""
    service = observed.service
    consent = Consent.of(observed.policy)
    found = resolve(service, observed.base, observed.preparation, settings, now, consent)
    leftovers = network.leftovers(observed.exposures, settings)
    if found.base is None:
        return Plan(found, delete=leftovers)
    release = engine.release(service, settings)
    routed = placed(observed, found.base, settings, now)
    turned, routing, base, pools = routed.turned, routed.routing, routed.base, routed.pools
    frozen = {
        "base_uri": base.uri,
        "base_digest": base.digest,
        "release": release,
        "engine_pools": told(pools),
        "base_change": routed.ruling,
    }
    is_frozen = all(getattr(service.status, k) == v for k, v in frozen.items())
    models = decided(service, turned)
    is_decided = is_frozen and models is None
    notes = {name: each.notes for name, each in turned.items() if each.notes is not None}
    return Plan(
        base=replace(found, base=base),
        decision=None
        if is_decided
        else service.status.model_copy(
            update=frozen | ({} if models is None else {"models": models})
        ),
        apply=(
            *children.access(service),
            children.routing_config_map(service, routed.tables),
            *_engines(observed, pools, release, settings),
            gateway.deployment(service, settings),
            gateway.front(service),
            gateway.disruption_budget(service),
            *(engine.disruption_budget(service, pool.name) for pool in pools),
            *network.policies(service, settings),
            *network.exposure(service, settings),
            *(config_map(service, model, each) for model, each in sorted(notes.items())),
        ),
        delete=(
            *leftovers,
            *outdated(service, observed.evidence, notes),
            *_unwanted(observed.pods, pools),
        ),
        routing=replace(routing, models=with_failures(service, routing.models)),
        release=release,
        pools=pools,
        present=base,
        base_change=routed.ruling,
        unloadable=unloadable(observed.pods.engines, observed.reports),
        announced=rollouts.announced(service, turned.values(), observed.versions),
        promoted=rollouts.promotions(service, turned.values()),
        drift_plans={n: each.drift_plan for n, each in turned.items() if each.drift_plan},
        again_after=soonest(routed.again_after, *(each.again_after for each in turned.values())),
    )


def _engines(
    observed: Observed, pools: tuple[Pool, ...], release: FrozenRelease, settings: Settings
) -> Iterator[Manifest]:
    for pool in pools:
        made_of = engine.EnginePlan(
            observed.service, pool.base, release, settings, pool.name, pool.table_key
        )
        yield engine.deployment(made_of, observed.pods.engines_of(pool.name))


def _unwanted(pods: Pods, pools: tuple[Pool, ...]) -> tuple[Manifest, ...]:
    """The engines of bases that are not in the table any more: begun answers may finish there."""
    wanted = {pool.name for pool in pools}
    found = (*pods.engine_deployments, *pods.engine_budgets)
    return tuple(each for each in found if pool_name(each) not in wanted)


def decided(
    service: InferenceService, turned: Mapping[str, Turned]
) -> list[ServedModelStatus] | None:
    """The models of status with what was decided about rollouts; None where nothing new was."""
    before = {m.name: m for m in service.status.models}
    fresh = {n: t for n, t in turned.items() if rollouts.started(before.get(n), t)}
    if not fresh:
        return None
    return [
        m.model_copy(
            update={
                "rollout": fresh[m.name].record.rollout,
                "last_rollback": fresh[m.name].record.last_rollback,
                "decisions": list(fresh[m.name].record.rulings),
            }
        )
        if m.name in fresh
        else m
        for m in service.status.models
    ]


def unloadable(
    pods: tuple[Manifest, ...], reports: Mapping[str, AgentReport | None]
) -> dict[str, Finding]:
    """What a new engine cannot load, by its pod: it does not join while others can answer."""
    found = {}
    for pod in pods:
        report = reports.get(agent_address(pod) or "")
        states = report.adapters if report and not is_ready(pod) else []
        failed = next((s for s in states if s.state == FAILED), None)
        if failed is not None:
            reason = failed.reason or ServiceReason.LOAD_FAILED
            why = failed.message or "no cause given"
            message = f"{failed.version} cannot be loaded on {name_of(pod)}: {why}"
            found[name_of(pod)] = Finding(reason, message)
    return found


def observe_parts(service: InferenceService, todo: Plan, pods: Pods, now: datetime) -> Parts:
    """How engines, adapters and gateways are."""
    routes = todo.routing.models if todo.routing else ()
    keys = service.spec.gateway.api_keys
    return Parts(
        engine=_engine_health(service, todo, pods, now),
        adapters=adapters(service, routes),
        gateway=health(
            Part(
                "gateway",
                ServiceReason.GATEWAY_READY,
                service.spec.gateway.replicas,
                pods.gateway_deployment,
                pods.gateways,
                keys.secret_name if keys else None,
            ),
            now,
        ),
    )


def _engine_health(service: InferenceService, todo: Plan, pods: Pods, now: datetime) -> Answer:
    """How the engines are that answer the base's name; of those of another base, its route tells."""
    pool = _serving(todo)
    if pool is None:
        change = todo.base_change
        message = change.message if change else "its engines are being started"
        return Answer(False, ServiceReason.REPLACING_ENGINES, message)
    part = Part(
        "engine",
        ServiceReason.ENGINE_READY,
        engine.replicas(service),
        pods.engines_of(pool),
        pods_of_pool(pods.engines, pool),
        told=todo.unloadable,
    )
    return health(part, now)


def _serving(todo: Plan) -> str | None:
    """The pool that answers the base's name."""
    digest = todo.present.digest if todo.present else None
    return next((pool.name for pool in todo.pools if pool.base.digest == digest), None)


def _scaled(todo: Plan) -> str:
    """The pool that autoscalers look at: what answers, or what is to answer where nothing does."""
    return _serving(todo) or next((pool.name for pool in todo.pools), FIRST)


def to_ask(service: InferenceService, todo: Plan, parts: Parts) -> tuple[str, ...]:
    """The public names that a real request has to be sent to now."""
    return unproven(service, todo.routing.models, parts) if todo.routing else ()


def conclude(
    service: InferenceService,
    todo: Plan,
    pods: Pods,
    answers: Mapping[str, ProbeAnswer],
    settings: Settings,
    now: datetime,
) -> Conclusion:
    """What to say about the service as it is after the plan was carried out."""
    if todo.routing is None:
        return _without_base(service, todo, settings, now)
    parts = observe_parts(service, todo, pods, now)
    asked = to_ask(service, todo, parts)
    routes = todo.routing.models
    ready = readiness(parts, routes, asked, answers)
    said = {
        "EngineReady": parts.engine,
        "AdaptersReady": parts.adapters,
        "GatewayReady": parts.gateway,
        "Ready": ready,
        **rollouts.answers(service, routes),
    }
    facts = Facts(
        url=network.url(service, settings),
        base=todo.base.base,
        release=todo.release,
        replicas=int(get(pods.engines_of(_scaled(todo)), "status", "replicas", default=0)),
        pool=_scaled(todo),
        routes=routes,
        pools=tuple(told(todo.pools)),
        base_change=todo.base_change,
    )
    sandbox = SANDBOX_EXPECTED_WITHIN if waits_for_sandbox(pods.gateways) else None
    reported = report(service, said, facts, now)
    since = find(reported.status.conditions, "Ready")
    unready_for = now - (moment_of(since.last_transition_time) or now) if since else timedelta()
    scheduled = settles_in((*pods.engines, *pods.gateways), now)
    asked_again = _asked_again_after(ready, unready_for)
    again = soonest(asked_again, sandbox, scheduled, todo.again_after)
    return Conclusion(reported, Done(again))


def refused(
    service: InferenceService, concluded: Conclusion, faults: list[str], now: datetime
) -> Conclusion:
    """The conclusion when the cluster did not accept every child."""
    told = Answer(False, ServiceReason.CHILD_REFUSED, "; ".join(faults))
    before = concluded.report.status
    as_before = service.model_copy(update={"status": before})
    facts = Facts(url=before.url or "", replicas=before.replicas)
    again = report(as_before, {"Ready": told}, facts, now)
    events = (*concluded.report.events, *again.events)
    return Conclusion(Report(again.status, events), Retry(told.message))


def _without_base(
    service: InferenceService, todo: Plan, settings: Settings, now: datetime
) -> Conclusion:
    finding = todo.base.finding
    reason = finding.reason if finding else ServiceReason.PREPARING_BASE
    message = finding.message if finding else "the base is not known yet"
    fault = Answer(None if finding is None or finding.is_unknown else False, reason, message)
    waits = Answer(None, ServiceReason.WAITS_FOR_BASE, "nothing can be started without the base")
    said = {"EngineReady": fault, "AdaptersReady": waits, "GatewayReady": waits, "Ready": fault}
    facts = Facts(url=network.url(service, settings))
    again = ASKED_AGAIN_LATER if reason == FailureReason.REGISTRY_UNREACHABLE else None
    again = soonest(again, todo.base.again_after)
    return Conclusion(report(service, said, facts, now), Done(again))


def _asked_again_after(ready: Answer, unready_for: timedelta) -> timedelta | None:
    """Soon at first, then ever more seldom: asking is a real request to every name."""
    if ready.reason == ServiceReason.PROBE_FAILED:
        return ASKED_AGAIN_LATER
    if ready.reason == ServiceReason.PROBING:
        return min(max(unready_for / 2, ASKED_AGAIN_SOON), ASKED_AGAIN_LATER)
    return None
