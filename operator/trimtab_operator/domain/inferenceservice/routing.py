"""The routing table as a pure function of what is wanted, what is loaded and what was served.

What must never happen: weight on a version that some ready engine has not loaded while another
one could answer; a good version taken away because its successor is not good. Hence a version
travels one way only:

    wanted and fit --> in the table with weight 0 (agents load it)
                   --> Loaded on every ready engine: weight 100
                   --> replaced: weight 0, still loaded, so that requests under way and gateways
                       that have not seen the new table yet are answered, and a way back is at hand
                   --> gone as soon as another version enters

What people have decided against is not wanted. If it has the requests already, it keeps them until
something else that is wanted can be served: a decision about one version is no order to serve none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import (
    AdapterState,
    AgentReport,
    EngineAddress,
    RoutedModel,
    RoutedVersion,
    RoutingTable,
)
from trimtab_api.v1alpha1.inferenceservice import InferenceService, ServedModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind, ModelVersion
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.consent import Consent, remark
from trimtab_operator.domain.inferenceservice.versions import Fit, Versions, misfit, wanted
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy

LOADED = "Loaded"
FAILED = "Failed"


@dataclass(frozen=True)
class Base:
    """The model that the engines hold; `version` is what status and the answer's header call it."""

    version: str
    digest: str
    uri: str


@dataclass(frozen=True)
class EnginePod:
    """A ready engine pod and what its agent last said; None until it has said anything."""

    name: str
    address: str
    report: AgentReport | None = None

    @property
    def is_counted(self) -> bool:
        """An agent that says its engine is down takes no part; a silent one is waited for."""
        return self.report is None or self.report.engine_ready


@dataclass(frozen=True)
class ModelRoute:
    """What stands behind one public name, and why it is not what was asked for."""

    name: str
    active: str | None
    candidate: str | None = None
    finding: Finding | None = None
    note: str | None = None


@dataclass(frozen=True)
class Routing:
    """A table and its explanation."""

    table: RoutingTable
    models: tuple[ModelRoute, ...]


@dataclass(frozen=True)
class Known:
    """What all models of one decision have in common."""

    versions: Versions
    engines: tuple[EnginePod, ...]
    fit: Fit
    demands_signatures: bool = False


def route(
    service: InferenceService,
    base: Base,
    versions: Versions,
    engines: Sequence[EnginePod],
    previous: RoutingTable | None,
    *,
    plain_http: bool = False,
    policy: NamespacePolicy = NO_RULES,
) -> Routing:
    """Decide the table. Same inputs, same table; deciding twice changes nothing."""
    served_before = _served_before(previous, base)
    consent = Consent.of(policy, _in_use(service, base, served_before))
    known = Known(
        versions=versions,
        engines=tuple(sorted(engines, key=lambda e: e.name)),
        fit=Fit(base.digest, service.spec.engine.adapters.max_rank, consent),
        demands_signatures=service.spec.signatures is not None,
    )
    entries: list[RoutedModel] = [_routed_base(service, base)]
    explained: list[ModelRoute] = [ModelRoute(service.spec.base_model.name, base.version)]
    for model in service.spec.models:
        if model.name == service.spec.base_model.name:
            continue  # refused at admission; the base's own name always means the base
        entry, explanation = _route_model(model, served_before.get(model.name, ()), known)
        entries.append(entry)
        explained.append(explanation)
    table = RoutingTable(
        namespace=service.metadata.namespace,
        service=service.metadata.name,
        base_digest=base.digest,
        plain_http=plain_http,
        engines=[EngineAddress(name=e.name, address=e.address) for e in known.engines],
        models=entries,
    )
    return Routing(table, tuple(explained))


def with_base(routing: Routing, version: ModelVersion, policy: NamespacePolicy) -> Routing:
    """The engines hold the base, whatever was decided about it; what was decided is said."""
    base, *models = routing.models
    consent = Consent.of(policy, frozenset([version.metadata.name]))
    told = replace(base, finding=consent.against(version), note=remark(version))
    return replace(routing, models=(told, *models))


def active_version(model: RoutedModel | None) -> RoutedVersion | None:
    """The version that has the requests."""
    return next((v for v in model.versions if v.weight > 0), None) if model else None


def routed(version: ModelVersion) -> RoutedVersion:
    """The version as it enters the table: loaded, and without requests."""
    evaluation, signature = version.status.evaluation, version.status.signature
    return RoutedVersion(
        version=version.metadata.name,
        digest=version.spec.artifact.digest,
        kind=version.spec.artifact.kind,
        uri=version.spec.artifact.uri,
        report=evaluation.report if evaluation else version.spec.evaluation.report,
        signature=signature.bundle if signature else None,
        rank=version.spec.artifact.rank,
    )


def _served_before(
    previous: RoutingTable | None, base: Base
) -> dict[str, tuple[RoutedVersion, ...]]:
    if previous is None or previous.base_digest != base.digest:
        return {}  # adapters of another base are of no use here
    return {m.name: tuple(m.versions) for m in previous.models}


def _in_use(
    service: InferenceService, base: Base, before: dict[str, tuple[RoutedVersion, ...]]
) -> frozenset[str]:
    """What has the requests now, by whichever of the two records is there."""
    told = (m.active_version for m in service.status.models)
    active = (v.version for versions in before.values() for v in versions if v.weight > 0)
    return frozenset([base.version, *active, *(name for name in told if name)])


def _routed_base(service: InferenceService, base: Base) -> RoutedModel:
    version = RoutedVersion(
        version=base.version, digest=base.digest, kind=ArtifactKind.FULL, uri=base.uri, weight=100
    )
    return RoutedModel(name=service.spec.base_model.name, versions=[version])


def _route_model(
    model: ServedModel, before: tuple[RoutedVersion, ...], known: Known
) -> tuple[RoutedModel, ModelRoute]:
    active = next((v for v in before if v.weight > 0), None)
    resident = next((v for v in before if v.weight == 0), None)
    found = wanted(model, known.versions, known.fit.consent)
    fault = found if isinstance(found, Finding) else misfit(found, known.fit)
    if isinstance(found, Finding) or fault is not None:
        return _kept(model, active, resident, known, fault)
    target = routed(found)
    if active is not None and _same(active, target):
        refreshed = target.model_copy(update={"weight": active.weight})
        return _kept(model, refreshed, resident, known, _unloaded(target, known))
    pending = _unloaded(target, known)
    if pending is None:
        return _flipped(model, target, active, known)
    versions = ([active] if active else []) + [target]
    explanation = ModelRoute(
        model.name, active.version if active else None, target.version, pending
    )
    return RoutedModel(name=model.name, versions=versions), explanation


def _kept(
    model: ServedModel,
    active: RoutedVersion | None,
    resident: RoutedVersion | None,
    known: Known,
    finding: Finding | None,
) -> tuple[RoutedModel, ModelRoute]:
    """What was served goes on; a second version stays loaded only while it can still be of use."""
    kept = [active] if active else []
    if active and resident and _is_useful(resident, known):
        kept.append(resident)
    return (
        RoutedModel(name=model.name, versions=kept),
        ModelRoute(
            model.name,
            active.version if active else None,
            finding=finding,
            note=_note(active, known) if active else None,
        ),
    )


def _flipped(
    model: ServedModel, target: RoutedVersion, active: RoutedVersion | None, known: Known
) -> tuple[RoutedModel, ModelRoute]:
    versions = [target.model_copy(update={"weight": 100})]
    if active is not None and active.version != target.version:
        versions.append(active.model_copy(update={"weight": 0}))
    explanation = ModelRoute(model.name, target.version, note=_note(target, known))
    return RoutedModel(name=model.name, versions=versions), explanation


def _is_useful(resident: RoutedVersion, known: Known) -> bool:
    version = known.versions.get(resident.version)
    if version is None or version.spec.artifact.digest != resident.digest:
        return False
    states = (_state(engine, resident) for engine in known.engines)
    return misfit(version, known.fit) is None and not any(s and s.state == FAILED for s in states)


def _same(left: RoutedVersion, right: RoutedVersion) -> bool:
    return (left.version, left.digest) == (right.version, right.digest)


def _unloaded(version: RoutedVersion, known: Known) -> Finding | None:
    """Why the version cannot be relied upon yet; None when every ready engine has loaded it."""
    counted = [e for e in known.engines if e.is_counted]
    if not counted:
        return Finding(
            ServiceReason.NO_ENGINE_READY, f"{version.version} waits for an engine that is ready"
        )
    states = [(e.name, _state(e, version)) for e in counted]
    for engine, state in states:
        if state is not None and state.state == FAILED:
            return Finding(
                state.reason or ServiceReason.LOAD_FAILED,
                f"{version.version} cannot be loaded on {engine}: {state.message or 'no cause given'}",
            )
    if known.demands_signatures and (unaware := _unaware(counted)):
        return unaware
    silent = [e.name for e in counted if e.report is None]
    waiting = [name for name, state in states if state is None or state.state != LOADED]
    if waiting and waiting == silent:
        return Finding.unknown(
            ServiceReason.AGENT_SILENT,
            f"{version.version}: no word yet from {', '.join(silent)[:256]}",
        )
    if waiting:
        return Finding(
            ServiceReason.LOADING,
            f"{version.version} is loaded on {len(counted) - len(waiting)} of {len(counted)} engines",
        )
    return None


def _unaware(engines: Sequence[EnginePod]) -> Finding | None:
    """Engines that would load anything: what only they have looked at is not relied upon."""
    names = [e.name for e in engines if e.report and not e.report.verifies_signatures]
    if not names:
        return None
    return Finding(
        ServiceReason.SIGNATURES_NOT_VERIFIED,
        f"{', '.join(names)[:256]} does not verify signatures yet; an engine of an older release never will: "
        "move it by the annotation trimtab.dev/engine-release",
    )


def _note(version: RoutedVersion, known: Known) -> str | None:
    """What people or an agent have to say about a version that is served all the same."""
    states = (_state(engine, version) for engine in known.engines)
    noted = next((s.message for s in states if s and s.state == LOADED and s.reason), None)
    return remark(known.versions.get(version.version)) or noted


def _state(engine: EnginePod, version: RoutedVersion) -> AdapterState | None:
    adapters = engine.report.adapters if engine.report else []
    return next(
        (a for a in adapters if (a.version, a.digest) == (version.version, version.digest)), None
    )
