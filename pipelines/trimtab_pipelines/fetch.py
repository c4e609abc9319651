"""The stage `fetch`: the prepared data comes to the job's volume, once."""

import asyncio
import shutil
from pathlib import Path

from trimtab_api.documents import RunFailure, TrainingResult, TrainingRun
from trimtab_api.reasons import FailureReason
from trimtab_oci import Reference
from trimtab_pipelines import paths
from trimtab_pipelines.files import put_in_place
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.runtime import RunError, Stage, Stop

# Written last: data without it is no data.
_MARK = ".digest"
# Then the pod ends, which tells the operator why; its Job tries again.
_PATIENCE_SECONDS = 30.0


def work(run: TrainingRun, _stop: Stop) -> TrainingResult:
    """Bring the data by digest; every file is verified on its way."""
    target = paths.data()
    if is_fetched(target, run.data.digest):
        return TrainingResult()
    reference = Reference.parse(run.data.uri)
    if reference.digest != run.data.digest:
        raise RunError(
            FailureReason.DIGEST_MISMATCH,
            f"{run.data.uri} does not name the digest {run.data.digest}.",
        )
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    asyncio.run(
        again_while_unreachable(
            lambda: _pull(reference, part, plain_http=run.output.plain_http), _PATIENCE_SECONDS
        )
    )
    (part / _MARK).write_text(run.data.digest)
    put_in_place(part, target)
    return TrainingResult()


def is_fetched(directory: Path, digest: str) -> bool:
    mark = directory / _MARK
    return mark.exists() and mark.read_text() == digest


async def _pull(reference: Reference, part: Path, *, plain_http: bool) -> None:
    async with open_registry(plain_http=plain_http) as registry:
        await registry.pull(reference, part)


def failed(failure: RunFailure) -> TrainingResult:
    return TrainingResult(failure=failure)


STAGE = Stage(run=TrainingRun, work=work, failed=failed)
