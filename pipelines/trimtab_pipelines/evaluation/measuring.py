"""The version on its examples and suites, and after it, one at a time, those that it is compared with."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trimtab_api.documents import EvaluationReport, EvaluationRun
from trimtab_api.documents.evaluation import ComparisonWanted, ContenderRun, Resampling
from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.reasons import FailureReason, is_user_error
from trimtab_api.v1alpha1.evaluated import Comparison
from trimtab_api.v1alpha1.evaluation import Metric, SuiteName
from trimtab_api.v1alpha1.harness import HarnessFigure
from trimtab_api.v1alpha1.judge import JudgeCounts
from trimtab_oci import RegistryError
from trimtab_pipelines.evaluation import intervals
from trimtab_pipelines.evaluation.comparing import compared, needs_answers
from trimtab_pipelines.evaluation.fetching import Candidate
from trimtab_pipelines.evaluation.fingerprints import fingerprint_of
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.observing import (
    loaded_contender,
    loaded_network,
    observed,
    said,
)
from trimtab_pipelines.evaluation.profile import profile_of, prompt_of
from trimtab_pipelines.evaluation.report import metric_values, samples_of, suite_values
from trimtab_pipelines.evaluation.said import Observations, Said
from trimtab_pipelines.evaluation.suites.bias import bias
from trimtab_pipelines.evaluation.suites.forgetting import forgotten, known_text, read_by
from trimtab_pipelines.evaluation.suites.judging import judged
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


@dataclass
class _Found:
    """What is known so far; a full version's forgetting waits for its parent."""

    own: Observations | None = None
    base: Said | None = None
    judge: JudgeCounts | None = None
    harness: list[HarnessFigure] = field(default_factory=list)
    suites: dict[Metric, Measure] = field(default_factory=dict)
    known: Sequence[Record] = ()
    text: Observations | None = None
    comparisons: list[Comparison] = field(default_factory=list)


def measure(
    run: EvaluationRun, candidate: Candidate, data: HeldOut, workspace: Path
) -> EvaluationReport:
    """The report on verified files."""
    found = _Found()
    report = _own_report(run, candidate, data, workspace, found)
    for contender in run.contenders:
        _ask(run, contender, data, workspace, found)
    # No network is loaded any more: a judge may take its time.
    _have_judged(run, found)
    resampling = Resampling(resamples=intervals.RESAMPLES, seed=intervals.SEED)
    return report.model_copy(
        update={
            "metrics": [*report.metrics, *suite_values(found.suites)],
            "comparisons": found.comparisons,
            "resampling": resampling if found.own or found.suites else None,
            "judge": found.judge,
            "harness": found.harness,
        }
    )


def _own_report(
    run: EvaluationRun, candidate: Candidate, data: HeldOut, workspace: Path, found: _Found
) -> EvaluationReport:
    most = run.max_new_tokens
    with loaded_network(candidate, run.gpus) as loaded:
        base: Said | None = None
        if data.examples:
            found.own = observed(loaded, data.examples, most, is_asked=True)
        own = found.own
        if own and loaded.is_adapter:
            with loaded.as_base():
                base = found.base = said(loaded, own.examples, most, is_asked=True)
        _ask_suites(run, loaded, data, workspace, found)
        examples = own.examples if own else []
        kept = [example.record for example in examples]
        return EvaluationReport(
            artifact_digest=run.artifact.digest,
            kind=run.kind,
            rank=candidate.rank,
            base_digest=run.base.digest if run.base else None,
            dataset_digest=run.data.digest if run.data else None,
            examples=len(examples),
            metrics=metric_values(own.said, base, kept) if own else [],
            samples=samples_of(kept, own.said, base) if own else [],
            profile=_profile(loaded, data, own.said) if own else None,
            fingerprint=fingerprint_of(loaded, examples),
        )


def _ask_suites(
    run: EvaluationRun, loaded: Loaded, data: HeldOut, workspace: Path, found: _Found
) -> None:
    for suite in run.suites:
        match suite.name:
            case SuiteName.FORGETTING:
                found.known = known_text(run, suite, workspace)
                found.text = read_by(loaded, found.known, run.max_new_tokens)
                if loaded.is_adapter:
                    with loaded.as_base():
                        _note_forgetting(found, read_by(loaded, found.known, run.max_new_tokens))
            case SuiteName.BIAS:
                found.suites |= bias(run, suite, loaded, workspace)
            case SuiteName.SAFETY:
                found.suites |= safety(run, suite, loaded, workspace, data.training)
            case SuiteName.HARNESS:
                # The harness takes seconds to import, and few versions need it.
                from trimtab_pipelines.evaluation.suites.harness import harness  # noqa: PLC0415

                asked = harness(run, suite, loaded, workspace)
                found.suites |= asked.measures()
                found.harness = asked.figures
            case SuiteName.JUDGE:
                pass  # it looks at answers, not at the network


def _have_judged(run: EvaluationRun, found: _Found) -> None:
    for suite in run.suites:
        if suite.judge is not None and found.own is not None:
            outcome = judged(suite.judge, found.own, found.base)
            found.suites |= outcome.figures()
            found.judge = outcome.counts


def _note_forgetting(found: _Found, base: Observations) -> None:
    measured = forgotten(found.text, base) if found.text else None
    if measured is not None:
        found.suites[Metric.FORGETTING] = measured


def _profile(loaded: Loaded, data: HeldOut, said: Said) -> ReferenceProfile:
    tokens = [len(render_prompt(loaded.tokenizer, record)) for record in data.prompts]
    return profile_of([prompt_of(record) for record in data.prompts], tokens, said.answers)


def _ask(
    run: EvaluationRun, contender: ContenderRun, data: HeldOut, workspace: Path, found: _Found
) -> None:
    """All that is to be known of one contender; one that cannot be asked costs the version nothing."""
    wanted = [each for each in run.comparisons if contender.name in each.versions]
    try:
        with loaded_contender(run, contender, workspace) as loaded:
            if contender.name == run.parent and found.text:
                _note_forgetting(found, read_by(loaded, found.known, run.max_new_tokens))
            if found.own and wanted:
                is_asked = needs_answers([each.metric for each in wanted])
                other = observed(loaded, data.examples, run.max_new_tokens, is_asked=is_asked)
                found.comparisons += [
                    compared(contender.name, each.metric, each.confidence, found.own, other)
                    for each in wanted
                ]
    except (RunError, RegistryError) as error:
        failure = failure_of(error)
        if not is_user_error(failure.reason) or failure.reason in _OURS:
            raise
        message = f"{failure.reason}: {failure.message}"
        log.warning("%s cannot be compared with: %s", contender.name, message)
        found.comparisons += [_problem(contender, each, message) for each in wanted]


def _problem(contender: ContenderRun, wanted: ComparisonWanted, message: str) -> Comparison:
    return Comparison(
        version=contender.name,
        metric=wanted.metric,
        confidence=wanted.confidence,
        problem=message[:512],
    )
