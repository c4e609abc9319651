"""The version on its examples, and after it, one at a time, those that it is compared with."""

import gc
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from trimtab_api.documents import EvaluationReport, EvaluationRun
from trimtab_api.documents.evaluation import ContenderRun, Resampling
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.reasons import FailureReason, is_user_error
from trimtab_api.v1alpha1.evaluation import Comparison, Metric, SuiteName
from trimtab_oci import RegistryError
from trimtab_pipelines.evaluation import intervals, models, scoring
from trimtab_pipelines.evaluation.comparing import compared, needs_answers
from trimtab_pipelines.evaluation.fetching import Candidate, fetch_candidate
from trimtab_pipelines.evaluation.fingerprints import fingerprint_of
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.profile import profile_of, prompt_of
from trimtab_pipelines.evaluation.report import metric_values, samples_of, suite_values
from trimtab_pipelines.evaluation.said import Example, Observations, Said
from trimtab_pipelines.evaluation.suites.bias import bias
from trimtab_pipelines.evaluation.suites.forgetting import forgetting
from trimtab_pipelines.evaluation.suites.safety import safety
from trimtab_pipelines.prompts import Record, render_prompt
from trimtab_pipelines.runtime import RunError, failure_of

log = logging.getLogger(__name__)

# What says nothing about the other version itself.
_OURS = frozenset({FailureReason.OUT_OF_MEMORY, FailureReason.DISK_FULL})


@dataclass(frozen=True)
class HeldOut:
    """Records that are answered; more of them, of which only the prompts are looked at; and some of
    those that were trained on, which must not be known by heart.
    """

    examples: Sequence[Record] = ()
    prompts: Sequence[Record] = ()
    training: Sequence[Record] = ()


def measure(
    run: EvaluationRun, candidate: Candidate, data: HeldOut, workspace: Path
) -> EvaluationReport:
    """The report on verified files."""
    records = data.examples
    report, own = _own_report(run, candidate, data, workspace)
    if own is None or not run.comparisons:
        return report
    found: list[Comparison] = []
    for contender in run.contenders:
        found += _comparisons(run, contender, own, records, workspace)
    resampling = Resampling(resamples=intervals.RESAMPLES, seed=intervals.SEED)
    return report.model_copy(update={"comparisons": found, "resampling": resampling})


def _own_report(
    run: EvaluationRun, candidate: Candidate, data: HeldOut, workspace: Path
) -> tuple[EvaluationReport, Observations | None]:
    with _loaded(run, candidate) as loaded:
        own = _observations(run, loaded, data.examples) if data.examples else None
        base = None
        if own and loaded.is_adapter:
            with loaded.as_base():
                base = _said(run, loaded, own.examples)
        examples = own.examples if own else []
        kept = [example.record for example in examples]
        metrics = metric_values(own.said, base, kept) if own else []
        metrics += suite_values(_suites(run, loaded, data, workspace))
        report = EvaluationReport(
            artifact_digest=run.artifact.digest,
            kind=run.kind,
            rank=candidate.rank,
            base_digest=run.base.digest if run.base else None,
            dataset_digest=run.data.digest if run.data else None,
            examples=len(examples),
            metrics=metrics,
            samples=samples_of(kept, own.said, base) if own else [],
            profile=_profile(loaded, data, own.said) if own else None,
            fingerprint=fingerprint_of(loaded, examples),
        )
    return report, own


def _suites(
    run: EvaluationRun, loaded: models.Loaded, data: HeldOut, workspace: Path
) -> dict[Metric, Measure]:
    found: dict[Metric, Measure] = {}
    for suite in run.suites:
        match suite.name:
            case SuiteName.FORGETTING:
                found |= forgetting(run, suite, loaded, workspace)
            case SuiteName.BIAS:
                found |= bias(run, suite, loaded, workspace)
            case SuiteName.SAFETY:
                found |= safety(run, suite, loaded, workspace, data.training)
    return found


def _profile(loaded: models.Loaded, data: HeldOut, said: Said) -> ReferenceProfile:
    tokens = [len(render_prompt(loaded.tokenizer, record)) for record in data.prompts]
    return profile_of([prompt_of(record) for record in data.prompts], tokens, said.answers)


def _comparisons(
    run: EvaluationRun,
    contender: ContenderRun,
    own: Observations,
    records: Sequence[Record],
    workspace: Path,
) -> list[Comparison]:
    """All that is to be known of one contender; one that cannot be asked costs the version nothing."""
    wanted = [each for each in run.comparisons if contender.name in each.versions]
    is_asked = needs_answers([each.metric for each in wanted])
    try:
        other = _contender_observations(run, contender, records, workspace, is_asked=is_asked)
    except (RunError, RegistryError) as error:
        failure = failure_of(error)
        if not is_user_error(failure.reason) or failure.reason in _OURS:
            raise
        log.warning("%s cannot be compared with: %s", contender.name, failure.message)
        return [
            Comparison(
                version=contender.name,
                metric=each.metric,
                confidence=each.confidence,
                problem=f"{failure.reason}: {failure.message}"[:512],
            )
            for each in wanted
        ]
    return [compared(contender.name, each.metric, each.confidence, own, other) for each in wanted]


def _contender_observations(
    run: EvaluationRun,
    contender: ContenderRun,
    records: Sequence[Record],
    workspace: Path,
    *,
    is_asked: bool,
) -> Observations:
    its = run.model_copy(
        update={
            "kind": contender.kind,
            "artifact": contender.artifact,
            "rank": contender.rank,
            "base": contender.base,
            "mounted": contender.mounted,
        }
    )
    folder = workspace / contender.name
    folder.mkdir(exist_ok=True)
    with _loaded(its, fetch_candidate(its, folder)) as loaded:
        return _observations(its, loaded, records, is_asked=is_asked)


@contextmanager
def _loaded(run: EvaluationRun, candidate: Candidate) -> Iterator[models.Loaded]:
    """One network at a time: the next one needs the memory."""
    loaded = models.load(candidate.model, candidate.adapter, gpus=run.gpus)
    try:
        yield loaded
    finally:
        loaded.network.to("meta")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _observations(
    run: EvaluationRun,
    loaded: models.Loaded,
    records: Sequence[Record],
    *,
    is_asked: bool = True,
) -> Observations:
    examples = scoring.examples_of(loaded, records, run.max_new_tokens)
    if not examples:
        raise RunError(
            FailureReason.RECORD_TOO_LONG,
            f"none of the {len(records)} test records fits into the model's context of "
            f"{loaded.context_length} tokens; shorten them",
        )
    return Observations(examples, _said(run, loaded, examples, is_asked=is_asked))


def _said(
    run: EvaluationRun,
    loaded: models.Loaded,
    examples: Sequence[Example],
    *,
    is_asked: bool = True,
) -> Said:
    started = time.monotonic()
    losses = scoring.losses(loaded, examples)
    broken = sum(not math.isfinite(total) for total, _ in losses)
    if broken:
        raise RunError(
            FailureReason.LOSS_NOT_FINITE,
            f"the model gives no numbers on {broken} of {len(examples)} examples; its weights hold NaN, or "
            "overflow in their number format",
        )
    asked = [example for example in examples if example.prompt] if is_asked else []
    said = Said(losses, scoring.answers(loaded, asked, run.max_new_tokens))
    log.info("%d examples in %.1f s", len(examples), time.monotonic() - started)
    return said
