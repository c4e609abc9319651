"""Which ModelVersion a public name should be served by, and whether these engines can.

Only facts of the spec and of the versions' status enter here; what engines have loaded is judged
in `routing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trimtab_api.reasons import FailureReason, ServiceReason, VersionReason
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind, ModelVersion
from trimtab_operator.domain.conditions import find, is_true
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.consent import NOTHING_ASKED, Consent

Versions = Mapping[str, ModelVersion]


@dataclass(frozen=True)
class Fit:
    """What a version is held against."""

    base_digest: str
    max_rank: int
    consent: Consent = NOTHING_ASKED
    # Whether it is to be the base itself.
    is_base: bool = False
    # Whether it has served here before and is held as the way back: its deletion waits for that.
    is_way_back: bool = False


Check = Callable[[ModelVersion, Fit], Finding | None]


def deleted(version: ModelVersion, fit: Fit) -> Finding | None:
    if version.metadata.deletion_timestamp and not fit.is_way_back:
        return Finding(
            ServiceReason.VERSION_DELETED, f"ModelVersion {version.metadata.name} is being deleted"
        )
    return None


def decided_against(version: ModelVersion, fit: Fit) -> Finding | None:
    return fit.consent.against(version)


def not_ready(version: ModelVersion, _: Fit | None = None) -> Finding | None:
    if is_ready(version):
        return None
    ready = find(version.status.conditions, "Ready")
    why = f": {ready.message}" if ready and ready.message else ""
    return Finding(
        ServiceReason.VERSION_NOT_READY, f"ModelVersion {version.metadata.name} is not Ready{why}"
    )


def not_an_adapter(version: ModelVersion, _: Fit) -> Finding | None:
    if version.spec.artifact.kind is not ArtifactKind.ADAPTER:
        return Finding(
            ServiceReason.NOT_AN_ADAPTER,
            f"ModelVersion {version.metadata.name} is a full model, and engines hold one; serve it as the baseModel of an "
            "InferenceService of its own, under this name",
        )
    return None


def not_full(version: ModelVersion, _: Fit) -> Finding | None:
    if version.spec.artifact.kind is not ArtifactKind.FULL:
        return Finding(
            VersionReason.BASE_NOT_FULL,
            f"ModelVersion {version.metadata.name} is an adapter; a base must be of kind Full",
        )
    return None


def other_base(version: ModelVersion, fit: Fit) -> Finding | None:
    digest = base_digest(version)
    if digest != fit.base_digest:
        return Finding(
            FailureReason.BASE_MISMATCH,
            f"ModelVersion {version.metadata.name} is an adapter of base {short(digest)}, not of {short(fit.base_digest)}",
        )
    return None


def rank_too_high(version: ModelVersion, fit: Fit) -> Finding | None:
    rank = version.spec.artifact.rank
    if rank is not None and rank > fit.max_rank:
        return Finding(
            ServiceReason.RANK_TOO_HIGH,
            f"ModelVersion {version.metadata.name} has rank {rank}, the engines accept at most "
            f"{fit.max_rank}; raise spec.engine.adapters.maxRank",
        )
    return None


CHECKS: tuple[Check, ...] = (
    deleted,
    decided_against,
    not_ready,
    not_an_adapter,
    other_base,
    rank_too_high,
)
BASE_CHECKS: tuple[Check, ...] = (deleted, decided_against, not_ready, not_full)


def wanted(
    model: ServedModel, versions: Versions, consent: Consent, base: str | None = None
) -> ModelVersion | Finding:
    """The version that the spec asks for; of those that are followed, one over this base."""
    if model.version.name is not None:
        found = versions.get(model.version.name)
        return found or Finding(
            ServiceReason.VERSION_MISSING,
            f"there is no ModelVersion {model.version.name} in this namespace",
        )
    return latest(model.version.latest_of or "", versions, consent, base)


def latest(
    model: str, versions: Versions, consent: Consent, base: str | None = None
) -> ModelVersion | Finding:
    """The newest Ready version that nobody has decided against.

    By creation, then by name, so that everybody picks the same. Where there is none, what is to be
    said of the newest Ready one. Versions over another base than this one are for services that
    hold it, or will; only where there are no others they are told of.
    """
    ready = [
        v
        for v in versions.values()
        if v.spec.model == model and is_ready(v) and not v.metadata.deletion_timestamp
    ]
    ready = [v for v in ready if base is not None and base_digest(v) == base] or ready
    ready.sort(key=lambda v: (v.metadata.creation_timestamp or "", v.metadata.name), reverse=True)
    against = [consent.against(v) for v in ready]
    agreed = (v for v, finding in zip(ready, against, strict=True) if finding is None)
    none = Finding(ServiceReason.NO_READY_VERSION, f"no version of model {model} is Ready")
    return next(agreed, None) or next((f for f in against if f is not None), none)


def misfit(version: ModelVersion, fit: Fit) -> Finding | None:
    """The first reason why these engines cannot serve this version."""
    checks = BASE_CHECKS if fit.is_base else CHECKS
    return next((f for check in checks if (f := check(version, fit))), None)


def base_digest(version: ModelVersion) -> str | None:
    """The base that an adapter belongs to: as verified, else as declared."""
    if version.status.base_digest:
        return version.status.base_digest
    base = version.spec.base_model
    return base.uri.rpartition("@")[2] if base and base.uri else None


def is_ready(version: ModelVersion) -> bool:
    """Verified, evaluated, and all gates passed."""
    return is_true(version.status.conditions, "Ready")


def short(digest: str | None) -> str:
    """Enough of a digest for people to tell two apart."""
    return digest[:19] if digest else "unknown"
