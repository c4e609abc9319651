"""The port `Registry`: manifests and documents, with errors in our words.

The operator reads what pods have pushed and pushes nothing itself. Its credentials are files that
the chart mounts; it never asks the API server for a Secret.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from trimtab_api import names
from trimtab_oci import (
    NotFound,
    Reference,
    RegistryClient,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
)
from trimtab_oci.transport import Retries
from trimtab_operator.domain.errors import (
    ArtifactForbidden,
    ArtifactInvalid,
    ArtifactMissing,
    ArtifactUnreachable,
)
from trimtab_operator.domain.manifests import Manifest

# The queue tries again with growing distance; a worker must not be held up by pauses.
QUICK: Final = Retries(attempts=2, first_pause_seconds=0.2, longest_pause_seconds=1.0)


class OciRegistry:
    """The registry of `Settings.registry`. Use it in `async with`."""

    def __init__(self, *, plain_http: bool) -> None:
        place = Path(names.REGISTRY_CREDENTIALS_PATH)
        self._client = RegistryClient.from_secret(place, plain_http=plain_http)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def manifest(self, uri: str) -> Manifest:
        """The manifest, verified."""
        with _our_errors():
            found = await self._client.manifest(Reference.parse(uri))
        content: Manifest = json.loads(found.raw)
        return content

    async def document(self, uri: str) -> bytes:
        """The bytes of a one-blob artifact."""
        with _our_errors():
            return await self._client.document(Reference.parse(uri))


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except RegistryUnreachable as error:
        raise ArtifactUnreachable(str(error)) from error
    except RegistryForbidden as error:
        raise ArtifactForbidden(str(error)) from error
    except NotFound as error:
        raise ArtifactMissing(str(error)) from error
    except RegistryError as error:
        raise ArtifactInvalid(str(error)) from error
