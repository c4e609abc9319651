"""The stage `prepare`: what a job refers to becomes digests."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import Output, PrepareResult, PrepareRun, RunFailure
from trimtab_pipelines import paths
from trimtab_pipelines.mirror import mirror_base
from trimtab_pipelines.preparation.data import prepare_data
from trimtab_pipelines.runtime import Stage, Stop

_PREFIX = "data-"


def work(run: PrepareRun, _stop: Stop) -> PrepareResult:
    """Data first: it is what users get wrong, and a base may take an hour to come."""
    result = PrepareResult()
    if run.data is not None:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_scratch()) as folder:
            prepared = prepare_data(run.data, Path(folder))
        result = PrepareResult(
            data=prepared.artifact,
            report=prepared.report,
            recording=prepared.recording,
            records=prepared.records,
            warnings=prepared.warnings,
        )
    if run.base is not None:
        with tempfile.TemporaryDirectory(prefix="base-") as folder:
            base = mirror_base(run.base, Path(folder))
        result = result.model_copy(update={"base": base})
    return result


def _scratch() -> Path | None:
    """The pod's volume, without what an attempt that was killed has left there."""
    volume = paths.volume()
    if not volume.is_dir():
        return None
    for left in volume.glob(f"{_PREFIX}*"):
        shutil.rmtree(left)
    return volume


def outputs(run: PrepareRun) -> Sequence[Output]:
    return [origin.output for origin in (run.data, run.base) if origin is not None]


def failed(failure: RunFailure) -> PrepareResult:
    return PrepareResult(failure=failure)


def is_read_elsewhere(run: PrepareRun) -> bool:
    """The pod of a driver goes on after its program."""
    return run.data is not None and run.data.is_spread


STAGE = Stage(
    run=PrepareRun,
    work=work,
    failed=failed,
    outputs=outputs,
    is_read_elsewhere=is_read_elsewhere,
)
