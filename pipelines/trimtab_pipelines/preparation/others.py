"""Held-out records of other prepared data, which must not be learned from."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from trimtab_api.documents import Output
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.dataset import HeldOutData
from trimtab_oci import Manifest, NotFound, Reference, RegistryClient, RegistryForbidden
from trimtab_pipelines import paths
from trimtab_pipelines.preparation.normalising import normalised
from trimtab_pipelines.preparation.records import with_texts
from trimtab_pipelines.prepared import HELD_OUT, Record, read_split
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import RunError

_PATIENCE_SECONDS = 120


def held_out_records(
    other: HeldOutData, output: Output, workspace: Path, warn: Callable[[str], None]
) -> Iterator[Record]:
    """The records of its validation and test splits."""
    name = f"Dataset {other.dataset}" if other.dataset else other.uri
    manifest = _pulled(other, output, workspace, name)
    if manifest.kind != "Dataset":
        raise RunError(
            FailureReason.URI_UNSUPPORTED,
            f"leakage.against: {name} is no prepared data; name a Dataset, or the artifact of one",
        )
    number = 0
    for split in HELD_OUT:
        for record in read_split(workspace, split):
            number += 1
            yield with_texts(record, normalised)
    if number == 0:
        warn(f"leakage.against: {name} has no held-out record")


def _pulled(other: HeldOutData, output: Output, workspace: Path, name: str) -> Manifest:
    reference = Reference.parse(other.uri)
    # Only our own registry may be without TLS; others are asked with the same credentials.
    plain = {output.repository.partition("/")[0]} if output.plain_http else False

    async def pull() -> Manifest:
        async with RegistryClient.from_secret(
            paths.credentials("registry"), plain_http=plain
        ) as registry:
            return await registry.pull(reference, workspace)

    try:
        return asyncio.run(again_while_unreachable(pull, _PATIENCE_SECONDS))
    except NotFound as error:
        raise RunError(
            FailureReason.SOURCE_NOT_FOUND,
            f"leakage.against: {name} is not in its registry any more; prepare it again or remove it",
        ) from error
    except RegistryForbidden as error:
        raise RunError(
            FailureReason.SOURCE_FORBIDDEN,
            f"leakage.against: {name} may not be read with the registry's credentials",
        ) from error
