"""Artifacts of an OCI registry (oci://): what we pushed ourselves, and what other tools did."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from trimtab_oci import (
    InvalidReference,
    Manifest,
    NotFound,
    Reference,
    RegistryClient,
    RegistryForbidden,
    RegistryUnreachable,
)
from trimtab_pipelines import paths
from trimtab_pipelines.sources.access import (
    Access,
    Listed,
    forbidden,
    not_found,
    unreachable,
    unsupported,
)
from trimtab_pipelines.sources.globs import matching

T = TypeVar("T")

# Says what is in prepared data; itself no data.
DATASET_DOCUMENT = "dataset.json"


class ArtifactReader:
    """Files of one artifact; `#glob` after the address chooses among them."""

    def __init__(self, access: Access) -> None:
        address, _, self._glob = access.uri.partition("#")
        self._access = access
        self.reference = parsed_reference(access, address)
        self._folder = access.workspace / "artifact"

    def listed(self) -> list[Listed]:
        manifest = asyncio.run(self._pulled())
        names = [
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file()
        ]
        if manifest.kind == "Dataset":
            names = [name for name in names if name != DATASET_DOCUMENT]
        found = matching(names, self._glob or "**")
        if not found:
            raise not_found(
                self._access,
                f'{self.reference} has no file that matches "{self._glob}"; it has: '
                f"{', '.join(sorted(names)[:5]) or 'nothing'}",
            )
        return [Listed(name, f"{self.reference}#{name}") for name in found]

    def fetch(self, item: Listed) -> Path:
        return self._folder / item.key

    async def _pulled(self) -> Manifest:
        async def pull(registry: RegistryClient) -> Manifest:
            reference = self.reference.at(await registry.resolve(self.reference))
            self._folder.mkdir(parents=True, exist_ok=True)
            return await registry.pull(reference, self._folder)

        return await with_registry(self._access, self.reference, pull)


def parsed_reference(access: Access, address: str) -> Reference:
    try:
        return Reference.parse(address)
    except InvalidReference as error:
        raise unsupported(access, str(error)) from error


async def with_registry(
    access: Access, reference: Reference, work: Callable[[RegistryClient], Awaitable[T]]
) -> T:
    """Do something with the registry of a source; what goes wrong is said of the source."""
    try:
        async with _open(access, reference) as registry:
            return await work(registry)
    except RegistryForbidden as error:
        raise forbidden(
            access,
            f"{reference} may not be read; name a Secret with .dockerconfigjson in its "
            f"credentials ({error})",
        ) from error
    except NotFound as error:
        raise not_found(access, f"{reference} does not exist in its registry") from error
    except RegistryUnreachable as error:
        raise unreachable(
            access, f"the registry of {reference} cannot be reached: {error}"
        ) from error


def _open(access: Access, reference: Reference) -> RegistryClient:
    """Our own registry is asked as the operator says, any other with the user's Secret alone."""
    is_ours = reference.registry == access.output.repository.partition("/")[0]
    folder = access.secret.folder
    if is_ours and not (folder / ".dockerconfigjson").is_file():
        folder = paths.credentials("registry")
    return RegistryClient.from_secret(folder, plain_http=is_ours and access.output.plain_http)
