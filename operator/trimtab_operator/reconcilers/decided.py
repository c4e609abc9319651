"""Which Decisions are about an object; several reconcilers ask."""

from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_operator.domain.references import VERSION, artifact
from trimtab_operator.reconcilers.ports import Cluster


def decisions_about(version: ModelVersion, cluster: Cluster) -> tuple[Decision, ...]:
    """Those that name the version, and those of its namespace that quarantine its content."""
    namespace, name = version.key
    named = cluster.referrers(Decision, (VERSION, namespace, name))
    content = cluster.referrers(Decision, artifact(version.spec.artifact.digest))
    found = {d.metadata.uid: d for d in (*named, *content) if d.metadata.namespace == namespace}
    return tuple(found.values())
