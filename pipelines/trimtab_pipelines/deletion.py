"""The stage `delete`: an artifact and what is attached to it leave the registry.

What is attached goes first, so that a deletion which was interrupted finds the rest again.
"""

import asyncio
from typing import Final

from trimtab_api.documents import DeletionResult, DeletionRun, RunFailure
from trimtab_api.reasons import FailureReason
from trimtab_oci import Reference, RegistryClient, RegistryForbidden
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.runtime import RunError, Stage, Stop

PATIENCE_SECONDS: Final = 30.0
# Reports have signatures; nothing hangs deeper. A registry that says otherwise is not believed.
DEEPEST: Final = 4


def work(run: DeletionRun, _stop: Stop) -> DeletionResult:
    """Delete, as often as it takes. Deleting twice changes nothing."""
    try:
        gone = asyncio.run(again_while_unreachable(lambda: _delete(run), PATIENCE_SECONDS))
    except RegistryForbidden as error:
        raise RunError(
            FailureReason.REGISTRY_FORBIDDEN,
            f"the registry does not let it be deleted: {error}; enable deletion in the registry, and let the account "
            "of the namespace's registry Secret delete",
        ) from error
    return DeletionResult(manifests=gone)


async def _delete(run: DeletionRun) -> int:
    artifact = Reference.parse(run.artifact.uri).at(run.artifact.digest)
    async with open_registry(plain_http=run.plain_http) as registry:
        attached = await _attached(registry, artifact, DEEPEST)
        for each in (*reversed(attached), artifact):
            await registry.delete(each)
    return len(attached) + 1


async def _attached(registry: RegistryClient, subject: Reference, depth: int) -> list[Reference]:
    """Everything that hangs on the artifact, nearest first."""
    found: list[Reference] = []
    if depth:
        for item in await registry.referrers(subject):
            found.append(subject.at(item.digest))
            found += await _attached(registry, subject.at(item.digest), depth - 1)
    return found


def failed(failure: RunFailure) -> DeletionResult:
    """The result of a deletion that did not take place."""
    return DeletionResult(failure=failure)


STAGE = Stage(run=DeletionRun, work=work, failed=failed)
