"""The port `Cluster` on a real API server: reads from the store, writes that meet themselves.

Every write carries what it was decided on: resource versions where something is there, a name
derived from inputs for what is created. So a write that comes late, from a replica that no longer
leads, undoes nothing. Answers go into the store at once.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from trimtab_api import names
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.adapters import visits
from trimtab_operator.adapters.api import APPLY, MERGE, AlreadyThere, Api, FieldsTaken
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.kinds import BY_NAME, EVENT, Kind
from trimtab_operator.adapters.recorder import Recorder
from trimtab_operator.adapters.reflector import trimmed
from trimtab_operator.adapters.store import Store, StoreReader, key_of, version_of
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import Gone, NameTaken
from trimtab_operator.domain.events import Event
from trimtab_operator.domain.manifests import Manifest, get, is_owned_by
from trimtab_operator.domain.naming import ANNOTATION_APPLIED
from trimtab_operator.domain.sameness import fingerprint, includes, merge_patch

log = logging.getLogger(__name__)
R = TypeVar("R", bound=AnyResource)
MANAGER: Final = {"fieldManager": names.FIELD_MANAGER}


class ApiCluster(StoreReader):
    """The API server behind its store."""

    def __init__(self, api: Api, store: Store, telemetry: Telemetry, clock: SystemClock) -> None:
        super().__init__(store)
        self._api = api
        self._telemetry = telemetry
        self.recorder = Recorder(api, clock, lambda: self._counted(EVENT, "create"))

    async def apply(self, manifest: Manifest, owner: AnyResource) -> Manifest:
        """Server-side apply, where something would change."""
        kind = BY_NAME[manifest["kind"]]
        wanted = _owned(manifest, owner)
        wanted["metadata"]["annotations"] = {
            **get(wanted, "metadata", "annotations", default={}),
            ANNOTATION_APPLIED: fingerprint(manifest),
        }
        there = self.store.find(kind.name, key_of(wanted))
        if there is not None:
            _check_owner(there, owner)
            if includes(there, wanted):
                return there
            wanted["metadata"] |= _exactly(there)
        # What the store does not know may be somebody else's: then a forced apply would take over.
        query = {**MANAGER, "force": "true" if there is not None else "false"}
        try:
            return await self._write("apply", "PATCH", kind, wanted, query=query, style=APPLY)
        except FieldsTaken as error:
            message = f"{kind.name} {key_of(wanted)[1]} belongs to somebody else: {error}"
            raise NameTaken(message) from error

    async def create(self, manifest: Manifest, owner: AnyResource | None) -> bool:
        """Create what is never changed afterwards."""
        kind = BY_NAME[manifest["kind"]]
        wanted = manifest if owner is None else _owned(manifest, owner)
        there = self.store.find(kind.name, key_of(wanted))
        if there is None:
            try:
                await self._write("create", "POST", kind, wanted, query=MANAGER)
            except AlreadyThere:
                path = kind.path(*key_of(wanted))
                there = self._remember(kind, await self._api.request("GET", path))
            else:
                return True
        if owner is not None:
            _check_owner(there, owner)
        return False

    async def patch(self, child: Manifest, changes: Manifest) -> Manifest:
        """Merge a few fields into exactly this version of a child."""
        kind = BY_NAME[child["kind"]]
        body = _against(child, changes)
        return await self._write("patch", "PATCH", kind, body, at=child, query=MANAGER, style=MERGE)

    async def delete(self, child: Manifest) -> None:
        """Delete exactly this child."""
        kind = BY_NAME[child["kind"]]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": _exactly(child),
        }
        self._counted(kind, "delete")
        try:
            answer = await self._api.request("DELETE", kind.path(*key_of(child)), body=options)
        except Gone:
            answer = {}
        if answer.get("kind") == kind.name and get(answer, "metadata", "deletionTimestamp"):
            self._remember(kind, answer)
        else:
            self.store.remove(kind.name, key_of(child), version_of(child))

    async def delete_resource(self, resource: AnyResource) -> None:
        """Delete one of our own objects, exactly as it was read."""
        await self.delete(_identity(resource))

    async def write_status(self, resource: R, status: ApiModel) -> R:
        """Write status where it differs, against exactly the version that was read."""
        if status == resource.status:
            return resource
        changes = merge_patch(resource.status.to_wire(), status.to_wire())
        if not changes:
            return resource
        version = await self._write_ours(resource, {"status": changes}, "status")
        return resource.model_copy(
            update={"status": status, "metadata": _changed(resource, resource_version=version)}
        )

    async def write_finalizers(self, resource: R, finalizers: Sequence[str]) -> R:
        """Set the finalizers where they differ, against exactly the version that was read."""
        if list(finalizers) == resource.metadata.finalizers:
            return resource
        changes = {"metadata": {"finalizers": list(finalizers)}}
        version = await self._write_ours(resource, changes, None)
        metadata = _changed(resource, resource_version=version, finalizers=list(finalizers))
        return resource.model_copy(update={"metadata": metadata})

    async def release(self, kind: Kind, manifest: Manifest) -> bool:
        """Take our finalizers off one of our objects; False when it has none."""
        held: list[str] = get(manifest, "metadata", "finalizers", default=[])
        kept = [each for each in held if not each.startswith(f"{names.GROUP}/")]
        if kept == held:
            return False
        body = _against(manifest, {"metadata": {"finalizers": kept}})
        await self._write("finalizers", "PATCH", kind, body, at=manifest, style=MERGE)
        return True

    async def emit(self, event: Event) -> None:
        """Say it, unless it has been said. An Event is a courtesy: it never fails a reconcile."""
        await self.recorder.record(event)

    async def _write_ours(self, resource: R, changes: Manifest, part: str | None) -> str:
        """Returns the new version. Against exactly the one that was read nothing else can have changed."""
        kind = BY_NAME[type(resource).__name__]
        known = _identity(resource)
        try:
            written = await self._write(
                part or "patch",
                "PATCH",
                kind,
                _against(known, changes),
                at=known,
                part=part,
                query=MANAGER,
                style=MERGE,
            )
        except Gone:
            # The feed may have missed its end; nothing of ours may go on believing in it.
            self.store.remove(kind.name, resource.key, version_of(known))
            raise
        return str(version_of(written))

    async def _write(  # noqa: PLR0913 - the parts of a request
        self,
        verb: str,
        method: str,
        kind: Kind,
        body: Manifest,
        *,
        at: Manifest | None = None,
        part: str | None = None,
        query: dict[str, str] | None = None,
        style: str = "application/json",
    ) -> Manifest:
        namespace, name = key_of(at or body)
        path = kind.path(namespace, None if method == "POST" else name, part)
        self._counted(kind, verb)
        answer = await self._api.request(method, path, query=query, body=body, content_type=style)
        return self._remember(kind, answer)

    def _counted(self, kind: Kind, verb: str) -> None:
        self._telemetry.written(kind.name, verb)
        visit = visits.current()
        if visit is not None and not visit.has_written:
            visit.has_written = True
            waited = asyncio.get_running_loop().time() - visit.since
            self._telemetry.reacted(visit.kind, waited)

    def _remember(self, kind: Kind, manifest: Manifest) -> Manifest:
        kept = trimmed(kind.name, manifest)
        if get(kept, "metadata", "deletionTimestamp") and not _is_held(kept):
            self.store.remove(kind.name, key_of(kept), version_of(kept))
        else:
            self.store.put(kind.name, kept)
        return kept


def _changed(resource: AnyResource, **fields: object) -> ApiModel:
    return resource.metadata.model_copy(update=fields)


def _is_held(manifest: Manifest) -> bool:
    """Whether something delays its end: finalizers, or a pod's grace period."""
    grace = get(manifest, "metadata", "deletionGracePeriodSeconds", default=0)
    return bool(get(manifest, "metadata", "finalizers", default=[])) or bool(grace)


def _owned(manifest: Manifest, owner: AnyResource) -> Manifest:
    # Without blockOwnerDeletion: it would need a right of its own and only matters to deletions
    # in the foreground.
    reference: dict[str, Any] = {
        "apiVersion": names.API_VERSION,
        "kind": type(owner).__name__,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def _check_owner(there: Manifest, owner: AnyResource) -> None:
    if not is_owned_by(there, owner.metadata.uid):
        message = f"{there.get('kind')} {key_of(there)[1]} belongs to somebody else"
        raise NameTaken(message)


def _identity(resource: AnyResource) -> Manifest:
    meta = resource.metadata
    return {
        "kind": type(resource).__name__,
        "metadata": {
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
    }


def _exactly(known: Manifest) -> dict[str, str]:
    """What holds for this version of this very object alone."""
    return {part: known["metadata"][part] for part in ("uid", "resourceVersion")}


def _against(known: Manifest, changes: Manifest) -> Manifest:
    version = {"resourceVersion": known["metadata"]["resourceVersion"]}
    return {**changes, "metadata": {**changes.get("metadata", {}), **version}}
