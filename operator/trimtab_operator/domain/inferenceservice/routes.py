"""What the decision about the routing table is made of: the base, what stands behind a name, and what is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1.modelversion import ArtifactKind, ModelVersion
from trimtab_api.v1alpha1.signing import SignaturePolicy
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice.course import (
    NOTHING_RECORDED,
    STRAIGHT,
    Direction,
    Moving,
    Record,
)
from trimtab_operator.domain.inferenceservice.loads import EnginePod
from trimtab_operator.domain.inferenceservice.versions import Fit, Versions, base_digest


@dataclass(frozen=True)
class Base:
    """The model that the engines hold; `version` is what status and the answer's header call it.

    `report` and `signature` are those of its ModelVersion.
    """

    version: str
    digest: str
    uri: str
    report: str | None = None
    signature: str | None = None


@dataclass(frozen=True)
class ModelRoute:
    """What stands behind one public name, and why it is not what was asked for."""

    name: str
    active: str | None
    candidate: str | None = None
    finding: Finding | None = None
    note: str | None = None
    weight: int | None = None
    # A candidate that every engine has loaded and whose rollout has not begun: stable, candidate.
    begins: tuple[RoutedVersion, RoutedVersion] | None = None
    record: Record = NOTHING_RECORDED


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
    signatures: SignaturePolicy | None = None
    directions: Mapping[str, Direction] = field(default_factory=dict)
    # What lost its requests just now, and is still loaded for those that are under way.
    leaving: str | None = None
    has_course: bool = False
    # What engines of another base lack, and the adapters that move with it.
    lacking: Finding | None = None
    companions: tuple[Moving, ...] = ()

    def salt(self, model: str) -> str | None:
        """What spreads the users over the versions of this name."""
        course = self.directions.get(model, STRAIGHT).course
        return course.salt if course else None


def routed(version: ModelVersion) -> RoutedVersion:
    """The version as it enters the table: loaded, and without requests."""
    evaluation, signature = version.status.evaluation, version.status.signature
    is_adapter = version.spec.artifact.kind is ArtifactKind.ADAPTER
    return RoutedVersion(
        version=version.metadata.name,
        digest=version.spec.artifact.digest,
        kind=version.spec.artifact.kind,
        uri=version.spec.artifact.uri,
        report=evaluation.report if evaluation else version.spec.evaluation.report,
        signature=signature.bundle if signature else None,
        rank=version.spec.artifact.rank,
        base=base_digest(version) if is_adapter else None,
    )


def served(previous: RoutingTable | None, base: Base) -> dict[str, tuple[RoutedVersion, ...]]:
    """What stood behind each name; nothing where another base answered."""
    if previous is None or previous.base_digest != base.digest:
        return {}  # adapters of another base are of no use here
    return {m.name: tuple(m.versions) for m in previous.models}
