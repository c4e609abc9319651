"""Adapters on disk, in the directory that the engine reads and only the agent writes.

A directory is complete or not there. It is read-only for as long as it exists. What was verified
once is used again after a restart of the agent, without the registry, after its files have been
hashed anew.
"""

import asyncio
import errno
import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.fingerprint import Fingerprint
from trimtab_api.model import ApiModel
from trimtab_api.reasons import FailureReason, LoadReason
from trimtab_api.routing import RoutedVersion
from trimtab_oci import Manifest
from trimtab_serving.agent.artifacts import Artifacts, ReportedReference, base_of
from trimtab_serving.agent.failure import LoadFailure

logger = logging.getLogger(__name__)

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"
# What an engine might read as pickle if it were there.
PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})


class Record(ApiModel):
    """What was true of an artifact when it was verified."""

    digest: str
    base: str | None = None
    files: dict[str, str]
    report: str
    fingerprint: Fingerprint
    profile: ReferenceProfile | None = None


class KeptSignature(ApiModel):
    """A signature and from where it came."""

    uri: str
    bundle: str


class AdapterStore:
    """The shared directory."""

    def __init__(self, directory: Path, artifacts: Artifacts) -> None:
        self._directory = directory
        self._records = directory / ".records"
        self._artifacts = artifacts
        # Threads of several loads may write the record of the one base that all of them look at.
        self._writing = threading.Lock()

    def path_of(self, digest: str) -> Path:
        return self._directory / digest.removeprefix("sha256:")

    async def bring(self, version: RoutedVersion, *, plain_http: bool) -> Record:
        """The adapter's files and its reference, verified; the files are at `path_of`."""
        record = await asyncio.to_thread(self._known, version.digest)
        if record is not None:
            return record
        try:
            return await self._fetch(version, plain_http=plain_http)
        except OSError as fault:
            await asyncio.to_thread(self.remove, version.digest)
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f"no space is left in {self._directory} for {version.version}"
                raise LoadFailure(FailureReason.DISK_FULL, message) from fault
            raise LoadFailure(FailureReason.INTERNAL_ERROR, str(fault)) from fault

    async def reported(self, version: RoutedVersion, *, plain_http: bool) -> Record:
        """What the report says, for a version whose weights are not loaded by us."""
        record = await asyncio.to_thread(self._read_record, version.digest)
        if record is not None:
            return record
        if version.report is None:
            raise _no_report(version)
        found = await self._artifacts.reference(
            version.report, version.digest, plain_http=plain_http
        )
        record = Record(
            digest=version.digest,
            files={},
            report=found.report,
            fingerprint=found.fingerprint,
            profile=found.profile,
        )
        await asyncio.to_thread(self._write_record, record)
        return record

    async def profile(self, version: RoutedVersion, *, plain_http: bool) -> ReferenceProfile | None:
        """What the version's traffic looked like when it was evaluated, if its report tells."""
        record = await asyncio.to_thread(self._read_record, version.digest)
        if record is not None and "profile" in record.model_fields_set:
            return record.profile
        if version.report is None:
            return None
        # An earlier release has kept the record and left the profile out.
        found = await self._artifacts.reference(
            version.report, version.digest, plain_http=plain_http
        )
        if record is not None:
            kept = record.model_copy(update={"profile": found.profile})
            await asyncio.to_thread(self._write_record, kept)
        return found.profile

    async def _fetch(self, version: RoutedVersion, *, plain_http: bool) -> Record:
        if version.uri is None:
            message = f"{version.version} has no address to load it from"
            raise LoadFailure(FailureReason.URI_UNSUPPORTED, message)
        if not version.uri.endswith(f"@{version.digest}"):
            message = f"{version.uri} is not the artifact {version.digest}"
            raise LoadFailure(FailureReason.DIGEST_MISMATCH, message)
        if version.report is None:
            raise _no_report(version)
        incoming = self._directory / f".incoming-{version.digest.removeprefix('sha256:')}"
        await asyncio.to_thread(_empty, incoming)
        manifest, reference = await _both(
            self._artifacts.pull(version.uri, incoming, plain_http=plain_http),
            self._artifacts.reference(version.report, version.digest, plain_http=plain_http),
        )
        return await asyncio.to_thread(
            self._settle, incoming, version.digest, base_of(manifest), reference
        )

    def _settle(
        self, incoming: Path, digest: str, base: str | None, reference: ReportedReference
    ) -> Record:
        _check_files(incoming)
        record = Record(
            digest=digest,
            base=base,
            files=hashes_of(incoming),
            report=reference.report,
            fingerprint=reference.fingerprint,
            profile=reference.profile,
        )
        _make_read_only(incoming)
        self._write_record(record)
        place = self.path_of(digest)
        incoming.rename(place)
        place.chmod(0o555)
        return record

    def _known(self, digest: str) -> Record | None:
        """What is on disk already, if it is still what it was."""
        place = self.path_of(digest)
        record = self._read_record(digest)
        if record is not None and place.is_dir() and hashes_of(place) == record.files:
            return record
        if place.exists():
            logger.warning("%s is not what was stored there; it is fetched again", place)
            self.remove(digest)
        return None

    def _read_record(self, digest: str) -> Record | None:
        file = self._records / f"{digest.removeprefix('sha256:')}.json"
        try:
            record = Record.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.digest == digest else None

    def _write_record(self, record: Record) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        file = self._records / f"{record.digest.removeprefix('sha256:')}.json"
        fresh = file.with_suffix(".new")
        with self._writing:
            fresh.write_text(json.dumps(record.to_wire()))
            fresh.replace(file)

    def signature(self, digest: str, uri: str) -> bytes | None:
        """The signature that is kept for an artifact, if it is the one under this address."""
        try:
            kept = KeptSignature.model_validate_json(self._signature_file(digest).read_bytes())
        except (OSError, ValidationError):
            return None
        return kept.bundle.encode() if kept.uri == uri else None

    def keep_signature(self, digest: str, uri: str, bundle: bytes) -> None:
        """For loads at which the registry is away; one that is no text cannot be good, and is not kept."""
        try:
            kept = KeptSignature(uri=uri, bundle=bundle.decode())
        except UnicodeDecodeError:
            return
        self._records.mkdir(parents=True, exist_ok=True)
        self._signature_file(digest).write_text(json.dumps(kept.to_wire()))

    def _signature_file(self, digest: str) -> Path:
        return self._records / f"{digest.removeprefix('sha256:')}.signature.json"

    def remove(self, digest: str) -> None:
        """Take an artifact away; nothing may be using it."""
        hexadecimal = digest.removeprefix("sha256:")
        (self._records / f"{hexadecimal}.json").unlink(missing_ok=True)
        self._signature_file(digest).unlink(missing_ok=True)
        for place in (self._directory / hexadecimal, self._directory / f".incoming-{hexadecimal}"):
            _remove(place)

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what nobody wants, left behind by an earlier process."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for place in self._directory.iterdir():
            digest = f"sha256:{place.name}"
            if len(place.name) == 64 and digest not in keep:
                self.remove(digest)
            elif place.name.startswith(".incoming-"):
                _remove(place)


async def _both(
    pull: Coroutine[Any, Any, Manifest], report: Coroutine[Any, Any, ReportedReference]
) -> tuple[Manifest, ReportedReference]:
    """Both at once; when one fails, the other does not go on writing behind our back."""
    tasks = asyncio.ensure_future(pull), asyncio.ensure_future(report)
    try:
        return await tasks[0], await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _no_report(version: RoutedVersion) -> LoadFailure:
    message = (
        f"{version.version} has no evaluation report, and without its fingerprint nobody can tell "
        "what the engine loads"
    )
    return LoadFailure(LoadReason.REPORT_MISSING, message)


def _check_files(directory: Path) -> None:
    """Only safetensors and JSON may reach the engine, and there must be an adapter in them."""
    names = {path.name for path in directory.rglob("*") if path.is_file()}
    if pickles := sorted(name for name in names if Path(name).suffix in PICKLES):
        message = f"the adapter holds {pickles[0]}, which may be pickle"
        raise LoadFailure(FailureReason.UNSAFE_FORMAT, message)
    if missing := sorted({WEIGHTS, CONFIG} - names):
        raise LoadFailure(FailureReason.UNSAFE_FORMAT, f"the adapter has no {missing[0]}")
    for path in directory.rglob("*.safetensors"):
        if not _is_safetensors(path):
            message = f"{path.name} is no safetensors file, whatever its name says"
            raise LoadFailure(FailureReason.UNSAFE_FORMAT, message)


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= path.stat().st_size - 8:
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def hashes_of(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file below a directory, by its path in there."""
    found: dict[str, str] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(directory).as_posix()] = digest
    return found


def _make_read_only(directory: Path) -> None:
    """Readable for the engine's user whatever it is, writable for nobody."""
    for path in directory.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _remove(place: Path) -> None:
    if not place.exists():
        return
    for path in (place, *(p for p in place.rglob("*") if p.is_dir())):
        path.chmod(0o755)
    shutil.rmtree(place)


def _empty(place: Path) -> None:
    _remove(place)
    place.mkdir(parents=True)
