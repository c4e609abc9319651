"""Whether a version's signature verifies, asked before each load where the service demands it.

The files have been hashed by the store, and the bundle is kept beside them: with keys and
certificates nothing is asked of a network. A fault keeps a version out; what is loaded stays, and
another attempt follows, so that a signer who was added meanwhile counts.
"""

import asyncio
import importlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from trimtab_api.reasons import FailureReason
from trimtab_api.routing import RoutedVersion
from trimtab_serving.agent.artifacts import Artifacts
from trimtab_serving.agent.failure import LoadFailure
from trimtab_serving.agent.store import AdapterStore, Record


class Signatures:
    """The policy of one engine: `trust` is the folder of the trusted signers, or None for no policy.

    With `subjects` only these certificates count.
    """

    def __init__(
        self,
        trust: Path | None,
        store: AdapterStore,
        artifacts: Artifacts,
        subjects: Sequence[str] = (),
    ) -> None:
        self._trust = trust
        self._subjects = tuple(subjects)
        self._store = store
        self._artifacts = artifacts

    async def prepare(self) -> None:
        """The library takes a second to import; that it happens beside the engine's own start."""
        if self._trust is not None:
            await asyncio.to_thread(importlib.import_module, "trimtab_oci.signatures")

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
