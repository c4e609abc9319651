"""A version's files in the artifact store of an MLflow server, for tools that load models from there.

They come from the registry by digest, and every blob is verified before one byte goes on. They go
through the server, which has the store's credentials; the run says which digest it has once all of
them are there.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_oci import InvalidReference, Reference, RegistryError
from trimtab_pipelines.export.mlflow import ExportFailed, MlflowServer
from trimtab_pipelines.registry import again_while_unreachable, open_registry

TAG: Final = "trimtab.weights"
FOLDER: Final = "model"
_PATIENCE_SECONDS: Final = 60.0


def upload(version: ModelVersion, server: MlflowServer, run: str, *, plain_http: bool) -> None:
    """Bring what the run does not have yet; an earlier attempt that was cut off is gone on with."""
    found = server.get("runs/get", run_id=run)["run"]
    artifact = version.spec.artifact
    tags = {t["key"]: t["value"] for t in found["data"].get("tags", [])}
    if tags.get(TAG) == artifact.digest:
        return
    place = f"{place_of(str(found['info']['artifact_uri']))}/{FOLDER}"
    with tempfile.TemporaryDirectory(prefix="mlflow-") as name:
        folder = Path(name)
        _pull(artifact.uri, folder, plain_http=plain_http)
        _bring(server, place, folder)
    server.post("runs/set-tag", run_id=run, key=TAG, value=artifact.digest)


def _bring(server: MlflowServer, place: str, folder: Path) -> None:
    files = {f.relative_to(folder): f for f in folder.rglob("*") if f.is_file()}
    for inside in _lacking(server, place, files):
        server.upload(f"{place}/{quote(inside.as_posix())}", files[inside])
    if lost := _lacking(server, place, files):
        raise ExportFailed(f"the store took {lost[0]} and does not have it; try again")


def _lacking(server: MlflowServer, place: str, files: Mapping[Path, Path]) -> list[Path]:
    """What is not in the store with its size; it lists one folder at a time."""
    there = {
        parent / name: size
        for parent in {inside.parent for inside in files}
        for name, size in server.files(f"{place}/{parent.as_posix()}".removesuffix("/.")).items()
    }
    return sorted(
        inside for inside, file in files.items() if there.get(inside) != file.stat().st_size
    )


def place_of(address: str) -> str:
    """Where the run's artifacts are in the server's store."""
    parts = urlsplit(address)
    if parts.scheme != "mlflow-artifacts":
        raise ExportFailed(
            f"the run's artifacts lie at {address}, where only clients with credentials of their own can write; start "
            "the server with --serve-artifacts and name another --experiment, or leave out --weights"
        )
    return quote(parts.path.strip("/"))


def _pull(uri: str, folder: Path, *, plain_http: bool) -> None:
    async def pulled() -> None:
        async with open_registry(plain_http=plain_http) as registry:
            await registry.pull(Reference.parse(uri), folder)

    try:
        asyncio.run(again_while_unreachable(pulled, _PATIENCE_SECONDS))
    except (RegistryError, InvalidReference, OSError) as error:
        raise ExportFailed(f"{uri} cannot be brought: {error}") from error
