"""The routing table as a pure function of what is wanted, what is loaded and what was served.

What must never happen: weight on a version that some ready engine has not loaded while another
one could answer; a good version taken away because its successor is not good. Hence a version
travels one way only:

    wanted and fit --> in the table with weight 0 (agents load it)
                   --> Loaded on every ready engine: weight 100
                   --> replaced: weight 0, still loaded, so that requests under way and gateways
                       that have not seen the new table yet are answered, and a way back is at hand
                   --> gone as soon as another version enters

With a rollout the way from weight 0 to 100 has steps: the table follows what `rollout` has decided and
status already says, and begins nothing by itself.

The base goes the same way while another one is to take its place: its versions are on engines of
their own, and the one before stays only as long as it is a way back, since it costs those engines.
The adapters of all names go with it, each version on the engines of its own base, and have its shares.

What people have decided against is not wanted. If it has the requests already, it keeps them until
something else that is wanted can be served: a decision about one version is no order to serve none.
What must not be served at all (rolled back, quarantined) gives way to the version before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import (
    EngineAddress,
    RoutedModel,
    RoutedVersion,
    RoutingTable,
)
from trimtab_api.v1alpha1.inferenceservice import InferenceService, ServedModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind, ModelVersion
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.companions import route_with
from trimtab_operator.domain.inferenceservice.consent import Consent, remark
from trimtab_operator.domain.inferenceservice.course import (
    NOWHERE,
    STRAIGHT,
    Change,
    Course,
    Direction,
)
from trimtab_operator.domain.inferenceservice.loads import (
    PASSING,
    EnginePod,
)
from trimtab_operator.domain.inferenceservice.routes import (
    Base,
    Known,
    ModelRoute,
    Routing,
    routed,
    served,
)
from trimtab_operator.domain.inferenceservice.standing import (
    covers_base,
    gives_way,
    is_barred,
    is_useful,
    lacking,
    note_about,
    still_lacking,
)
from trimtab_operator.domain.inferenceservice.versions import Fit, Versions, misfit, wanted
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy


def route(  # noqa: PLR0913 - what the table rests on
    service: InferenceService,
    base: Base,
    versions: Versions,
    engines: Sequence[EnginePod],
    previous: RoutingTable | None,
    *,
    plain_http: bool = False,
    policy: NamespacePolicy = NO_RULES,
    directions: Mapping[str, Direction] = NOWHERE,
    change: Change | None = None,
) -> Routing:
    """Decide the table. Same inputs, same table; deciding twice changes nothing."""
    served_before = served(previous, base)
    consent = Consent.of(policy, _in_use(service, base, served_before))
    known = Known(
        versions=versions,
        engines=tuple(sorted(engines, key=lambda e: e.name)),
        fit=Fit(base.digest, service.spec.engine.adapters.max_rank, consent),
        signatures=service.spec.signatures,
        directions=directions,
    )
    entry, explanation = _route_base(service, base, served_before, known, change)
    entries, explained = [entry], [explanation]
    is_changing = len(entry.versions) > 1
    answers = _active(entry.versions)
    base_now = answers.digest if answers else base.digest
    companions = change.companions if change else ()
    for model in service.spec.models:
        if model.name == service.spec.base_model.name:
            continue  # refused at admission; the base's own name always means the base
        before = served_before.get(model.name, ())
        if is_changing:
            moving = next((m for m in companions if m.name == model.name), None)
            found = route_with(entries[0], explained[0], model.name, before, moving, known)
            entry, explanation = found or _put_off(model)
        else:
            entry, explanation = _route_model(model, _over(base_now, before), known)
        salt = known.salt(service.spec.base_model.name if is_changing else model.name)
        entries.append(entry.model_copy(update={"salt": salt}))
        explained.append(explanation)
    table = RoutingTable(
        namespace=service.metadata.namespace,
        service=service.metadata.name,
        base_digest=base_now,
        plain_http=plain_http,
        engines=[EngineAddress(name=e.name, address=e.address) for e in known.engines],
        models=entries,
    )
    return Routing(table, tuple(explained))


def with_base(routing: Routing, version: ModelVersion, policy: NamespacePolicy) -> Routing:
    """The engines hold the base, whatever was decided about it; what was decided is said."""
    base, *models = routing.models
    consent = Consent.of(policy, frozenset([version.metadata.name]))
    finding = consent.against(version) or base.finding
    told = replace(base, finding=finding, note=remark(version))
    return replace(routing, models=(told, *models))


def active_version(model: RoutedModel | None) -> RoutedVersion | None:
    """The version that has the requests."""
    return _active(model.versions) if model else None


def _in_use(
    service: InferenceService, base: Base, before: dict[str, tuple[RoutedVersion, ...]]
) -> frozenset[str]:
    """What has the requests now, by whichever of the two records is there."""
    told = (m.active_version for m in service.status.models)
    active = (_active(versions) for versions in before.values())
    names = (version.version for version in active if version is not None)
    return frozenset([base.version, *names, *(name for name in told if name)])


def _routed_base(
    service: InferenceService, base: Base, known: Known
) -> tuple[RoutedModel, ModelRoute]:
    """The base has its requests from the first day on; where it must be signed, engines say if it is."""
    name = service.spec.base_model.name
    version = RoutedVersion(
        version=base.version, digest=base.digest, kind=ArtifactKind.FULL, uri=base.uri, weight=100
    )
    if not covers_base(known):
        return RoutedModel(name=name, versions=[version]), ModelRoute(name, base.version)
    version = version.model_copy(update={"report": base.report, "signature": base.signature})
    known = replace(known, fit=replace(known.fit, is_base=True))
    explained = ModelRoute(name, base.version, finding=lacking(version, known))
    return RoutedModel(name=name, versions=[version]), explained


def _route_base(
    service: InferenceService,
    base: Base,
    served_before: Mapping[str, tuple[RoutedVersion, ...]],
    known: Known,
    change: Change | None,
) -> tuple[RoutedModel, ModelRoute]:
    """The base answers its name; another one comes as any version does, once it has engines."""
    plain, explained = _routed_base(service, base, known)
    if change is None:
        return plain, explained
    # The same content may be known by another name since.
    before = tuple(
        _vouched(
            v.model_copy(update={"version": base.version}) if v.digest == base.digest else v, known
        )
        for v in served_before.get(plain.name) or plain.versions
    )
    known = replace(
        known,
        fit=replace(known.fit, is_base=True, is_way_back=change.is_way_back),
        lacking=change.lacking,
        companions=change.companions,
    )
    if change.hold is not None:
        return _held(change.model, before, known, change.hold)
    entry, explanation = _route_model(change.model, before, known)
    salt = known.salt(plain.name)
    return entry.model_copy(update={"salt": salt}), explanation


def _held(
    model: ServedModel, before: tuple[RoutedVersion, ...], known: Known, hold: Finding
) -> tuple[RoutedModel, ModelRoute]:
    """The present base goes on; what has just lost its requests finishes what is under way."""
    active = _active(before)
    other = next((v for v in before if v is not active), None)
    active = active.model_copy(update={"weight": 100}) if active else None
    other = other.model_copy(update={"weight": 0}) if other else None
    direction = known.directions.get(model.name, STRAIGHT)
    known = replace(_steered(known, direction), has_course=False)
    return _kept(model, active, other, known, hold)


def _vouched(version: RoutedVersion, known: Known) -> RoutedVersion:
    """With what vouches for it now: that bases must be signed may be asked for in the middle of a change."""
    there = known.versions.get(version.version)
    if not covers_base(known) or there is None or there.spec.artifact.digest != version.digest:
        return version
    proof = routed(there)
    return version.model_copy(update={"report": proof.report, "signature": proof.signature})


def _over(base: str, versions: tuple[RoutedVersion, ...]) -> tuple[RoutedVersion, ...]:
    """Those that engines of this base can have."""
    return tuple(v for v in versions if v.base in (None, base))


def _put_off(model: ServedModel) -> tuple[RoutedModel, ModelRoute]:
    """No adapter begins on engines of which nobody knows yet whether they stay."""
    waits = Finding(
        ServiceReason.BASE_CHANGING, "it is loaded once the change of spec.baseModel is over"
    )
    return RoutedModel(name=model.name, versions=[]), ModelRoute(model.name, None, finding=waits)


def _route_model(
    model: ServedModel, before: tuple[RoutedVersion, ...], known: Known
) -> tuple[RoutedModel, ModelRoute]:
    active = _active(before)
    resident = next((v for v in before if v is not active), None)
    resident = resident.model_copy(update={"weight": 0}) if resident else None
    direction = known.directions.get(model.name, STRAIGHT)
    known = _steered(known, direction)
    resident = resident or _way_back(active, direction.course, known)
    if active is not None:
        active = active.model_copy(update={"weight": 100})
        if direction.pin is not None:
            return _pinned(model, active, resident, known, direction.pin)
    found = wanted(model, known.versions, known.fit.consent, known.fit.base_digest)
    fault = found if isinstance(found, Finding) else misfit(found, known.fit)
    if active is not None and resident is not None and gives_way(active, resident, known):
        return _returned(model, active, resident, known, fault)
    if isinstance(found, Finding) or fault is not None:
        return _kept(model, active, resident, known, fault)
    target, course = routed(found), direction.course
    if active is not None and _same(active, target):
        refreshed = target.model_copy(update={"weight": 100})
        return _kept(model, refreshed, resident, known, lacking(target, known))
    pending = still_lacking(target, course, known)
    if active is not None and course is not None and course.is_of(active, target):
        if course.weight < 100 or pending is not None:
            return _shared(model, active, target, course, pending)
    elif active is not None and pending is None and model.rollout and not is_barred(active, known):
        return _shared(model, active, target, None, None)
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
    if active and resident and is_useful(resident, known):
        kept.append(resident)
    return (
        RoutedModel(name=model.name, versions=kept),
        ModelRoute(
            model.name,
            active.version if active else None,
            finding=finding,
            note=note_about(active, known) if active else None,
        ),
    )


def _flipped(
    model: ServedModel, target: RoutedVersion, active: RoutedVersion | None, known: Known
) -> tuple[RoutedModel, ModelRoute]:
    versions = [target.model_copy(update={"weight": 100})]
    if active is not None and active.version != target.version:
        versions.append(active.model_copy(update={"weight": 0}))
    explanation = ModelRoute(model.name, target.version, note=note_about(target, known))
    return RoutedModel(name=model.name, versions=versions), explanation


def _shared(
    model: ServedModel,
    active: RoutedVersion,
    target: RoutedVersion,
    course: Course | None,
    pending: Finding | None,
) -> tuple[RoutedModel, ModelRoute]:
    """The candidate has the share of its step; what an engine cannot load has none."""
    weight = min(course.weight, 99) if course else 0
    if pending is not None and pending.reason not in PASSING:
        weight = 0
    versions = [
        active.model_copy(update={"weight": 100 - weight}),
        target.model_copy(update={"weight": weight}),
    ]
    explanation = ModelRoute(
        model.name,
        active.version,
        target.version,
        pending,
        weight=weight,
        begins=None if course else (active, target),
    )
    return RoutedModel(name=model.name, versions=versions), explanation


def _returned(
    model: ServedModel,
    bad: RoutedVersion,
    good: RoutedVersion,
    known: Known,
    finding: Finding | None,
) -> tuple[RoutedModel, ModelRoute]:
    """The version before takes over; the other one stays loaded for what is under way on it."""
    versions = [
        good.model_copy(update={"weight": 100}),
        bad.model_copy(update={"weight": 0}),
    ]
    explanation = ModelRoute(
        model.name, good.version, finding=finding, note=note_about(good, known)
    )
    return RoutedModel(name=model.name, versions=versions), explanation


def _pinned(
    model: ServedModel,
    active: RoutedVersion,
    resident: RoutedVersion | None,
    known: Known,
    note: str,
) -> tuple[RoutedModel, ModelRoute]:
    entry, explanation = _kept(model, active, resident, known, lacking(active, known))
    return entry, replace(explanation, note=note)


def _steered(known: Known, direction: Direction) -> Known:
    consent = replace(known.fit.consent, barred=direction.barred)
    return replace(
        known,
        fit=replace(known.fit, consent=consent),
        leaving=direction.leaving,
        has_course=direction.course is not None,
    )


def _active(versions: Sequence[RoutedVersion]) -> RoutedVersion | None:
    """The version that has the requests; of two in a rollout the stable one, which stands first."""
    return next((v for v in versions if v.weight > 0), None)


def _way_back(
    active: RoutedVersion | None, course: Course | None, known: Known
) -> RoutedVersion | None:
    """What a guarded version would go back to is loaded again, where the table has forgotten it."""
    if active is None or course is None or course.candidate != active.digest:
        return None
    versions = (v for v in known.versions.values() if v.spec.artifact.digest == course.stable)
    return next((routed(version) for version in versions), None)


def _same(left: RoutedVersion, right: RoutedVersion) -> bool:
    return (left.version, left.digest) == (right.version, right.digest)
