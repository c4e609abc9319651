"""The command `export`: prepared data for people, in the form in which a labelling tool takes it.

What they send back is a source of a Dataset again, of format Argilla or LabelStudio.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import SourceFormat
from trimtab_oci import InvalidReference, Reference, RegistryError
from trimtab_pipelines.labelled import exported
from trimtab_pipelines.prepared import SPLITS, read_split
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.runtime import RunError, failure_of

_PATIENCE_SECONDS = 60.0
_SEPARATOR = ",\n"


def main(arguments: argparse.Namespace) -> int:
    """Write the file and say how many records it holds."""
    try:
        count = export(
            arguments.artifact,
            Path(arguments.file),
            SourceFormat(arguments.format),
            tuple(arguments.split or SPLITS),
            arguments.most,
            plain_http=arguments.plain_http,
        )
    except (RunError, RegistryError, InvalidReference, OSError) as error:
        failure = failure_of(error)
        sys.stderr.write(f"{failure.reason}: {failure.message}\n")
        return 1
    sys.stdout.write(f"{count} records\n")
    return 0


def export(
    artifact: str,
    file: Path,
    tool: SourceFormat,
    splits: tuple[str, ...] = SPLITS,
    most: int | None = None,
    *,
    plain_http: bool = False,
) -> int:
    """A list of records for the tool; the file appears when all of it is written."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        data = Path(folder)
        asyncio.run(
            again_while_unreachable(
                lambda: _pulled(artifact, data, plain_http=plain_http), _PATIENCE_SECONDS
            )
        )
        records = (record for split in splits for record in read_split(data, split))
        part = file.with_name(f"{file.name}.part")
        count = _write(part, (exported(n, r, tool) for n, r in enumerate(islice(records, most))))
    if count == 0:
        part.unlink()
        raise RunError(
            FailureReason.DATA_EMPTY,
            f"{artifact} has no record in {', '.join(splits)}; name another split",
        )
    part.replace(file)
    return count


async def _pulled(artifact: str, folder: Path, *, plain_http: bool) -> None:
    async with open_registry(plain_http=plain_http) as registry:
        manifest = await registry.pull(Reference.parse(artifact), folder)
    if manifest.kind != "Dataset":
        raise RunError(
            FailureReason.URI_UNSUPPORTED,
            f"{artifact} is no prepared data; name the address in status.artifact of a Dataset",
        )


def _write(file: Path, records: Iterator[dict[str, Any]]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write("[")
        for record in records:
            out.write(_SEPARATOR if count else "\n")
            out.write(json.dumps(record, ensure_ascii=False))
            count += 1
        out.write("\n]\n")
    return count
