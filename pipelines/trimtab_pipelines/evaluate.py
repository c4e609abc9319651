"""The stage `evaluate`: a version's files are verified, its answers measured, its fingerprint taken."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import (
    EvaluationReport,
    EvaluationResult,
    EvaluationRun,
    Output,
    RunFailure,
)
from trimtab_api.reasons import FailureReason
from trimtab_oci import Reference
from trimtab_pipelines.evaluation.examples import chosen_records
from trimtab_pipelines.evaluation.fetching import (
    Candidate,
    fetch_candidate,
    fetch_data,
    registry_client,
)
from trimtab_pipelines.prompts import Record, answer_of
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import RunError, Stage, Stop

log = logging.getLogger(__name__)

REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
_PATIENCE_SECONDS = 120


def work(run: EvaluationRun, _stop: Stop) -> EvaluationResult:
    """Verify before anything is loaded, measure, and publish the report."""
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        workspace = Path(folder)
        candidate = fetch_candidate(run, workspace)
        records: list[Record] = []
        if run.data is not None:
            data = fetch_data(run.data, workspace, run.output)
            records = chosen_records(data, run.max_examples)
        report = measure(run, candidate, records)
    uri = asyncio.run(again_while_unreachable(lambda: _push(run, report), _PATIENCE_SECONDS))
    return EvaluationResult(
        report_uri=str(uri),
        dataset_digest=report.dataset_digest,
        examples=report.examples,
        metrics=report.metrics,
        rank=report.rank,
        size_bytes=candidate.manifest.size_bytes,
    )


def measure(
    run: EvaluationRun, candidate: Candidate, records: Sequence[Record]
) -> EvaluationReport:
    """The report on verified files."""
    # torch and transformers take seconds to import: a version that is refused does not need them.
    from trimtab_pipelines.evaluation import models, scoring  # noqa: PLC0415
    from trimtab_pipelines.evaluation.fingerprints import fingerprint_of  # noqa: PLC0415
    from trimtab_pipelines.evaluation.report import (  # noqa: PLC0415
        Said,
        metric_values,
        samples_of,
    )

    loaded = models.load(candidate.model, candidate.adapter, gpus=run.gpus)
    examples = scoring.examples_of(loaded, records, run.max_new_tokens)
    if records and not examples:
        raise RunError(
            FailureReason.RECORD_TOO_LONG,
            f"none of the {len(records)} test records fits into the model's context of "
            f"{loaded.context_length} tokens; shorten them",
        )
    asked = [example for example in examples if example.prompt]

    def said() -> Said:
        started = time.monotonic()
        result = Said(
            scoring.losses(loaded, examples),
            scoring.answers(loaded, asked, run.max_new_tokens),
        )
        log.info("%d examples in %.1f s", len(examples), time.monotonic() - started)
        return result

    own = said() if examples else None
    base = None
    if examples and loaded.is_adapter:
        with loaded.as_base():
            base = said()
    kept = [example.record for example in examples]
    return EvaluationReport(
        artifact_digest=run.artifact.digest,
        kind=run.kind,
        rank=candidate.rank,
        base_digest=run.base.digest if run.base else None,
        dataset_digest=run.data.digest if run.data else None,
        examples=len(examples),
        metrics=metric_values(own, base, [answer_of(r) for r in kept]) if own else [],
        samples=samples_of(kept, own, base) if own else [],
        fingerprint=fingerprint_of(loaded, examples),
    )


async def _push(run: EvaluationRun, report: EvaluationReport) -> Reference:
    artifact = Reference.parse(run.artifact.uri).at(run.artifact.digest)
    # What lies in a registry of others gets no referrers from us: the report names its digest.
    subject = artifact if artifact.name == run.output.repository else None
    document = report.model_dump_json(by_alias=True, exclude_none=True).encode()
    async with registry_client(run.output) as registry:
        return await registry.push_document(
            run.output.repository, document, artifact_type=REPORT_TYPE, subject=subject, tag=None
        )


def outputs(run: EvaluationRun) -> Sequence[Output]:
    return [run.output]


def failed(failure: RunFailure) -> EvaluationResult:
    return EvaluationResult(failure=failure)


STAGE = Stage(run=EvaluationRun, work=work, failed=failed, outputs=outputs)
