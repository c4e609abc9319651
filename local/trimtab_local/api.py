"""The few calls to the API server that starting a cluster needs.

Made by hand because a start has to be quick: kubectl first asks for all the
kinds there are, several times over, of a server that has just begun to run.
"""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, Final

from trimtab_local.layout import Layout

_TIMEOUT_SECONDS: Final = 10.0
_MANAGER: Final = "trimtab-local"
# Of each kind that a new cluster holds, the collection it belongs to.
_COLLECTIONS: Final = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
}


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def is_good(self) -> bool:
        return self.status < http.HTTPStatus.MULTIPLE_CHOICES

    @property
    def message(self) -> str:
        return str(self.body.get("message", f"HTTP status {self.status}"))


def path_of(manifest: dict[str, Any]) -> str:
    metadata = manifest["metadata"]
    collection = _COLLECTIONS[manifest["kind"]].format(namespace=metadata.get("namespace"))
    return f"{collection}/{metadata['name']}"


def apply(layout: Layout, manifest: dict[str, Any]) -> Answer:
    """Server-side apply: creates the object or makes it what the manifest says."""
    path = f"{path_of(manifest)}?fieldManager={_MANAGER}&force=true"
    return _ask(layout, "PATCH", path, json.dumps(manifest))


def get(layout: Layout, path: str) -> Answer:
    return _ask(layout, "GET", path)


def _ask(layout: Layout, method: str, path: str, body: str | None = None) -> Answer:
    """As the administrator; a server that cannot be reached is an answer too."""
    held = layout.certificates
    context = ssl.create_default_context(cafile=held / "ca.crt")
    context.load_cert_chain(held / "admin.crt", held / "admin.key")
    connection = http.client.HTTPSConnection(
        "127.0.0.1", layout.ports.api, timeout=_TIMEOUT_SECONDS, context=context
    )
    headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()))
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as failure:
        return Answer(http.HTTPStatus.SERVICE_UNAVAILABLE, {"message": str(failure)})
    finally:
        connection.close()
