"""The stage `evaluate`: a version's files are verified, its answers measured, its fingerprint taken."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trimtab_api.documents import (
    EvaluationReport,
    EvaluationResult,
    EvaluationRun,
    Output,
    RunFailure,
)
from trimtab_oci import Reference
from trimtab_pipelines.evaluation.examples import chosen_records
from trimtab_pipelines.evaluation.fetching import fetch_candidate, fetch_data, registry_client
from trimtab_pipelines.evaluation.profile import PROMPTS
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.runtime import Stage, Stop

REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
_PATIENCE_SECONDS = 120
# So many records of the training split are tried for what is known by heart.
TRAINING_RECORDS = 100


def work(run: EvaluationRun, _stop: Stop) -> EvaluationResult:
    """Verify before anything is loaded, measure, and publish the report."""
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        workspace = Path(folder)
        candidate = fetch_candidate(run, workspace)
        # torch and transformers take seconds to import: a version that is refused does not need them.
        from trimtab_pipelines.evaluation.measuring import HeldOut, measure  # noqa: PLC0415

        data = HeldOut()
        if run.data is not None:
            held_out = fetch_data(run.data, workspace, run.output)
            data = HeldOut(
                chosen_records(held_out, run.max_examples),
                chosen_records(held_out, max(PROMPTS, run.max_examples)),
                chosen_records(held_out, TRAINING_RECORDS, "train") if run.suites else [],
            )
        report = measure(run, candidate, data, workspace)
    uri = asyncio.run(again_while_unreachable(lambda: _push(run, report), _PATIENCE_SECONDS))
    return EvaluationResult(
        report_uri=str(uri),
        dataset_digest=report.dataset_digest,
        examples=report.examples,
        metrics=report.metrics,
        comparisons=report.comparisons,
        judge=report.judge,
        harness=report.harness,
        rank=report.rank,
        size_bytes=candidate.manifest.size_bytes,
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
