"""What the API server still knows of a service: its objects, once, for looking back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.domain.errors import ClusterError, Forbidden, Gone
from trimtab_operator.domain.manifests import Manifest

LISTED: Final = ("ModelVersion", "Decision", "FineTuneJob", "Event")
PAGE: Final = 500


@dataclass
class Found:
    """The objects, and what could not be read."""

    objects: list[Manifest] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


async def found(api: Api, namespace: str, service: str, notes: str) -> Found | None:
    """The service with everything in its namespace that may tell of it; None where it is not there.

    `notes` selects the ConfigMaps in which its rollouts are noted.
    Whoever may not read some of it gets the rest, and a remark.
    """
    result = Found()
    try:
        path = BY_NAME["InferenceService"].path(namespace, service)
        result.objects.append({**await api.request("GET", path), "kind": "InferenceService"})
    except Gone:
        return None
    for kind in LISTED:
        try:
            result.objects += [item async for item in _listed(api, kind, namespace)]
        except (Forbidden, Gone) as error:
            result.remarks.append(f"{BY_NAME[kind].plural} were not read: {error}")
    try:
        result.objects += [item async for item in _listed(api, "ConfigMap", namespace, notes)]
    except ClusterError as error:
        result.remarks.append(f"The ConfigMaps of rollouts under way were not read: {error}")
    return result


async def _listed(api: Api, kind: str, namespace: str, labels: str = "") -> AsyncIterator[Manifest]:
    path, query = BY_NAME[kind].path(namespace), {"limit": str(PAGE)}
    if labels:
        query["labelSelector"] = labels
    while True:
        page = await api.request("GET", path, query=query)
        for item in page.get("items") or []:
            yield {**item, "kind": kind}
        token = page.get("metadata", {}).get("continue")
        if not token:
            return
        query["continue"] = token
