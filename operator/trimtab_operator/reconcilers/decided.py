"""Which Decisions are about an object; several reconcilers ask."""

from collections.abc import Iterable

from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_operator.domain.decision.standing import standing
from trimtab_operator.domain.policy import NO_RULES
from trimtab_operator.domain.references import VERSION, artifact
from trimtab_operator.reconcilers.ports import Cluster


def decisions_about(version: ModelVersion, cluster: Cluster) -> tuple[Decision, ...]:
    """Those that name the version, and those of its namespace that quarantine its content."""
    namespace, name = version.key
    named = cluster.referrers(Decision, (VERSION, namespace, name))
    content = cluster.referrers(Decision, artifact(version.spec.artifact.digest))
    found = {d.metadata.uid: d for d in (*named, *content) if d.metadata.namespace == namespace}
    return tuple(found.values())


def isolations(versions: Iterable[ModelVersion], cluster: Cluster) -> dict[str, Ruling]:
    """The last Quarantine or LiftQuarantine of each version's content, by digest."""
    found = {
        version.spec.artifact.digest: standing(
            version, decisions_about(version, cluster), NO_RULES
        ).isolation
        for version in versions
    }
    return {digest: ruling for digest, ruling in found.items() if ruling is not None}
