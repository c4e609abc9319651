"""One load from beginning to end: fetched, told to the engine, and believed only when it shows."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from trimtab_api.fingerprint import Comparison, Fingerprint, Match
from trimtab_api.reasons import FailureReason, LoadReason
from trimtab_api.routing import RoutedVersion, RoutingTable
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_serving.agent.engine import EngineClient, EngineRefused, EngineUnavailable
from trimtab_serving.agent.failure import LoadFailure
from trimtab_serving.agent.signatures import Signatures
from trimtab_serving.agent.store import AdapterStore
from trimtab_serving.agent.verify import judge, questions_of

logger = logging.getLogger(__name__)

FETCHES_AT_ONCE = 4
CHECKS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Verified:
    """A version that the engine answers with, under this name."""

    engine_name: str
    reference: Fingerprint | None
    comparison: Comparison | None

    @property
    def is_indistinguishable(self) -> bool:
        return self.comparison is not None and self.comparison.match is Match.INDISTINGUISHABLE


class Loader:
    """Loads are serial in the engine; fetches and checks overlap within bounds.

    `stamp` makes names differ from those of an earlier process of this agent, whose adapters the
    engine may still remember.
    """

    def __init__(
        self,
        engine: EngineClient,
        store: AdapterStore,
        signatures: Signatures,
        base_name: str,
        stamp: str,
    ) -> None:
        self._engine = engine
        self._store = store
        self._signatures = signatures
        self._base_name = base_name
        self._stamp = stamp
        self._count = 0
        self._one_at_a_time = asyncio.Lock()
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def load(
        self, version: RoutedVersion, table: RoutingTable, siblings: Mapping[str, Fingerprint]
    ) -> Verified:
        """Raises LoadFailure, or EngineUnavailable when that says nothing about the version."""
        if version.kind is ArtifactKind.FULL:
            return await self._base(version, table, siblings)
        async with self._fetches:
            record = await self._store.bring(version, plain_http=table.plain_http)
        if record.base is not None and record.base != table.base_digest:
            message = (
                f"{version.version} was made for the base {record.base}, not {table.base_digest}"
            )
            raise LoadFailure(FailureReason.BASE_MISMATCH, message)
        await self._signatures.check(version, record, plain_http=table.plain_http)
        if self._signatures.cover_base:
            await self._known_base(table)
        name = self._new_name(version.digest)
        try:
            async with self._one_at_a_time:
                await self._engine.load(name, self._store.path_of(version.digest))
            comparison = await self.check(name, version.digest, record.fingerprint, siblings)
        except EngineRefused as refusal:
            await self._forget(name)
            raise _refused(version, refusal) from refusal
        except (LoadFailure, asyncio.CancelledError):
            await self._forget(name)
            raise
        return Verified(name, record.fingerprint, comparison)

    async def _base(
        self, version: RoutedVersion, table: RoutingTable, siblings: Mapping[str, Fingerprint]
    ) -> Verified:
        """The base is what the engine started with; with a report, it too must show."""
        if version.digest != table.base_digest:
            message = (
                f"{version.version} is a full model of its own; this engine serves the base "
                f"{table.base_digest}"
            )
            raise LoadFailure(FailureReason.BASE_MISMATCH, message)
        if version.report is None and not self._signatures.cover_base:
            return Verified(self._base_name, None, None)
        record = await self._store.reported(version, plain_http=table.plain_http)
        await self._signatures.check_base(version, record, plain_http=table.plain_http)
        reference = record.fingerprint
        try:
            comparison = await self.check(self._base_name, version.digest, reference, siblings)
        except EngineRefused as refusal:
            raise _refused(version, refusal) from refusal
        return Verified(self._base_name, reference, comparison)

    async def _known_base(self, table: RoutingTable) -> None:
        """An adapter over weights that nobody vouches for is not what was signed."""
        versions = (v for model in table.models for v in model.versions)
        base = next((v for v in versions if v.digest == table.base_digest), None)
        if base is None:
            message = "the routing table does not say whose signature the base has"
            raise LoadFailure(FailureReason.SIGNATURE_MISSING, message)
        record = await self._store.reported(base, plain_http=table.plain_http)
        await self._signatures.check_base(base, record, plain_http=table.plain_http)

    async def check(
        self,
        name: str,
        digest: str,
        reference: Fingerprint,
        siblings: Mapping[str, Fingerprint],
    ) -> Comparison:
        """Ask the engine what it answers under a name; LoadFailure when it is another version."""
        questions = questions_of(reference)
        async with self._checks:
            answers = await self._engine.logprobs(name, questions)
        others = [other for key, other in siblings.items() if key != digest]
        comparison = judge(reference, questions, answers, others)
        if comparison.match is Match.FOREIGN:
            message = (
                "the engine said that it had loaded this version but answers as another: "
                f"{_distances(comparison)}; tolerance {reference.tolerance:g} nats per token"
            )
            raise LoadFailure(LoadReason.FINGERPRINT_MISMATCH, message)
        return comparison

    async def unload(self, name: str, digest: str) -> None:
        """Out of the engine first, then off the disk. The base stays: nothing of it was loaded."""
        if name != self._base_name:
            async with self._one_at_a_time:
                await self._engine.unload(name)
        await asyncio.to_thread(self._store.remove, digest)

    async def _forget(self, name: str) -> None:
        """An adapter that failed its check must not stay where somebody could ask for it."""
        try:
            async with self._one_at_a_time:
                await self._engine.unload(name)
        except (EngineRefused, EngineUnavailable) as fault:
            # Its name is told to nobody and never used again.
            logger.warning("%s could not be unloaded: %s", name, fault)

    def _new_name(self, digest: str) -> str:
        self._count += 1
        return f"{digest.removeprefix('sha256:')[:12]}-{self._stamp}-{self._count}"


def _refused(version: RoutedVersion, refusal: EngineRefused) -> LoadFailure:
    said = f"the engine refused {version.version} ({refusal.status}): {refusal.message}"
    if "rank" in refusal.message.lower():
        return LoadFailure(FailureReason.RANK_MISMATCH, said)
    return LoadFailure(LoadReason.ENGINE_REFUSED, said)


def _distances(comparison: Comparison) -> str:
    parts = [f"{comparison.own:.4g} from its own reference"]
    if comparison.base is not None:
        parts.append(f"{comparison.base:.4g} from its base")
    if comparison.sibling is not None:
        parts.append(f"{comparison.sibling:.4g} from the nearest sibling")
    return ", ".join(parts)
