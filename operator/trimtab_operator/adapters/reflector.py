"""One paged list and one watch per kind keep the store equal to the API server.

Level-triggered: whatever was missed shows in the next list, and what the list lacks is removed.
"""

import asyncio
import logging
import random
from typing import Final

from trimtab_operator.adapters.api import Api, Expired
from trimtab_operator.adapters.kinds import NAMESPACE, RAY_JOB, Kind
from trimtab_operator.adapters.store import Key, Store, key_of, version_of
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterError, ClusterUnreachable
from trimtab_operator.domain.manifests import Manifest, get

log = logging.getLogger(__name__)
PAGE: Final = 500
PAUSE_SECONDS: Final = 0.1  # between watches, for a server that ends each at once
MAX_BACKOFF_SECONDS: Final = 10.0
# So often a watch may fail from where it was; after that the place itself may be at fault: a server
# that was restored from a copy knows no such version, and one object that it cannot read ends each.
FAILURES_BEFORE_LIST: Final = 2
# A copy of the whole object.
_KUBECTL: Final = "kubectl.kubernetes.io/last-applied-configuration"


def trimmed(kind: str, manifest: Manifest) -> Manifest:
    """The object without what nobody reads: it would only fill the memory."""
    metadata = {k: v for k, v in manifest.get("metadata", {}).items() if k != "managedFields"}
    if _KUBECTL in metadata.get("annotations", {}):
        metadata["annotations"] = {
            k: v for k, v in metadata["annotations"].items() if k != _KUBECTL
        }
    result = {**manifest, "kind": kind, "metadata": metadata}
    if kind == NAMESPACE.name:
        kept = {k: metadata.get(k) for k in ("name", "labels", "resourceVersion")}
        return {"kind": kind, "metadata": kept}
    if kind == "Pod":
        result.pop("spec", None)
    elif kind == "Job" and "spec" in result:
        result["spec"] = {**result["spec"], "template": _images(result["spec"].get("template", {}))}
    elif kind == RAY_JOB.name and "spec" in result:
        head = get(result["spec"], "rayClusterSpec", "headGroupSpec", "template", default={})
        result["spec"] = {"rayClusterSpec": {"headGroupSpec": {"template": _images(head)}}}
    return result


def _images(template: Manifest) -> Manifest:
    """A Job is made once and never compared with what is wanted: of its pods, only the images are read."""
    containers = get(template, "spec", "containers", default=[])
    kept = [{part: each.get(part) for part in ("name", "image")} for each in containers]
    return {"spec": {"containers": kept}}


class Lister:
    """Paged lists of one kind, into the store.

    A pause that the server has asked for is kept to whoever lists next: the watch that lost its
    place, or the resync.
    """

    def __init__(
        self, api: Api, kind: Kind, store: Store, scope: str | None, selector: str
    ) -> None:
        self.kind = kind
        self.path = kind.path(scope)
        self.name = self.path
        self._api = api
        self._store = store
        self._scope = scope
        self._not_before = 0.0
        self.selector = {"labelSelector": selector} if selector else {}

    async def list(self) -> str:
        """Make the store equal to the server's list; returns the list's resource version."""
        seen: set[Key] = set()
        query = {**self.selector, "limit": str(PAGE)}
        while True:
            page = await self._page(query)
            for item in page.get("items") or []:
                item.setdefault("apiVersion", self.kind.api_version)
                seen.add(key_of(item))
                self.put(item)
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        version = str(metadata.get("resourceVersion", "0"))
        for key in self._store.keys(self.kind.name):
            if key not in seen and self.covers(key):
                self._store.remove(self.kind.name, key, int(version))
        return version

    async def _page(self, query: dict[str, str]) -> Manifest:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._not_before - now()))
        try:
            return await self._api.request("GET", self.path, query=query)
        except ClusterError as error:
            self._not_before = now() + asked_to_wait(error)
            raise

    def covers(self, key: Key) -> bool:
        """Whether the list would show this object."""
        return self._scope in {None, key[0]}

    def put(self, manifest: Manifest) -> None:
        """Into the store; most of what a watch says is the echo of our own writes."""
        if self._store.is_news(self.kind.name, manifest):
            self._store.put(self.kind.name, trimmed(self.kind.name, manifest))

    def remove(self, manifest: Manifest) -> None:
        """Out of the store."""
        self._store.remove(self.kind.name, key_of(manifest), version_of(manifest))


class Reflector:
    """Follows one kind until it is cancelled."""

    def __init__(self, api: Api, lister: Lister, telemetry: Telemetry) -> None:
        self.synced = asyncio.Event()
        self._api = api
        self._lister = lister
        self._telemetry = telemetry
        self._name = lister.name
        self._version = ""

    async def run(self) -> None:
        """List, watch, and begin anew as often as it takes."""
        try:
            await self._run()
        finally:
            self._telemetry.ended(self._name)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                if not self._version:
                    self._version = await self._lister.list()
                    self._telemetry.heard(self._name)
                    self.synced.set()
                await self._follow()
                failures = 0
                await asyncio.sleep(PAUSE_SECONDS)
            except Expired:
                self._restarted("expired")
                self._version = ""
                failures += 1
                # The first time it is what happens to every watch that was away for long.
                await asyncio.sleep(_backoff(failures) if failures > 1 else 0)
            except ClusterError as error:
                self._restarted("error")
                # The server is away, but we are not stuck: being started anew would not help.
                self._telemetry.heard(self._name)
                failures += 1
                if failures % FAILURES_BEFORE_LIST == 0:
                    self._version = ""
                log.warning("watch lost", extra={"watch": self._name, "error": str(error)})
                await asyncio.sleep(max(_backoff(failures), asked_to_wait(error)))

    async def _follow(self) -> None:
        # Watches of one process should not all end in the same second.
        seconds = random.randint(240, 480)  # noqa: S311 - as above
        self._telemetry.heard(self._name)
        query = {
            **self._lister.selector,
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        async for event in self._api.watch(self._lister.path, query):
            self._telemetry.heard(self._name)
            item = event["object"]
            if event["type"] == "DELETED":
                self._lister.remove(item)
            elif event["type"] != "BOOKMARK":
                self._lister.put(item)
            # Kept as it goes: after a cut the watch goes on from here.
            self._version = str(version_of(item) or self._version)

    def _restarted(self, cause: str) -> None:
        self._telemetry.watch_restarts.labels(self._lister.kind.name, cause).inc()


def _backoff(failures: int) -> float:
    delay: float = min(0.5 * 2 ** min(failures, 10), MAX_BACKOFF_SECONDS)
    return delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing


def asked_to_wait(error: ClusterError) -> float:
    """Seconds that the server has asked for."""
    after = error.after if isinstance(error, ClusterUnreachable) else None
    return after.total_seconds() if after else 0.0
