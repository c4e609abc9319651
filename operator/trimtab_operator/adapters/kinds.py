"""The kinds that the operator reads or writes, and where the API server keeps them."""

from dataclasses import dataclass
from typing import Final

from trimtab_api import names


@dataclass(frozen=True)
class Kind:
    """A kind of namespaced objects."""

    name: str
    api_version: str
    plural: str

    def path(
        self, namespace: str | None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Path of a collection, an object or a part of it."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


OURS: Final = (
    Kind("Dataset", names.API_VERSION, "datasets"),
    Kind("FineTuneJob", names.API_VERSION, "finetunejobs"),
    Kind("ModelVersion", names.API_VERSION, "modelversions"),
    Kind("InferenceService", names.API_VERSION, "inferenceservices"),
    Kind("Decision", names.API_VERSION, "decisions"),
)

# Those of them that carry finalizers of ours: a version that is in use.
FINALIZED: Final = tuple(kind for kind in OURS if kind.name == "ModelVersion")

# Children that every cluster has, watched by label.
CHILDREN: Final = (
    Kind("ConfigMap", "v1", "configmaps"),
    Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims"),
    Kind("Pod", "v1", "pods"),
    Kind("Service", "v1", "services"),
    Kind("ServiceAccount", "v1", "serviceaccounts"),
    Kind("Job", "batch/v1", "jobs"),
    Kind("Deployment", "apps/v1", "deployments"),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
    Kind("Role", "rbac.authorization.k8s.io/v1", "roles"),
    Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
)

# Children that exist only where the chart asks for that kind of exposure.
EXPOSURES: Final = {
    "Ingress": Kind("Ingress", "networking.k8s.io/v1", "ingresses"),
    "HTTPRoute": Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes"),
    "Route": Kind("Route", "route.openshift.io/v1", "routes"),
}

# Children that exist only where the chart says that KubeRay is there.
RAY_JOB: Final = Kind("RayJob", "ray.io/v1", "rayjobs")

# Read for its labels: what it asks for.
NAMESPACE: Final = Kind("Namespace", "v1", "namespaces")
EVENT: Final = Kind("Event", "v1", "events")
BY_NAME: Final = {
    kind.name: kind for kind in (*OURS, *CHILDREN, *EXPOSURES.values(), RAY_JOB, EVENT)
}


def abandoned(exposure: str) -> tuple[Kind, ...]:
    """The kinds of children of which an earlier choice of exposure may have left some."""
    return tuple(kind for name, kind in EXPOSURES.items() if name != exposure)


def watched(exposure: str, *, ray: bool) -> tuple[Kind, ...]:
    """The kinds of children that are followed with this kind of exposure, and with KubeRay."""
    extra = EXPOSURES.get(exposure)
    return (*CHILDREN, *((extra,) if extra else ()), *((RAY_JOB,) if ray else ()))
