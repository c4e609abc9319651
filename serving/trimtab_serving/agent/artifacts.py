"""Brings adapters and their references from the registry; the only module here that knows it."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trimtab_api.documents.evaluation import EvaluationReport
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.fingerprint import Fingerprint
from trimtab_api.reasons import FailureReason
from trimtab_oci import (
    ANNOTATION_BASE,
    DigestMismatch,
    DockerConfig,
    InvalidReference,
    Manifest,
    NotFound,
    Reference,
    RegistryClient,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
    UnsafeArtifact,
)
from trimtab_oci.transport import Retries
from trimtab_serving.agent.failure import LoadFailure

REASONS: tuple[tuple[type[RegistryError], FailureReason], ...] = (
    (DigestMismatch, FailureReason.DIGEST_MISMATCH),
    (UnsafeArtifact, FailureReason.UNSAFE_FORMAT),
    (RegistryForbidden, FailureReason.REGISTRY_FORBIDDEN),
    (NotFound, FailureReason.SOURCE_NOT_FOUND),
    (InvalidReference, FailureReason.URI_UNSUPPORTED),
    (RegistryUnreachable, FailureReason.REGISTRY_UNREACHABLE),
)

State = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ReportedReference:
    """What stands in a version's report about its fingerprint and traffic, and the report's SHA-256."""

    fingerprint: Fingerprint
    report: str
    profile: ReferenceProfile | None = None


class Artifacts:
    """A registry client that is kept open, and opened anew when the credentials have changed."""

    def __init__(self, credentials: Path) -> None:
        self._credentials = credentials
        self._client: RegistryClient | None = None
        self._opened_for: tuple[bool, State] | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None

    async def pull(self, uri: str, directory: Path, *, plain_http: bool) -> Manifest:
        """All files of an artifact, each verified before it appears."""
        try:
            client = await self._open(plain_http=plain_http)
            return await client.pull(_by_digest(uri), directory)
        except RegistryError as fault:
            raise _failure(fault) from fault

    async def reference(self, uri: str, digest: str, *, plain_http: bool) -> ReportedReference:
        """The reference in a version's report, which must be about that version."""
        try:
            client = await self._open(plain_http=plain_http)
            document = await client.document(_by_digest(uri))
            report = EvaluationReport.model_validate_json(document)
        except RegistryError as fault:
            raise _failure(fault) from fault
        except ValidationError as fault:
            message = f"the report {uri} cannot be read: {fault.error_count()} fields are wrong"
            raise LoadFailure(FailureReason.REPORT_INVALID, message) from fault
        if report.artifact_digest != digest:
            message = f"the report {uri} is about {report.artifact_digest}, not {digest}"
            raise LoadFailure(FailureReason.REPORT_INVALID, message)
        checksum = hashlib.sha256(document).hexdigest()
        return ReportedReference(report.fingerprint, checksum, report.profile)

    async def bundle(self, uri: str, *, plain_http: bool) -> bytes:
        """A signature as it was published."""
        try:
            client = await self._open(plain_http=plain_http)
            return await client.document(_by_digest(uri))
        except NotFound as fault:
            message = f"the signature {uri} is not in the registry"
            raise LoadFailure(FailureReason.SIGNATURE_MISSING, message) from fault
        except RegistryError as fault:
            raise _failure(fault) from fault

    async def _open(self, *, plain_http: bool) -> RegistryClient:
        async with self._lock:
            wanted = (plain_http, self._state())
            if self._client is None or self._opened_for != wanted:
                await self.close()
                self._client = RegistryClient(
                    plain_http=plain_http,
                    credentials=DockerConfig.load(self._credentials),
                    ca_file=self._credentials / "ca.crt",
                    # The keeper tries again by itself, and tells meanwhile what is wrong.
                    retries=Retries(attempts=2),
                )
                await self._client.__aenter__()
                self._opened_for = wanted
            return self._client

    def _state(self) -> State:
        if not self._credentials.is_dir():
            return ()
        files = (path for path in self._credentials.iterdir() if path.is_file())
        return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in files))


def base_of(manifest: Manifest) -> str | None:
    return manifest.annotations.get(ANNOTATION_BASE)


def _by_digest(uri: str) -> Reference:
    reference = Reference.parse(uri)
    if reference.digest is None:
        raise InvalidReference(f"{uri} names no digest; only content that is fixed is loaded")
    return reference


def _failure(fault: RegistryError) -> LoadFailure:
    for kind, reason in REASONS:
        if isinstance(fault, kind):
            return LoadFailure(reason, str(fault))
    return LoadFailure(FailureReason.INTERNAL_ERROR, str(fault))
