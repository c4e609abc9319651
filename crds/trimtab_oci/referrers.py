"""What is attached to an artifact: by the registry's referrers API, or by a tag where it has none.

The tag schema of OCI distribution 1.1: an index under `sha256-<hex>` lists what refers to that digest.
"""

import json
from collections.abc import Mapping
from typing import Any

from yarl import URL

from trimtab_oci.errors import NotFound, RegistryError, UnsupportedArtifact
from trimtab_oci.format import INDEX, Descriptor, Manifest, canonical, digest_of
from trimtab_oci.reference import Reference
from trimtab_oci.transport import DELETE, PULL, PUSH, Transport

_PAGES = 64
_INDEX_BYTES = 4 << 20


async def listed(
    transport: Transport, subject: Reference, artifact_type: str | None
) -> list[Descriptor]:
    """Descriptors of what refers to a digest, of one type or of all."""
    try:
        found = await _from_api(transport, subject, artifact_type)
    except NotFound:
        found = await _from_tag(transport, subject)
    return [item for item in found if artifact_type in {None, item.artifact_type}]


async def record(transport: Transport, pushed: Reference, manifest: Manifest) -> None:
    """List a manifest under its subject's tag, for registries without the API."""
    if manifest.subject is None:
        return
    subject = pushed.at(manifest.subject.digest)
    known = await _from_tag(transport, subject)
    if any(item.digest == manifest.digest for item in known):
        return
    own = manifest.descriptor
    item = Descriptor(
        own.media_type, own.digest, own.size, manifest.annotations, manifest.artifact_type
    )
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [entry.to_wire() for entry in (*known, item)],
    }
    url = transport.url(subject, f"manifests/{_tag(subject)}")
    headers = {"Content-Type": INDEX}
    async with transport.request("PUT", url, subject, PUSH, headers=headers, body=canonical(index)):
        pass


async def unlist(transport: Transport, subject: Reference) -> None:
    """Delete the tag that lists what refers to a digest; where there is none, nothing is done."""
    url = transport.url(subject, f"manifests/{_tag(subject)}")
    try:
        async with transport.request(
            "GET", url, subject, PULL, headers={"Accept": INDEX}
        ) as response:
            digest = digest_of(await response.content.read(-1))
        url = transport.url(subject, f"manifests/{digest}")
        async with transport.request("DELETE", url, subject, DELETE):
            pass
    except NotFound:
        return


async def _from_api(
    transport: Transport, subject: Reference, artifact_type: str | None
) -> list[Descriptor]:
    base = transport.url(subject, f"referrers/{subject.digest}")
    url = base.update_query(artifactType=artifact_type) if artifact_type else base
    found: list[Descriptor] = []
    for _ in range(_PAGES):
        async with transport.request("GET", url, subject, PULL) as response:
            found += _descriptors(await response.content.read(-1))
            following = response.links.get("next")
            onward = following.get("url") if following else None
        if onward is None:
            break
        url = base.join(URL(str(onward), encoded=True))
    return found


async def _from_tag(transport: Transport, subject: Reference) -> list[Descriptor]:
    url = transport.url(subject, f"manifests/{_tag(subject)}")
    try:
        async with transport.request(
            "GET", url, subject, PULL, headers={"Accept": INDEX}
        ) as response:
            return _descriptors(await response.content.read(-1))
    except NotFound:
        return []


def _tag(subject: Reference) -> str:
    if subject.digest is None:
        raise RegistryError(f"{subject} has no digest")
    return subject.digest.replace(":", "-")


def _descriptors(raw: bytes) -> list[Descriptor]:
    if len(raw) > _INDEX_BYTES:
        raise UnsupportedArtifact(f"a list of referrers is larger than {_INDEX_BYTES} bytes")
    try:
        index: Mapping[str, Any] = json.loads(raw)
        return [Descriptor.from_wire(item) for item in index.get("manifests") or []]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedArtifact("a list of referrers cannot be read") from error
