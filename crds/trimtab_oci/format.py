"""Descriptors and manifests: the bytes that give an artifact its identity."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab_oci.errors import DigestMismatch, UnsupportedArtifact

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

ANNOTATION_KIND = "dev.trimtab.kind"
ANNOTATION_BASE = "dev.trimtab.base"
ANNOTATION_RANK = "dev.trimtab.rank"
# On a layer of ours: the one file in it.
ANNOTATION_FILE = "dev.trimtab.file"
# On a layer of other tools (ORAS and its kin): the layer's bytes are the file, or a folder in a tar.
ANNOTATION_TITLE = "org.opencontainers.image.title"
ANNOTATION_UNPACK = "io.deis.oras.content.unpack"

EMPTY_BYTES = b"{}"


def digest_of(data: bytes) -> str:
    """The digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(document: Mapping[str, Any]) -> bytes:
    """JSON whose bytes depend on the content alone."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Descriptor:
    """What points at bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    @classmethod
    def of(cls, media_type: str, data: bytes) -> "Descriptor":
        """Point at bytes in memory."""
        return cls(media_type, digest_of(data), len(data))

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Descriptor":
        """Read the JSON form."""
        return cls(
            str(wire["mediaType"]),
            str(wire["digest"]),
            int(wire["size"]),
            dict(wire.get("annotations") or {}),
            wire.get("artifactType"),
        )

    def to_wire(self) -> dict[str, Any]:
        """The JSON form."""
        wire: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            wire["annotations"] = dict(self.annotations)
        if self.artifact_type:
            wire["artifactType"] = self.artifact_type
        return wire


@dataclass(frozen=True)
class Manifest:
    """An image manifest and the very bytes it was read from."""

    raw: bytes = field(repr=False)
    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    subject: Descriptor | None = None

    @classmethod
    def parse(cls, raw: bytes, expected: str | None = None) -> "Manifest":
        """Read and verify; a manifest that is not an image manifest is refused."""
        digest = digest_of(raw)
        if expected is not None and digest != expected:
            raise DigestMismatch(f"the manifest's digest is {digest}, expected {expected}")
        try:
            wire = json.loads(raw)
            media_type = str(wire.get("mediaType") or MANIFEST)
            if media_type in {INDEX, DOCKER_INDEX} or "manifests" in wire:
                raise UnsupportedArtifact(
                    f"{digest} is an index of several manifests; name one of them by its digest"
                )
            return cls(
                raw,
                digest,
                media_type,
                Descriptor.from_wire(wire["config"]),
                tuple(Descriptor.from_wire(layer) for layer in wire["layers"]),
                dict(wire.get("annotations") or {}),
                wire.get("artifactType"),
                Descriptor.from_wire(wire["subject"]) if wire.get("subject") else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsupportedArtifact(f"{digest} is not an OCI image manifest") from error

    @property
    def descriptor(self) -> Descriptor:
        """What points at this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def kind(self) -> str | None:
        """Full, Adapter or Dataset, for artifacts of Trimtab's."""
        return self.annotations.get(ANNOTATION_KIND)

    @property
    def size_bytes(self) -> int:
        """Size of the content."""
        return sum(layer.size for layer in self.layers)


def image_config(layers: Sequence[Descriptor]) -> bytes:
    """A config that lets a kubelet mount the artifact as an image.

    Container runtimes unpack only what is made for their platform, and know no "any": the most
    common one is named. Layers are not compressed, so their digests are their diff ids.
    """
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    return canonical({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs})


def image_manifest(
    config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]
) -> bytes:
    """The manifest of a model, an adapter or data."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.to_wire(),
            "layers": [layer.to_wire() for layer in layers],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    )


def document_manifest(
    artifact_type: str,
    blobs: Sequence[Descriptor],
    subject: Descriptor | None,
    annotations: Mapping[str, str],
) -> bytes:
    """The manifest of documents, attached to their subject."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": Descriptor.of(EMPTY, EMPTY_BYTES).to_wire(),
            "layers": [blob.to_wire() for blob in blobs],
            **({"subject": subject.to_wire()} if subject else {}),
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    )
