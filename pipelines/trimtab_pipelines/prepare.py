"""The stage `prepare`: what a job refers to becomes digests."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import Output, PrepareResult, PrepareRun, RunFailure
from trimtab_pipelines.mirror import mirror_base
from trimtab_pipelines.preparation.data import prepare_data
from trimtab_pipelines.runtime import Stage, Stop


def work(run: PrepareRun, _stop: Stop) -> PrepareResult:
    """Data first: it is what users get wrong, and a base may take an hour to come."""
    result = PrepareResult()
    if run.data is not None:
        with tempfile.TemporaryDirectory(prefix="data-") as folder:
            artifact, records, warnings = prepare_data(run.data, Path(folder))
        result = PrepareResult(data=artifact, records=records, warnings=warnings)
    if run.base is not None:
        with tempfile.TemporaryDirectory(prefix="base-") as folder:
            base = mirror_base(run.base, Path(folder))
        result = result.model_copy(update={"base": base})
    return result


def outputs(run: PrepareRun) -> Sequence[Output]:
    return [origin.output for origin in (run.data, run.base) if origin is not None]


def failed(failure: RunFailure) -> PrepareResult:
    return PrepareResult(failure=failure)


STAGE = Stage(run=PrepareRun, work=work, failed=failed, outputs=outputs)
