"""Whether a version's signature verifies, asked before each load where the service demands it.

The files have been hashed by the store, and the bundle is kept beside them: with keys and
certificates nothing is asked of a network. A fault keeps a version out; what is loaded stays, and
another attempt follows, so that a signer who was added meanwhile counts.
"""

import asyncio
import importlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from trimtab_api.reasons import FailureReason
from trimtab_api.routing import RoutedVersion
from trimtab_serving.agent.artifacts import Artifacts
from trimtab_serving.agent.failure import LoadFailure
from trimtab_serving.agent.store import AdapterStore, Record, hashes_of


class Signatures:
    """The policy of one engine: `trust` is the folder of the trusted signers, or None for no policy.

    With `subjects` only these certificates count. `base` is where the engine's base is mounted, if its
    signature counts too.
    """

    def __init__(
        self,
        trust: Path | None,
        store: AdapterStore,
        artifacts: Artifacts,
        subjects: Sequence[str] = (),
        base: Path | None = None,
    ) -> None:
        self._trust = trust
        self._subjects = tuple(subjects)
        self._store = store
        self._artifacts = artifacts
        self._base = base
        self._base_files: Mapping[str, str] | None = None
        self._hashing = asyncio.Lock()

    @property
    def cover_base(self) -> bool:
        """Whether nothing is to be loaded over a base that is not signed."""
        return self._base is not None

    async def prepare(self) -> None:
        """The library takes a second to import; that it happens beside the engine's own start."""
        if self._trust is not None:
            await asyncio.to_thread(importlib.import_module, "trimtab_oci.signatures")
        if self._base is not None:
            with suppress(LoadFailure):  # each load will say so
                await self._mounted(self._base)

    async def check_base(self, version: RoutedVersion, record: Record, *, plain_http: bool) -> None:
        """LoadFailure unless the base is signed as it is mounted; `record` has its report."""
        if self._base is not None:
            files = await self._mounted(self._base)
            as_mounted = record.model_copy(update={"files": dict(files)})
            await self.check(version, as_mounted, plain_http=plain_http)

    async def _mounted(self, base: Path) -> Mapping[str, str]:
        """The base's files, hashed once: nobody can change them while they are mounted."""
        async with self._hashing:
            if self._base_files is None:
                try:
                    self._base_files = await asyncio.to_thread(hashes_of, base)
                except OSError as fault:
                    message = f"the base in {base} cannot be read: {fault}"
                    raise LoadFailure(FailureReason.CORRUPT_WEIGHTS, message) from fault
            return self._base_files

    async def check(self, version: RoutedVersion, record: Record, *, plain_http: bool) -> None:
        """LoadFailure unless somebody who is trusted has signed exactly these files and this report."""
        if self._trust is None:
            return
        uri = version.signature
        if uri is None:
            message = (
                f"{version.version} has no signature, and the service loads nothing without; give the "
                "ModelVersion spec.signing"
            )
            raise LoadFailure(FailureReason.SIGNATURE_MISSING, message)
        bundle = await asyncio.to_thread(self._store.signature, version.digest, uri)
        if bundle is None:
            bundle = await self._artifacts.bundle(uri, plain_http=plain_http)
            await asyncio.to_thread(self._store.keep_signature, version.digest, uri, bundle)
        fault = await asyncio.to_thread(
            _fault, bundle, record.files, record.report, self._trust, self._subjects
        )
        if fault is not None:
            reason, message = fault
            raise LoadFailure(reason, f"the signature of {version.version}: {message}")


def _fault(
    bundle: bytes, files: Mapping[str, str], report: str, trust: Path, subjects: Sequence[str]
) -> tuple[FailureReason, str] | None:
    # In the thread that may wait for it: other agents never import it.
    from trimtab_oci import signatures  # noqa: PLC0415

    now = datetime.fromtimestamp(time.time(), UTC)
    try:
        signatures.verify(bundle, files, report, signatures.Trust.load(trust, subjects), now)
    except signatures.SignatureFault as fault:
        return fault.reason, fault.message
    return None
