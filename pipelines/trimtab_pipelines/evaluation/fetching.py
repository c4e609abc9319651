"""The files of a version: fetched or found mounted, and compared with what their digests say."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from trimtab_api.documents import EvaluationRun, Output
from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import (
    ANNOTATION_BASE,
    ANNOTATION_FILE,
    ANNOTATION_RANK,
    Descriptor,
    Manifest,
    Reference,
    RegistryClient,
)
from trimtab_oci.layers import FileLayer
from trimtab_pipelines import paths
from trimtab_pipelines.evaluation.adapters import check_adapter, facts_of
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.safety import check_model_directory

_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Candidate:
    """Verified files: the network's folder, and the adapter's if there is one."""

    manifest: Manifest
    model: Path
    adapter: Path | None
    rank: int | None


def fetch_candidate(run: EvaluationRun, workspace: Path) -> Candidate:
    """Bring the version's files and refuse what is not sound or is not what it is said to be."""
    if run.kind is ArtifactKind.FULL:
        return _full(run, workspace)
    if run.base is None:
        raise RunError(
            FailureReason.INTERNAL_ERROR, "the run document names no base of the adapter"
        )
    folder = workspace / "adapter"
    manifest = pull(run.artifact, folder, run.output)
    _check_kind(manifest, run.kind)
    check_model_directory(folder)
    facts = facts_of(
        folder,
        manifest.annotations.get(ANNOTATION_BASE),
        manifest.annotations.get(ANNOTATION_RANK),
        run.rank,
        run.base.digest,
    )
    check_adapter(facts)
    base = _mounted(run.base)
    check_model_directory(base)
    return Candidate(manifest, base, folder, int(facts.config["r"]))


def registry_client(output: Output) -> RegistryClient:
    """Imported versions may lie in another registry than ours; only ours may be without TLS."""
    host = output.repository.partition("/")[0]
    return RegistryClient.from_secret(
        paths.credentials("registry"), plain_http={host} if output.plain_http else False
    )


def fetch_data(stored: Stored, workspace: Path, output: Output) -> Path:
    """Bring prepared data."""
    folder = workspace / "data"
    pull(stored, folder, output)
    return folder


def pull(stored: Stored, folder: Path, output: Output) -> Manifest:
    """Fetch an artifact; every byte is verified against the digest."""
    reference = Reference.parse(stored.uri).at(stored.digest)

    folder.mkdir(exist_ok=True)

    async def attempt() -> Manifest:
        async with registry_client(output) as registry:
            return await registry.pull(reference, folder)

    return asyncio.run(again_while_unreachable(attempt, _PATIENCE_SECONDS))


def _full(run: EvaluationRun, workspace: Path) -> Candidate:
    if run.mounted is None:
        folder = workspace / "model"
        manifest = pull(run.artifact, folder, run.output)
    else:
        folder = _mounted(run.mounted)
        manifest = _manifest(run)
        check_mounted(folder, manifest)
    _check_kind(manifest, run.kind)
    check_model_directory(folder)
    return Candidate(manifest, folder, None, None)


def _manifest(run: EvaluationRun) -> Manifest:
    reference = Reference.parse(run.artifact.uri).at(run.artifact.digest)

    async def attempt() -> Manifest:
        async with registry_client(run.output) as registry:
            return await registry.manifest(reference)

    return asyncio.run(again_while_unreachable(attempt, _PATIENCE_SECONDS))


def _mounted(mounted: Mounted) -> Path:
    folder = paths.inside(mounted.path)
    if not folder.is_dir() or not any(folder.iterdir()):
        # The kubelet mounts before it starts us, so this is no fault of the user's.
        raise RunError(FailureReason.INTERNAL_ERROR, f"{mounted.uri} is not mounted at {folder}")
    return folder


def check_mounted(folder: Path, manifest: Manifest) -> None:
    """Compare mounted files with the layers of their manifest, byte by byte."""
    for layer in manifest.layers:
        name = layer.annotations.get(ANNOTATION_FILE)
        if name is not None and not _is_same(folder / name, name, layer):
            raise RunError(
                FailureReason.DIGEST_MISMATCH,
                f"the mounted {name} is not what {manifest.digest} says; remove the image from "
                "the node and try again",
            )


def _is_same(path: Path, name: str, layer: Descriptor) -> bool:
    if not path.is_file():
        return False
    return FileLayer(path, name, path.stat().st_size).descriptor().digest == layer.digest


def _check_kind(manifest: Manifest, kind: ArtifactKind) -> None:
    if manifest.kind not in {None, kind.value}:
        raise RunError(
            FailureReason.UNSUPPORTED_MODEL,
            f"the artifact is of kind {manifest.kind}, and spec.artifact.kind says {kind.value}; "
            f"declare {manifest.kind}",
        )
