"""Names and labels that the children of an InferenceService share."""

from collections.abc import Mapping
from typing import Final

from trimtab_api import names
from trimtab_api.routing import RoutingTable
from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.manifests import Manifest, child_labels, child_metadata, scraped
from trimtab_operator.domain.naming import child_name, service_host

KIND: Final = "InferenceService"
ROUTING: Final = "routing"


def name(service: InferenceService, component: str) -> str:
    """`<service>-<component>`; dots are no good in host names."""
    return child_name(service.metadata.name, component)


def service_name(service: InferenceService) -> str:
    """Name of the Service: that of the InferenceService itself, as a host name."""
    return service_host(service.metadata.name)


def metadata(service: InferenceService, component: str, called: str | None = None) -> Manifest:
    """Metadata of a child."""
    return child_metadata(KIND, service, component, called)


def pod_metadata(service: InferenceService, component: str, port: int) -> Manifest:
    """Metadata of a pod template; the annotations are what Prometheus finds its metrics by."""
    result = metadata(service, component)
    result["annotations"] |= scraped(port)
    return result


def selector(service: InferenceService, component: str) -> dict[str, str]:
    """Labels by which Deployments, Services and policies find the pods of one part."""
    labels = child_labels(KIND, service.metadata.name, component)
    return {k: v for k, v in labels.items() if k != names.LABEL_MANAGED_BY}


def selector_text(service: InferenceService, pool: str) -> str:
    """The engines of one base, in the form that autoscalers read from status."""
    labels = selector(service, names.ENGINE)
    found = [f"{k}={v}" for k, v in sorted(labels.items())]
    of_it = f"!{names.LABEL_POOL}" if pool == names.ENGINE else f"{names.LABEL_POOL}={pool}"
    return ",".join([*found, of_it])


def pool_selector(service: InferenceService, pool: str) -> Manifest:
    """The same for objects: pods of the first engines have no label that tells them from others."""
    labels = selector(service, names.ENGINE)
    if pool != names.ENGINE:
        return {"matchLabels": labels | {names.LABEL_POOL: pool}}
    others = {"key": names.LABEL_POOL, "operator": "DoesNotExist"}
    return {"matchLabels": labels, "matchExpressions": [others]}


def routing_config_map(service: InferenceService, tables: Mapping[str, RoutingTable]) -> Manifest:
    """The tables as agents and gateways watch them, by key: all of them change at once."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(service, ROUTING, name(service, ROUTING)),
        "data": {key: table.model_dump_json(exclude_none=True) for key, table in tables.items()},
    }


def disruption_budget(
    service: InferenceService, part: str, called: str, selector: Manifest
) -> Manifest:
    """Lets one pod at a time be away, and never holds up a drain for one that is not ready anyway."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(service, part, name(service, called)),
        "spec": {
            "maxUnavailable": 1,
            "selector": selector,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def read_table(config_map: Manifest | None) -> RoutingTable | None:
    """The table that gateways were given last; None where there is none that can be read."""
    data = (config_map or {}).get("data", {})
    text = data.get(names.GATEWAY_TABLE_KEY) or data.get(names.ROUTING_TABLE_KEY)
    if not text:
        return None
    try:
        return RoutingTable.model_validate_json(text)
    except ValueError:
        return None  # somebody has edited it; it is written anew


def access(service: InferenceService) -> list[Manifest]:
    """Accounts of engines and gateways, which may read the routing table and nothing else."""
    role = name(service, ROUTING)
    accounts: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(service, part, name(service, part)),
            "automountServiceAccountToken": False,
        }
        for part in (names.ENGINE, names.GATEWAY)
    ]
    return [
        *accounts,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata(service, ROUTING, role),
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["configmaps"],
                    "resourceNames": [role],
                    "verbs": ["get", "list", "watch"],
                }
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(service, ROUTING, role),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": role,
            },
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": a["metadata"]["name"],
                    "namespace": service.metadata.namespace,
                }
                for a in accounts
            ],
        },
    ]


def api_token() -> Manifest:
    """The volume that a mounted service account token comes from; mounted by our programs alone."""
    return {
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
                {
                    "downwardAPI": {
                        "items": [
                            {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
                        ]
                    }
                },
            ]
        }
    }
