"""Chat models that pods ask: where they are, and the Secret with the key."""

from trimtab_api.v1alpha1.endpoint import ChatEndpoint
from trimtab_operator.domain import pods


def url(endpoint: ChatEndpoint, namespace: str) -> str:
    """The address of the API, with /v1."""
    if endpoint.inference_service is not None:
        return f"http://{endpoint.inference_service.name}.{namespace}.svc/v1"
    return (endpoint.url or "").rstrip("/")


def credentials(volume: str, endpoint: ChatEndpoint, path: str) -> list[pods.Mount]:
    """The Secret of the endpoint, where it has one."""
    if endpoint.credentials is None:
        return []
    return [pods.secret(f"{volume}-credentials", path, endpoint.credentials.secret_name)]
