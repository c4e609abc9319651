"""Reading and writing of raw Kubernetes objects, which here are plain dictionaries."""

from typing import Any

from trimtab_api import names
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.domain.naming import ANNOTATION_OWNER, label_value, owner_annotation

Manifest = dict[str, Any]

OWNER_LABELS = {
    "Dataset": names.LABEL_DATASET,
    "FineTuneJob": names.LABEL_JOB,
    "ModelVersion": names.LABEL_MODEL_VERSION,
    "InferenceService": names.LABEL_SERVICE,
}


def get(manifest: Manifest | None, *path: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON
    """The value at a path, or the default where any step is absent or null."""
    here: Any = manifest
    for step in path:
        if not isinstance(here, dict):
            return default
        here = here.get(step)
    return default if here is None else here


def name_of(manifest: Manifest) -> str:
    """metadata.name."""
    return str(get(manifest, "metadata", "name", default=""))


def is_deleting(manifest: Manifest) -> bool:
    """Whether it is on its way out."""
    return bool(get(manifest, "metadata", "deletionTimestamp"))


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object belongs to the owner with this uid, not to a deleted namesake of it."""
    references = get(manifest, "metadata", "ownerReferences", default=[])
    return any(r.get("uid") == uid for r in references)


def child_labels(kind: str, owner: str, component: str) -> dict[str, str]:
    """Labels of every child, by which the operator's watches and people find it."""
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: component,
        OWNER_LABELS[kind]: label_value(owner),
    }


def scraped(port: int) -> dict[str, str]:
    """Annotations of a pod that tell Prometheus where its metrics are."""
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }


def child_metadata(
    kind: str, owner: AnyResource, component: str, name: str | None = None
) -> Manifest:
    """Metadata of a child, or of a pod template where no name is given.

    The owner reference is added where the child is written (`Cluster.apply` and `create`).
    """
    metadata: Manifest = {
        "labels": child_labels(kind, owner.metadata.name, component),
        "annotations": {ANNOTATION_OWNER: owner_annotation(kind, owner.metadata.name)},
    }
    if name is not None:
        metadata |= {"name": name, "namespace": owner.metadata.namespace}
    return metadata
