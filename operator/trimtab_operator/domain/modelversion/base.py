"""The base of an adapter version: named by digest, or by a full ModelVersion that is Ready."""

from dataclasses import dataclass

from trimtab_api.reasons import VersionReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.conditions import is_true
from trimtab_operator.domain.finding import Finding


@dataclass(frozen=True)
class ResolvedBase:
    """A base in the registry."""

    uri: str
    digest: str
    # The data that a base of ours was evaluated on.
    held_out: str | None = None


def resolved(version: ModelVersion, named: ModelVersion | None) -> ResolvedBase | Finding | None:
    """The adapter's base; None for a full version. Once resolved it is frozen in status.

    `named` is the ModelVersion that spec.baseModel.modelVersion names, if there is one.
    """
    if version.spec.artifact.kind is ArtifactKind.FULL:
        return None
    status, spec = version.status, version.spec.base_model
    if status.base_uri and status.base_digest:
        return ResolvedBase(status.base_uri, status.base_digest, _held_out(named))
    if spec is None:
        return Finding(
            VersionReason.BASE_MISSING, "an adapter needs spec.baseModel: uri or modelVersion"
        )
    if spec.uri:
        return ResolvedBase(spec.uri, spec.uri.rpartition("@")[2])
    return of_version(spec.model_version.name if spec.model_version else "", named)


def of_version(name: str, named: ModelVersion | None) -> ResolvedBase | Finding:
    """The artifact of a full, Ready version; what it is missing where it cannot be a base."""
    if named is None:
        return Finding.unknown(
            VersionReason.BASE_MISSING, f"there is no ModelVersion {name} to be the base"
        )
    if named.spec.artifact.kind is not ArtifactKind.FULL:
        return Finding(
            VersionReason.BASE_NOT_FULL,
            f"ModelVersion {name} is an adapter; a base must be of kind Full",
        )
    if not is_true(named.status.conditions, "Ready"):
        return Finding.unknown(
            VersionReason.BASE_NOT_READY, f"the base, ModelVersion {name}, is not Ready"
        )
    artifact = named.spec.artifact
    return ResolvedBase(artifact.uri, artifact.digest, _held_out(named))


def _held_out(named: ModelVersion | None) -> str | None:
    data = named.spec.evaluation.dataset if named else None
    return data.uri if data else None
