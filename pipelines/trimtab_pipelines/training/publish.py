"""The finished artifact goes to the registry, with its card attached.

Nothing here needs the training stack. When the registry is away the files wait on the volume, and
the next pod begins here.
"""

import asyncio
import os
from pathlib import Path

from trimtab_api.documents import TrainingResult, TrainingRun
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import ANNOTATION_BASE, ANNOTATION_RANK, Reference
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.training.card import CARD_NAME, PICTURE_NAME, model_card, picture
from trimtab_pipelines.training.output import Summary, artifact_directory

CARD_TYPE = "application/vnd.trimtab.model-card.v1"
PATIENCE_VARIABLE = "TRIMTAB_PATIENCE_SECONDS"
# After this the pod ends, which tells the operator why and gives its GPUs back. Its Job waits with
# growing pauses; the volume keeps everything.
_PATIENCE_SECONDS = 30.0


def publish(
    run: TrainingRun, summary: Summary, output: Path, patience_seconds: float | None = None
) -> TrainingResult:
    """Push what lies on the volume, as often as it takes. Pushing twice changes nothing."""
    if patience_seconds is None:
        patience_seconds = float(os.environ.get(PATIENCE_VARIABLE) or _PATIENCE_SECONDS)
    reference, size = asyncio.run(
        again_while_unreachable(lambda: _push(run, summary, output), patience_seconds)
    )
    return TrainingResult(
        artifact=TrainedArtifact(
            uri=str(reference.at(str(reference.digest))),
            digest=str(reference.digest),
            kind=summary.kind,
            rank=summary.rank,
            size_bytes=size,
        ),
        progress=summary.progress,
        train_loss=summary.train_loss,
        eval_loss=summary.eval_loss,
        tokens=summary.tokens,
        seconds=round(summary.seconds, 1),
        cut=summary.cut,
        dropped=summary.dropped,
    )


async def _push(run: TrainingRun, summary: Summary, output: Path) -> tuple[Reference, int]:
    async with open_registry(plain_http=run.output.plain_http) as registry:
        reference = await registry.push_directory(
            artifact_directory(output),
            run.output.repository,
            kind=summary.kind,
            annotations=annotations(run, summary),
        )
        drawn = picture(run, summary, str(reference.digest))
        await registry.push_documents(
            run.output.repository,
            {
                CARD_NAME: ("text/markdown", model_card(run, summary).encode()),
                PICTURE_NAME: ("image/svg+xml", drawn.encode()),
            },
            artifact_type=CARD_TYPE,
            subject=reference,
        )
        return reference, (await registry.manifest(reference)).size_bytes


def annotations(run: TrainingRun, summary: Summary) -> dict[str, str]:
    """What readers of the manifest must know without opening it."""
    if summary.kind is ArtifactKind.FULL or run.base is None:
        return {}
    return {ANNOTATION_BASE: run.base.digest, ANNOTATION_RANK: str(summary.rank)}
