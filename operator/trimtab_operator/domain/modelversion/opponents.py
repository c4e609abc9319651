"""Whom a version is compared with: the champion, and the best version so far by each figure.

The champion is what users have now. The best so far is what keeps ten promotions from losing ten
margins: each version passes on a name per figure, its own only if it was surely better than the
one before, so that the name moves upwards or stays. Chosen once, before the evaluation begins.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.evaluated import BestVersion, Comparison
from trimtab_api.v1alpha1.evaluation import LESS_IS_BETTER, Gate, Metric, SuiteName
from trimtab_api.v1alpha1.modelversion import ArtifactKind, Contender, Opponents
from trimtab_operator.domain.conditions import is_true
from trimtab_operator.domain.modelversion import retention
from trimtab_operator.domain.modelversion.base import ResolvedBase, resolved


@dataclass(frozen=True)
class Field:
    """The other versions of the model, the services that have one of them, and the parent."""

    versions: Sequence[ModelVersion] = field(default=())
    services: Sequence[InferenceService] = field(default=())
    parent: ModelVersion | None = None


def compared(gates: Iterable[Gate]) -> list[Metric]:
    """The figures that are compared, each once, in the order of the gates."""
    return list(dict.fromkeys(gate.metric for gate in gates if gate.not_worse_than))


def are_due(version: ModelVersion) -> bool:
    """Whether opponents are to be chosen; a request to try again chooses anew."""
    known = version.status.opponents
    wanted = version.metadata.annotations.get(names.ANNOTATION_RETRY)
    if not (compared(version.spec.evaluation.gates) or parent_of(version)):
        return False
    return known is None or (wanted is not None and known.retry != wanted)


def parent_of(version: ModelVersion) -> str | None:
    """What a full version may have forgotten something of; an adapter has its base for that."""
    asked = {suite.name for suite in version.spec.evaluation.suites}
    return (
        version.spec.lineage.parent if SuiteName.FORGETTING in asked and _is_full(version) else None
    )


def chosen(version: ModelVersion, others: Field) -> Opponents:
    """The champion and the best so far, out of everybody who could be compared with."""
    able = [v for v in others.versions if _is_able(v) and v.metadata.name != version.metadata.name]
    ready = [v for v in able if _may_lead(v)]
    champion, reason = _champion(able, ready, others.services)
    best: list[BestVersion] = []
    if champion is not None:
        metrics = compared(version.spec.evaluation.gates)
        best = [
            BestVersion(metric=metric, version=found.metadata.name)
            for metric in metrics
            if (found := _best(metric, champion, ready))
        ]
    wanted = {b.version for b in best} | ({champion.metadata.name} if champion else set())
    parent = others.parent if others.parent and _is_full(others.parent) else None
    if parent is not None and _is_able(parent):
        able, wanted = [*able, parent], {*wanted, parent.metadata.name}
    else:
        parent = None
    return Opponents(
        champion=champion.metadata.name if champion else None,
        reason=reason,
        best=best,
        parent=parent.metadata.name if parent else None,
        contenders=[_contender(v) for v in _by_age(able) if v.metadata.name in wanted],
        retry=version.metadata.annotations.get(names.ANNOTATION_RETRY),
    )


def against(opponents: Opponents, metric: Metric) -> list[str]:
    """The names that a figure is compared with: the champion, and the best where it is another."""
    best = [b.version for b in opponents.best if b.metric == metric]
    first = [opponents.champion] if opponents.champion else []
    return list(dict.fromkeys([*first, *best]))


def passed_on(
    version: str, metrics: Iterable[Metric], opponents: Opponents, found: Sequence[Comparison]
) -> list[BestVersion]:
    """Who is the best from now on: the version itself if it is surely better than the best so far."""
    best = {b.metric: b.version for b in opponents.best}
    return [
        BestVersion(
            metric=metric,
            version=version if _is_surpassed(best.get(metric), metric, found) else best[metric],
        )
        for metric in metrics
    ]


def _is_surpassed(best: str | None, metric: Metric, found: Sequence[Comparison]) -> bool:
    if best is None:
        return True
    bounds = [c.low for c in found if (c.version, c.metric) == (best, metric)]
    return any(low is not None and low > 0 for low in bounds)


def _champion(
    able: Sequence[ModelVersion],
    ready: Sequence[ModelVersion],
    services: Sequence[InferenceService],
) -> tuple[ModelVersion | None, str]:
    counts = {v.metadata.name: _services_with(v.metadata.name, services) for v in able}
    active = [v for v in _by_age(able) if counts[v.metadata.name]]
    if active:
        champion = max(active, key=lambda v: counts[v.metadata.name])
        count = counts[champion.metadata.name]
        return champion, f"active in {count} InferenceService{'s' if count > 1 else ''}"
    if ready:
        return _by_age(ready)[0], "the newest version that is Ready; none is active in a service"
    return None, "no other version of the model is Ready or active"


def _services_with(version: str, services: Sequence[InferenceService]) -> int:
    return sum(version in _active(service) for service in services)


def _active(service: InferenceService) -> Collection[str | None]:
    """The versions that answer a public name which the spec still has."""
    wanted = {model.name for model in service.spec.models}
    return {m.active_version for m in service.status.models if m.name in wanted}


def _best(
    metric: Metric, champion: ModelVersion, ready: Sequence[ModelVersion]
) -> ModelVersion | None:
    """Whom the champion had to stand against; else the best figure on the champion's own data."""
    known = champion.status.evaluation
    if known is None:
        return None
    names_passed_on = {b.version for b in known.best if b.metric == metric}
    for each in (*ready, champion):
        if each.metadata.name in names_passed_on:
            return each
    same_data = [v for v in _by_age((*ready, champion)) if _data(v) == known.dataset_digest]
    measured = [(value, v) for v in same_data if (value := _figure(v, metric)) is not None]
    sign = -1 if metric in LESS_IS_BETTER else 1
    return max(measured, key=lambda pair: sign * pair[0])[1] if measured else None


def _data(version: ModelVersion) -> str | None:
    return version.status.evaluation.dataset_digest if version.status.evaluation else None


def _figure(version: ModelVersion, metric: Metric) -> float | None:
    found = version.status.evaluation
    return next((m.value for m in found.metrics if m.metric == metric), None) if found else None


def _is_able(version: ModelVersion) -> bool:
    """Verified, not on its way out, and its base is known."""
    if version.metadata.deletion_timestamp or retention.has_begun(version):
        return False
    is_verified = is_true(version.status.conditions, "ArtifactVerified")
    return is_verified and (_is_full(version) or isinstance(_base(version), ResolvedBase))


def _may_lead(version: ModelVersion) -> bool:
    """What people have retired sets no mark any more, unless it is still what users have."""
    conditions = version.status.conditions
    return is_true(conditions, "Ready") and not is_true(conditions, "Retired")


def _contender(version: ModelVersion) -> Contender:
    artifact, base, data = version.spec.artifact, _base(version), version.spec.evaluation.dataset
    return Contender(
        name=version.metadata.name,
        uri=artifact.uri,
        kind=artifact.kind,
        rank=artifact.rank,
        base_uri=base.uri if isinstance(base, ResolvedBase) else None,
        dataset_uri=data.uri if data else None,
    )


def _base(version: ModelVersion) -> object:
    return resolved(version, None)


def _is_full(version: ModelVersion) -> bool:
    return version.spec.artifact.kind is ArtifactKind.FULL


def _by_age(versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    """The youngest first, then by name, so that everybody picks the same."""
    unique = {v.metadata.name: v for v in versions}.values()
    return sorted(
        unique,
        key=lambda v: (v.metadata.creation_timestamp or "", v.metadata.name),
        reverse=True,
    )
