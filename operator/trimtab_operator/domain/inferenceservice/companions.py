"""What moves with a base: the adapters of the names that are served over it.

    names that are served --> for each the version over the new base --> one share for all of them
          |
          +--> one has none that may be served --> the base stays, and the name is told

An adapter fits one base, so that a name needs another adapter as soon as another base answers. What
must never happen: a name that is left without one because its base goes, and two names of which one
is a step ahead of the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from trimtab_api.reasons import ServiceReason
from trimtab_api.routing import RoutedModel, RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_api.v1alpha1.rollout import Companion, RolloutStatus
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.consent import Consent, quarantined
from trimtab_operator.domain.inferenceservice.course import NOWHERE, STRAIGHT, Direction, Moving
from trimtab_operator.domain.inferenceservice.routes import Known, ModelRoute, routed
from trimtab_operator.domain.inferenceservice.standing import adapter_lacking, note_about
from trimtab_operator.domain.inferenceservice.versions import Fit, Versions, misfit, wanted

Served = Mapping[str, Sequence[RoutedVersion]]
_NAMED: Final = 3


@dataclass(frozen=True)
class Company:
    """The names that move with the base, and those that cannot and why."""

    moving: tuple[Moving, ...] = ()
    lacking: Mapping[str, Finding] = field(default_factory=dict)

    def missing(self, base: str, present: str) -> Finding | None:
        """Why the base stays as it is."""
        if not self.lacking:
            return None
        found = sorted(self.lacking.items())
        causes = "; ".join(f"{name}: {finding.message}" for name, finding in found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        # The remedy first: there may be many names.
        return Finding(
            ServiceReason.BASE_IN_USE,
            f"{', '.join(self.lacking)[:128]}: served over {present} and by no adapter of {base} yet; give each one, "
            f"remove it from spec.models, or name {present} in spec.baseModel.modelVersion again: {causes}{more}",
        )


def served_models(service: InferenceService) -> tuple[ServedModel, ...]:
    """The names that adapters stand behind."""
    # A model with the base's name is refused at admission; the name always means the base.
    return tuple(m for m in service.spec.models if m.name != service.spec.base_model.name)


def with_bases(table: RoutingTable | None) -> RoutingTable | None:
    """The table with the base of each adapter: one of an earlier release says it once for all."""
    if table is None:
        return None
    models = [
        m.model_copy(update={"versions": [_over(v, table.base_digest) for v in m.versions]})
        for m in table.models
    ]
    return table.model_copy(update={"models": models})


def company(
    service: InferenceService,
    base: ModelVersion,
    served: Served,
    versions: Versions,
    consent: Consent,
    directions: Mapping[str, Direction] = NOWHERE,
) -> Company:
    """For each name that is served, the version over the new base; what serves nobody may wait."""
    digest = base.spec.artifact.digest
    moving, lacking = list[Moving](), dict[str, Finding]()
    for model in served_models(service):
        stable = next((v for v in served.get(model.name, ()) if v.weight > 0), None)
        if stable is None:
            continue
        direction = directions.get(model.name, STRAIGHT)
        agreed = replace(consent, barred=direction.barred)
        fit = Fit(digest, service.spec.engine.adapters.max_rank, agreed)
        found = _pinned(direction) or wanted(model, versions, agreed, digest)
        fault = found if isinstance(found, Finding) else misfit(found, fit)
        if fault is not None:
            lacking[model.name] = fault
        elif not isinstance(found, Finding):
            moving.append(Moving(model.name, stable, routed(found)))
    return Company(tuple(moving), lacking)


def recorded(status: RolloutStatus, served: Served, versions: Versions) -> tuple[Moving, ...]:
    """What began to move together goes on together, whatever has come since."""
    found = []
    for told in status.companions:
        held = {v.digest: v for v in served.get(told.name, ())}
        known = {v.spec.artifact.digest: routed(v) for v in versions.values()}
        stable = held.get(told.stable_digest) or known.get(told.stable_digest)
        candidate = known.get(told.candidate_digest) or held.get(told.candidate_digest)
        if stable is not None and candidate is not None:
            found.append(Moving(told.name, stable, candidate))
    return tuple(found)


def told(moving: Iterable[Moving]) -> list[Companion]:
    """The same for status."""
    return [
        Companion(
            name=m.name,
            stable=m.stable.version,
            stable_digest=m.stable.digest,
            candidate=m.candidate.version,
            candidate_digest=m.candidate.digest,
        )
        for m in moving
    ]


def fallen(
    service: InferenceService,
    status: RolloutStatus,
    versions: Versions,
    consent: Consent,
    directions: Mapping[str, Direction],
) -> str | None:
    """Why those that move together cannot go on; what is in quarantine has its own end."""
    models = {m.name: m for m in served_models(service)}
    rank = service.spec.engine.adapters.max_rank
    for each in status.companions:
        model, direction = models.get(each.name), directions.get(each.name, STRAIGHT)
        version = versions.get(each.candidate)
        barred = direction.barred.get(each.candidate_digest)
        is_isolated = barred is not None and barred.reason == ServiceReason.VERSION_QUARANTINED
        if model is None or is_isolated or (version is not None and quarantined(version)):
            continue
        if direction.pin is not None and status.promoted is None:
            return f"{each.name} is {direction.pin}"
        if model.version.name not in (None, each.candidate):
            return f"{each.name}: {model.version.name} is wanted now"
        if version is None or version.spec.artifact.digest != each.candidate_digest:
            return f"{each.name}: there is no ModelVersion {each.candidate} any more"
        fit = Fit(status.candidate_digest, rank, replace(consent, barred=direction.barred))
        if (fault := misfit(version, fit)) is not None:
            return f"{each.name}: {fault.message}"
    return None


def route_with(
    base: RoutedModel,
    told: ModelRoute,
    name: str,
    before: Sequence[RoutedVersion],
    moving: Moving | None,
    known: Known,
) -> tuple[RoutedModel, ModelRoute] | None:
    """The name with the shares that the base has; None of one that nothing answers yet."""
    versions = _shared(base, before, moving)
    active = next((v for v in versions if v.weight > 0), None)
    if active is None:
        return None
    other = next((v for v in versions if v is not active), None)
    candidate = other if told.candidate is not None else None
    explanation = ModelRoute(
        name,
        active.version,
        candidate.version if candidate else None,
        adapter_lacking(candidate or active, known),
        note=note_about(active, known),
        weight=told.weight if candidate else None,
    )
    return RoutedModel(name=name, versions=versions), explanation


def _shared(
    base: RoutedModel, before: Sequence[RoutedVersion], moving: Moving | None
) -> list[RoutedVersion]:
    """Each of the name's versions with the share of its own base."""
    held = {v.base: v for v in sorted(before, key=lambda v: v.weight)}
    if moving is not None:
        held |= {v.base: v for v in (moving.stable, moving.candidate)}
    found = [
        held[b.digest].model_copy(update={"weight": b.weight})
        for b in base.versions
        if b.digest in held
    ]
    if len(found) == 1:
        # Over one of the bases alone it has nobody to share with.
        return [found[0].model_copy(update={"weight": 100})]
    return found


def _pinned(direction: Direction) -> Finding | None:
    if direction.pin is None:
        return None
    return Finding(
        ServiceReason.BASE_IN_USE, f"{direction.pin}; ask for a Decision with action Resume"
    )


def _over(version: RoutedVersion, base: str) -> RoutedVersion:
    if version.kind is not ArtifactKind.ADAPTER or version.base is not None:
        return version
    return version.model_copy(update={"base": base})
