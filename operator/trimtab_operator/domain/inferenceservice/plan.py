"""What an InferenceService should have, and then what may be said about it.

Two pure steps, because the second rests on what came of the first: `plan` says what to write,
`conclude` judges what is there afterwards and how the models answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import FailureReason, ServiceReason
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_api.v1alpha1 import Decision, InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import (
    FrozenRelease,
    InferenceServiceStatus,
    ServedModelStatus,
)
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_operator.domain.conditions import find, moment_of
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.inferenceservice import children, engine, gateway, network, rollouts
from trimtab_operator.domain.inferenceservice.base import BasePlan, Preparation, resolve
from trimtab_operator.domain.inferenceservice.consent import Consent
from trimtab_operator.domain.inferenceservice.courses import Surroundings, Turned, begun, turns
from trimtab_operator.domain.inferenceservice.health import (
    SANDBOX_EXPECTED_WITHIN,
    Part,
    health,
    is_ready,
    waits_for_sandbox,
)
from trimtab_operator.domain.inferenceservice.loads import FAILED, EnginePod
from trimtab_operator.domain.inferenceservice.looks import Heard
from trimtab_operator.domain.inferenceservice.notes import config_map, stored_notes
from trimtab_operator.domain.inferenceservice.recall import recalled
from trimtab_operator.domain.inferenceservice.routing import (
    Base,
    Routing,
    route,
    with_base,
)
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
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of
from trimtab_operator.domain.observation import settles_in
from trimtab_operator.domain.outcome import Done, Outcome, Retry, soonest
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy
from trimtab_operator.settings import Settings

# A gateway sees a new table within milliseconds, a model that fails will go on failing for a while.
ASKED_AGAIN_SOON: Final = timedelta(milliseconds=250)
ASKED_AGAIN_LATER: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Pods:
    """What runs: Deployments and pods of engines and gateways."""

    engine_deployment: Manifest | None = None
    gateway_deployment: Manifest | None = None
    engines: tuple[Manifest, ...] = ()
    gateways: tuple[Manifest, ...] = ()


@dataclass(frozen=True)
class Observed:
    """Everything that the first decision rests on."""

    service: InferenceService
    versions: Mapping[str, ModelVersion] = field(default_factory=dict)
    base: ModelVersion | None = None
    preparation: Preparation = field(default_factory=Preparation)
    routing: Manifest | None = None
    pods: Pods = field(default_factory=Pods)
    reports: Mapping[str, AgentReport | None] = field(default_factory=dict)
    exposures: tuple[Manifest, ...] = ()
    policy: NamespacePolicy = NO_RULES
    # About names of this service; and the last Quarantine or LiftQuarantine of each digest.
    decisions: tuple[Decision, ...] = ()
    isolations: Mapping[str, Ruling] = field(default_factory=dict)
    evidence: Manifest | None = None
    heard: Mapping[str, Heard] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to write, in this order."""

    base: BasePlan
    decision: InferenceServiceStatus | None = None
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    routing: Routing | None = None
    release: FrozenRelease | None = None
    unloadable: Mapping[str, Finding] = field(default_factory=dict)
    # What the status decision tells of rollouts; afterwards it would be news no more.
    announced: tuple[Event, ...] = ()
    promoted: tuple[str, ...] = ()
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
    turned, routing = _routed(observed, found.base, settings, now)
    if observed.base is not None:
        routing = with_base(routing, observed.base, observed.policy)
    frozen = {
        "base_uri": found.base.uri,
        "base_digest": found.base.digest,
        "release": release,
    }
    is_frozen = all(getattr(service.status, k) == v for k, v in frozen.items())
    models = decided(service, turned)
    is_decided = is_frozen and models is None
    notes = {name: each.notes for name, each in turned.items() if each.notes is not None}
    has_notes = notes or stored_notes(observed.evidence)
    made_of = engine.EnginePlan(service, found.base, release, settings)
    return Plan(
        base=found,
        decision=None
        if is_decided
        else service.status.model_copy(
            update=frozen | ({} if models is None else {"models": models})
        ),
        apply=(
            *children.access(service),
            children.routing_config_map(service, routing.table),
            engine.deployment(made_of, observed.pods.engine_deployment),
            gateway.deployment(service, settings),
            gateway.front(service),
            *gateway.disruption_budgets(service),
            *network.policies(service, settings),
            *network.exposure(service, settings),
            *([config_map(service, notes)] if has_notes else []),
        ),
        delete=leftovers,
        routing=replace(routing, models=with_failures(service, routing.models)),
        release=release,
        unloadable=unloadable(observed.pods.engines, observed.reports),
        announced=rollouts.announced(service, turned.values(), observed.versions),
        promoted=rollouts.promotions(service, turned.values()),
        again_after=soonest(*(each.again_after for each in turned.values())),
    )


def _routed(
    observed: Observed, base: Base, settings: Settings, now: datetime
) -> tuple[dict[str, Turned], Routing]:
    """Each name's turn, and the table that follows from them."""
    service = observed.service
    engines = engine_pods(observed.pods.engines, observed.reports)
    written = children.read_table(observed.routing)
    previous = written or recalled(service, observed.versions, engines)
    around = Surroundings(
        versions=observed.versions,
        engines=engines,
        previous=previous if previous and previous.base_digest == base.digest else None,
        consent=Consent.of(observed.policy),
        decisions=observed.decisions,
        isolations=observed.isolations,
        notes=stored_notes(observed.evidence),
        heard=observed.heard,
    )
    turned = turns(service, around, now)

    def routing() -> Routing:
        return route(
            service,
            base,
            observed.versions,
            engines,
            previous,
            plain_http=settings.registry.plain_http,
            policy=observed.policy,
            directions={name: each.direction for name, each in turned.items()},
        )

    found = routing()
    waiting = {r.name: r.begins for r in found.models if r.begins is not None}
    if waiting:
        turned |= {n: begun(service, turned[n], pair, now) for n, pair in waiting.items()}
        found = routing()
    models = (
        replace(r, record=turned[r.name].record) if r.name in turned else r for r in found.models
    )
    return turned, replace(found, models=tuple(models))


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


def engine_pods(
    pods: tuple[Manifest, ...], reports: Mapping[str, AgentReport | None]
) -> list[EnginePod]:
    """The engines that gateways may know of, and what their agents say.

    A new one is ready only once the table names it, so that its agent's word has to do.
    """
    found = []
    for pod in pods:
        address = agent_address(pod)
        report = reports.get(address) if address else None
        if address and (is_ready(pod) or (report is not None and report.joins)):
            found.append(EnginePod(name_of(pod), address, report))
    return found


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


def agent_address(pod: Manifest) -> str | None:
    """host:port of the pod's agent, once the pod has an address and until it goes."""
    ip = get(pod, "status", "podIP")
    if not ip or is_deleting(pod):
        return None
    return f"[{ip}]:{names.PORT_AGENT}" if ":" in ip else f"{ip}:{names.PORT_AGENT}"


def observe_parts(service: InferenceService, todo: Plan, pods: Pods, now: datetime) -> Parts:
    """How engines, adapters and gateways are."""
    routes = todo.routing.models if todo.routing else ()
    keys = service.spec.gateway.api_keys
    return Parts(
        engine=health(
            Part(
                "engine",
                ServiceReason.ENGINE_READY,
                engine.replicas(service),
                pods.engine_deployment,
                pods.engines,
                told=todo.unloadable,
            ),
            now,
        ),
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
        replicas=int(get(pods.engine_deployment, "status", "replicas", default=0)),
        routes=routes,
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
