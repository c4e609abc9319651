"""The registry client: resolve, pull, push, and documents attached to artifacts."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from trimtab_oci import referrers
from trimtab_oci.blobs import BlobStream, ThreadReader
from trimtab_oci.credentials import DockerConfig
from trimtab_oci.errors import (
    DigestMismatch,
    NotFound,
    RegistryError,
    RegistryUnreachable,
    UnsupportedArtifact,
)
from trimtab_oci.format import (
    ANNOTATION_KIND,
    ANNOTATION_TITLE,
    ANNOTATION_UNPACK,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCKER_TAR_GZIP,
    EMPTY,
    EMPTY_BYTES,
    IMAGE_CONFIG,
    INDEX,
    MANIFEST,
    TAR,
    TAR_GZIP,
    Descriptor,
    Manifest,
    document_manifest,
    image_config,
    image_manifest,
)
from trimtab_oci.layers import FileLayer, Staging, directory_layers, most_unpacked, unpack
from trimtab_oci.reference import Reference
from trimtab_oci.transport import DELETE, PULL, PUSH, Body, Retries, Transport

MANIFEST_BYTES = 4 << 20
DOCUMENT_BYTES = 64 << 20
_ACCEPT = {"Accept": f"{MANIFEST}, {DOCKER_MANIFEST}, {INDEX}, {DOCKER_INDEX}"}


class RegistryClient:
    """Everything that Trimtab asks of a registry. Use it in `async with`.

    `plain_http` is for all registries, or names those (host[:port]) that speak no TLS.
    """

    def __init__(
        self,
        *,
        plain_http: bool | Collection[str] = False,
        credentials: DockerConfig | None = None,
        ca_file: Path | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._transport = Transport(
            plain_http=plain_http, credentials=credentials, ca_file=ca_file, retries=retries
        )

    @classmethod
    def from_secret(
        cls, directory: Path | str, *, plain_http: bool | Collection[str] = False
    ) -> Self:
        """A client with what a mounted Secret holds: .dockerconfigjson and ca.crt, each optional."""
        place = Path(directory)
        return cls(
            plain_http=plain_http, credentials=DockerConfig.load(place), ca_file=place / "ca.crt"
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    # --- reading ---

    async def resolve(self, reference: Reference) -> str:
        """The digest that a reference means now; the manifest's bytes are verified."""
        return (await self.manifest(reference)).digest

    async def manifest(self, reference: Reference) -> Manifest:
        """The manifest, verified against the reference's digest or the one that the registry tells."""
        raw, told = await self._manifest_bytes(reference)
        return Manifest.parse(raw, reference.digest or told)

    async def _manifest_bytes(self, reference: Reference) -> tuple[bytes, str | None]:
        url = self._transport.url(reference, f"manifests/{reference.identifier}")
        async with self._transport.request(
            "GET", url, reference, PULL, headers=_ACCEPT
        ) as response:
            raw = await _read_at_most(response.content, MANIFEST_BYTES, "the manifest")
            told = response.headers.get("Docker-Content-Digest")
        return raw, told if told and told.startswith("sha256:") else None

    async def pull(self, reference: Reference, directory: Path) -> Manifest:
        """Bring all files into a directory. Each appears only after its layer has been verified."""
        manifest = await self.manifest(reference)
        for layer in manifest.layers:
            await self._pull_layer(reference, layer, Path(directory))
        return manifest

    async def _pull_layer(self, reference: Reference, layer: Descriptor, directory: Path) -> None:
        staging = Staging(directory)
        loop = asyncio.get_running_loop()
        async with BlobStream(self._transport, reference, layer) as stream:
            reader = ThreadReader(stream, loop)
            work = asyncio.ensure_future(asyncio.to_thread(_receive, reader, layer, staging))
            try:
                await asyncio.shield(work)
                stream.verify()
                staging.commit()
            finally:
                await _settle(stream, work)
                staging.discard()

    async def document(self, reference: Reference) -> bytes:
        """The bytes of an artifact with one blob."""
        manifest = await self.manifest(reference)
        if len(manifest.layers) != 1:
            raise UnsupportedArtifact(
                f"{reference} has {len(manifest.layers)} blobs; a document has one"
            )
        return await self.blob(reference, manifest.layers[0])

    async def blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A small blob, verified."""
        if blob.size > DOCUMENT_BYTES:
            raise UnsupportedArtifact(
                f"{blob.digest} has {blob.size} bytes; a document has at most {DOCUMENT_BYTES}"
            )
        parts = []
        async with BlobStream(self._transport, reference, blob) as stream:
            while chunk := await stream.chunk():
                stream.hash(chunk)
                parts.append(chunk)
            stream.verify()
        return b"".join(parts)

    async def referrers(
        self, reference: Reference, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """What is attached to an artifact, named by its digest."""
        digest = reference.digest or await self.resolve(reference)
        return await referrers.listed(self._transport, reference.at(digest), artifact_type)

    # --- writing ---

    async def push_directory(
        self,
        directory: Path,
        repository: Reference | str,
        *,
        kind: str | None = None,
        annotations: Mapping[str, str] | None = None,
        tag: str | None = None,
    ) -> Reference:
        """Push all files of a directory; equal files, names and annotations give an equal digest."""
        target = _repository(repository)
        files = await asyncio.to_thread(directory_layers, Path(directory))
        layers = [await self._push_file(target, file) for file in files]
        config = image_config(layers)
        described = await self._push_bytes(target, IMAGE_CONFIG, config)
        marks = dict(annotations or {}) | ({ANNOTATION_KIND: kind} if kind else {})
        return await self._push_manifest(target, image_manifest(described, layers, marks), tag)

    async def push_document(
        self,
        repository: Reference | str,
        document: bytes,
        *,
        artifact_type: str,
        subject: Reference | None = None,
        tag: str | None = None,
        media_type: str = "application/json",
        annotations: Mapping[str, str] | None = None,
    ) -> Reference:
        """Push one document, attached to its subject (in the same repository) if there is one."""
        target = _repository(repository)
        blob = await self._push_bytes(target, media_type, document)
        return await self._push_attached(
            target, artifact_type, [blob], subject, tag, annotations or {}
        )

    async def push_documents(
        self,
        repository: Reference | str,
        documents: Mapping[str, tuple[str, bytes]],
        *,
        artifact_type: str,
        subject: Reference | None = None,
    ) -> Reference:
        """Push several documents as one artifact: file names with media type and content."""
        target = _repository(repository)
        blobs = []
        for name, (media_type, document) in documents.items():
            blob = await self._push_bytes(target, media_type, document)
            blobs.append(replace(blob, annotations={ANNOTATION_TITLE: name}))
        return await self._push_attached(target, artifact_type, blobs, subject, None, {})

    async def tag(self, reference: Reference, tag: str) -> Reference:
        """Give an existing artifact a further tag; the answer names tag and digest."""
        raw, told = await self._manifest_bytes(reference)
        Manifest.parse(raw, reference.digest or told)
        return await self._push_manifest(reference, raw, tag)

    async def delete(self, reference: Reference) -> None:
        """Delete a manifest by digest, and its list of referrers; what is not there is no error."""
        await referrers.unlist(self._transport, reference)
        url = self._transport.url(reference, f"manifests/{reference.digest}")
        try:
            async with self._transport.request("DELETE", url, reference, DELETE):
                pass
        except NotFound:
            return

    async def _push_attached(
        self,
        target: Reference,
        artifact_type: str,
        blobs: Sequence[Descriptor],
        subject: Reference | None,
        tag: str | None,
        annotations: Mapping[str, str],
    ) -> Reference:
        attached = None
        if subject is not None:
            if subject.name != target.name:
                raise RegistryError(
                    f"a document in {target.name} cannot be attached to {subject}: another repository"
                )
            attached = (await self.manifest(subject)).descriptor
        await self._push_bytes(target, EMPTY, EMPTY_BYTES)
        return await self._push_manifest(
            target, document_manifest(artifact_type, blobs, attached, annotations), tag
        )

    async def _push_manifest(self, target: Reference, raw: bytes, tag: str | None) -> Reference:
        manifest = Manifest.parse(raw)
        named = target.tagged(tag) if tag else target.at(manifest.digest)
        url = self._transport.url(named, f"manifests/{named.identifier}")
        headers = {"Content-Type": manifest.media_type}
        async with self._transport.request(
            "PUT", url, named, PUSH, headers=headers, body=raw
        ) as response:
            told = response.headers.get("Docker-Content-Digest", manifest.digest)
            knows_subjects = "OCI-Subject" in response.headers
        if told != manifest.digest:
            raise DigestMismatch(
                f"{named}: the registry stored {told} instead of {manifest.digest}"
            )
        pushed = Reference(target.registry, target.repository, tag, manifest.digest)
        if manifest.subject is not None and not knows_subjects:
            await referrers.record(self._transport, pushed, manifest)
        return pushed

    async def _push_file(self, target: Reference, file: FileLayer) -> Descriptor:
        blob = await asyncio.to_thread(file.descriptor)
        await self._push_blob(target, blob, lambda: _chunks_of(file))
        return blob

    async def _push_bytes(self, target: Reference, media_type: str, data: bytes) -> Descriptor:
        blob = Descriptor.of(media_type, data)
        await self._push_blob(target, blob, data)
        return blob

    async def _push_blob(self, target: Reference, blob: Descriptor, body: Body) -> None:
        retries = self._transport.retries
        for attempt in range(retries.attempts):
            if await self._has_blob(target, blob):
                return
            try:
                await self._upload(target, blob, body)
            except (RegistryUnreachable, NotFound):
                # An upload session is lost with its connection or its server: begin a new one.
                if attempt + 1 == retries.attempts:
                    raise
                await asyncio.sleep(retries.pause(attempt))
            else:
                return

    async def _has_blob(self, target: Reference, blob: Descriptor) -> bool:
        url = self._transport.url(target, f"blobs/{blob.digest}")
        try:
            # Asked with the rights of a push, so that the token serves the upload as well.
            async with self._transport.request("HEAD", url, target, PUSH):
                return True
        except NotFound:
            return False

    async def _upload(self, target: Reference, blob: Descriptor, body: Body) -> None:
        start = self._transport.url(target, "blobs/uploads/")
        async with self._transport.request("POST", start, target, PUSH) as response:
            location = response.headers.get("Location")
            if response.status != 202 or not location:
                raise RegistryError(
                    f"{target.name}: the registry opened no upload ({response.status})"
                )
            place = start.join(URL(location, encoded=True))
        url = place.extend_query(digest=blob.digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        async with self._transport.request(
            "PUT", url, target, PUSH, headers=headers, body=body, again=False
        ):
            pass


def _receive(reader: ThreadReader, layer: Descriptor, staging: Staging) -> None:
    title = layer.annotations.get(ANNOTATION_TITLE)
    if title and layer.annotations.get(ANNOTATION_UNPACK) != "true":
        staging.write(title, reader)
    elif title or layer.media_type in {TAR, TAR_GZIP, DOCKER_TAR_GZIP}:
        unpack(
            reader,
            staging,
            gzipped=bool(title) or layer.media_type != TAR,
            most=most_unpacked(layer.size),
        )
    else:
        raise UnsupportedArtifact(
            f"{layer.digest} is a layer of type {layer.media_type}; use tar, tar+gzip or a title"
        )


async def _settle(stream: BlobStream, work: "asyncio.Future[None]") -> None:
    """Wait for the thread, which ends soon once its stream is closed."""
    if not work.done():
        stream.abort()
    await asyncio.wait([work])


async def _chunks_of(file: FileLayer) -> AsyncIterator[bytes]:
    chunks = file.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _read_at_most(content: aiohttp.StreamReader, limit: int, what: str) -> bytes:
    parts = bytearray()
    while chunk := await content.read(1 << 16):
        parts += chunk
        if len(parts) > limit:
            raise UnsupportedArtifact(f"{what} is larger than {limit} bytes")
    return bytes(parts)


def _repository(repository: Reference | str) -> Reference:
    return repository if isinstance(repository, Reference) else Reference.parse(repository)
