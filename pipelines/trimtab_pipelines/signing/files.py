"""The files of a version as they are signed: verified against its digest, then hashed one by one."""

import asyncio
import hashlib
from pathlib import Path

from trimtab_api.documents import SigningRun
from trimtab_api.reasons import FailureReason
from trimtab_oci import Manifest, Reference
from trimtab_pipelines import paths
from trimtab_pipelines.evaluation.fetching import check_mounted, pull, registry_client
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import RunError

_PATIENCE_SECONDS = 120.0


def fetched(run: SigningRun, workspace: Path) -> Path:
    """The folder of the files: as the kubelet has mounted it, or pulled."""
    if run.mounted is None:
        folder = workspace / "files"
        pull(run.artifact, folder, run.output)
        return folder
    folder = paths.inside(run.mounted.path)
    if not folder.is_dir() or not any(folder.iterdir()):
        # The kubelet mounts before it starts us, so this is no fault of the user's.
        raise RunError(
            FailureReason.INTERNAL_ERROR, f"{run.mounted.uri} is not mounted at {folder}"
        )
    check_mounted(
        folder, asyncio.run(again_while_unreachable(lambda: _manifest(run), _PATIENCE_SECONDS))
    )
    return folder


async def _manifest(run: SigningRun) -> Manifest:
    async with registry_client(run.output) as registry:
        return await registry.manifest(Reference.parse(run.artifact.uri).at(run.artifact.digest))


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = digest
    return found
