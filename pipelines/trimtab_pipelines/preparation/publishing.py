"""What was made, pushed to the operator's registry."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab_api.documents import Output
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_oci import Reference
from trimtab_pipelines.registry import again_while_unreachable, open_registry

REPORT_TYPE = "application/vnd.trimtab.dataset-report.v1"

# Longer than a registry needs to restart; then the pod ends and its Job tries again.
_PATIENCE_SECONDS = 120


async def push_directory(
    directory: Path,
    output: Output,
    kind: str,
    *,
    tag: str | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> PreparedArtifact:
    """Push what is there and say under which digest it is found."""

    async def push() -> tuple[Reference, int]:
        async with open_registry(plain_http=output.plain_http) as registry:
            reference = await registry.push_directory(
                directory, output.repository, kind=kind, annotations={}, tag=tag
            )
            return reference, (await registry.manifest(reference)).size_bytes

    reference, size = await again_while_unreachable(push, patience_seconds)
    return PreparedArtifact(uri=str(reference), digest=str(reference.digest), size_bytes=size)


def push_report(
    artifact: PreparedArtifact, output: Output, figures: Mapping[str, Any], page: str
) -> str:
    """Attach a report to the data that it is about; its address by digest."""
    documents = {
        "report.html": ("text/html", page.encode()),
        "report.json": (
            "application/json",
            json.dumps(figures, ensure_ascii=False, sort_keys=True, indent=1).encode(),
        ),
    }

    async def push() -> Reference:
        async with open_registry(plain_http=output.plain_http) as registry:
            return await registry.push_documents(
                output.repository,
                documents,
                artifact_type=REPORT_TYPE,
                subject=Reference.parse(artifact.uri),
            )

    return str(asyncio.run(again_while_unreachable(push, _PATIENCE_SECONDS)))
