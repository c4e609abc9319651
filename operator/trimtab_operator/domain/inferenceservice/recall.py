"""Who was served, where the routing table is gone: somebody has deleted or emptied it.

Agents and gateways go on with the last table that they saw. A new one that knew of nobody would
take away what is served, so that it begins with what status and the engines still tell. Status has
a name and no digest, and another artifact may have come under that name since; what the engines
hold is what answers. The version that was only kept loaded, as a way back, is forgotten.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from trimtab_api.routing import RoutedModel, RoutedVersion, RoutingTable
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.inferenceservice import InferenceServiceStatus
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.inferenceservice.loads import LOADED, EnginePod
from trimtab_operator.domain.inferenceservice.routes import routed


def recalled(
    service: InferenceService, versions: Mapping[str, ModelVersion], engines: Sequence[EnginePod]
) -> RoutingTable | None:
    """The table as far as it is known without it; None where nothing was served yet."""
    status = service.status
    if status.base_digest is None:
        return None
    adapters = [m for m in status.models if m.name != service.spec.base_model.name]
    served = {m.name: _active(m.active_version, versions, engines) for m in adapters}
    base = next((m for m in status.models if m.name == service.spec.base_model.name), None)
    if base is not None:
        # A rollout of the base goes on from here, too.
        served[base.name] = _base(base.active_version, status)
    return RoutingTable(
        namespace=service.metadata.namespace,
        service=service.metadata.name,
        base_digest=status.base_digest,
        models=[RoutedModel(name=name, versions=[v]) for name, v in served.items() if v],
    )


def _base(name: str | None, status: InferenceServiceStatus) -> RoutedVersion | None:
    if name is None or status.base_digest is None:
        return None
    return RoutedVersion(
        version=name,
        digest=status.base_digest,
        kind=ArtifactKind.FULL,
        uri=status.base_uri,
        weight=100,
    )


def _active(
    name: str | None, versions: Mapping[str, ModelVersion], engines: Sequence[EnginePod]
) -> RoutedVersion | None:
    if name is None:
        return None
    version = versions.get(name)
    known = version.spec.artifact.digest if version else None
    digest = _held(name, engines, known) or known
    if digest is None:
        return None  # neither is there a version, nor does an engine hold it
    if version is not None and digest == known:
        return routed(version).model_copy(update={"weight": 100})
    # Nobody can say any more where it lies. Engines that hold it need not know.
    return RoutedVersion(version=name, digest=digest, kind=ArtifactKind.ADAPTER, weight=100)


def _held(name: str, engines: Sequence[EnginePod], known: str | None) -> str | None:
    """The digest that most engines have loaded under this name."""
    held = Counter(
        state.digest
        for engine in engines
        for state in (engine.report.adapters if engine.report else [])
        if state.version == name and state.state == LOADED
    )
    return max(held, key=lambda digest: (held[digest], digest == known), default=None)
