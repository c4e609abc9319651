"""What is known about a version, from whatever knows it: the registry, a Job, or an earlier day.

Three answers and the figures. An answer is True, False, or None where it could not be found out;
a missing measurement is never a pass.
"""

from dataclasses import dataclass
from typing import Final

from trimtab_api.documents import EvaluationReport, EvaluationResult
from trimtab_api.reasons import FailureReason, VersionReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.common import Condition, ConditionStatus
from trimtab_api.v1alpha1.evaluated import BestVersion, EvaluationStatus
from trimtab_api.v1alpha1.evaluated import Verdict as GateVerdict
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_operator.domain.conditions import find, is_false, is_true
from trimtab_operator.domain.finding import Answer, Finding, gravest
from trimtab_operator.domain.modelversion import gates, opponents
from trimtab_operator.domain.modelversion.verification import Claim, artifact_fault, report_fault

# Failures of an evaluation that say something about the artifact itself.
ARTIFACT_REASONS: Final = frozenset(
    {
        FailureReason.BASE_MISMATCH,
        FailureReason.CORRUPT_WEIGHTS,
        FailureReason.DIGEST_MISMATCH,
        FailureReason.RANK_MISMATCH,
        FailureReason.SOURCE_NOT_FOUND,
        FailureReason.UNSAFE_FORMAT,
        FailureReason.UNSUPPORTED_ADAPTER,
        FailureReason.UNSUPPORTED_MODEL,
    }
)


@dataclass(frozen=True)
class Verdict:
    """What is known about the artifact and about what it does."""

    verified: Answer
    evaluated: Answer
    evaluation: EvaluationStatus | None = None
    size_bytes: int | None = None

    @property
    def is_final(self) -> bool:
        """Verified and evaluated: content has a digest, so this never changes again."""
        return bool(self.verified.holds and self.evaluated.holds and self.evaluation)


def remembered(version: ModelVersion) -> Verdict | None:
    """The verdict of an earlier reconcile, if it was final."""
    conditions, evaluation = version.status.conditions, version.status.evaluation
    verified, evaluated = find(conditions, "ArtifactVerified"), find(conditions, "Evaluated")
    if not (evaluation and verified and evaluated):
        return None
    if not (is_true(conditions, "ArtifactVerified") and is_true(conditions, "Evaluated")):
        return None
    if opponents.are_due(version) and gates.failed(evaluation.gates):
        return None  # asked to try again, and against whom is part of the answer
    return Verdict(_answer(verified), _answer(evaluated), evaluation, version.status.size_bytes)


def remembered_failure(version: ModelVersion) -> Verdict | None:
    """What an earlier reconcile read from a pod that is gone by now."""
    conditions = version.status.conditions
    verified, evaluated = find(conditions, "ArtifactVerified"), find(conditions, "Evaluated")
    if not (verified and evaluated):
        return None
    if not (is_false(conditions, "ArtifactVerified") or is_false(conditions, "Evaluated")):
        return None
    return Verdict(_answer(verified), _answer(evaluated))


def unknown(reason: str, message: str) -> Verdict:
    """Nothing is known yet, and why."""
    return Verdict(Answer(None, reason, message), Answer(None, reason, message))


def of_finding(finding: Finding) -> Verdict:
    """What stands in the way before the artifact was looked at."""
    if finding.is_unknown:
        return unknown(finding.reason, finding.message)
    return _refuted(finding)


def of_given_report(claim: Claim) -> Verdict:
    """The artifact's manifest and a report that was made elsewhere, held against the spec."""
    if fault := artifact_fault(claim):
        return _refuted(fault)
    verified = Answer(
        True, VersionReason.ARTIFACT_VERIFIED, "the artifact is what its digest and the spec say"
    )
    fault, report = report_fault(claim), claim.report
    if fault is not None or report is None:
        fault = fault or Finding(FailureReason.REPORT_INVALID, "there is no report")
        return Verdict(verified, Answer(False, fault.reason, fault.message))
    return Verdict(
        verified,
        Answer(True, VersionReason.REPORT_VERIFIED, _told(report.examples, "the given report")),
        _status(claim.version, report, claim.version.spec.evaluation.report),
        claim.artifact.size_bytes,
    )


def of_result(version: ModelVersion, result: EvaluationResult) -> Verdict:
    """What an evaluation pod found."""
    if result.failure is not None:
        return of_failure(
            Failure(reason=result.failure.reason, message=result.failure.message[:2048])
        )
    return Verdict(
        Answer(
            True,
            VersionReason.ARTIFACT_VERIFIED,
            "the evaluation pod has verified and loaded the artifact",
        ),
        Answer(
            True,
            VersionReason.EVALUATED if result.examples else VersionReason.FINGERPRINT_ONLY,
            _told(result.examples, "the evaluation"),
        ),
        _status(version, result, result.report_uri),
        result.size_bytes,
    )


def of_failure(failure: Failure) -> Verdict:
    """An evaluation that came to no result."""
    if failure.reason in ARTIFACT_REASONS:
        return _refuted(Finding(failure.reason, failure.message))
    return Verdict(
        Answer(None, VersionReason.NOT_EVALUATED, "the evaluation failed before it could tell"),
        Answer(False, failure.reason, failure.message),
    )


def readiness(version: ModelVersion, verdict: Verdict) -> Answer:
    """Ready is: verified, evaluated, and every gate passed."""
    fault = gravest(verdict.verified, verdict.evaluated)
    if fault is not None:
        return fault
    results = verdict.evaluation.gates if verdict.evaluation else []
    missed = gates.failed(results)
    if missed:
        is_open = all(m.verdict is GateVerdict.UNKNOWN for m in missed)
        reason = VersionReason.GATE_UNDECIDED if is_open else VersionReason.GATE_FAILED
        return Answer(False, reason, "; ".join(m.message for m in missed)[:2048])
    count = len(version.spec.evaluation.gates)
    passed = f", {count} of {count} gates passed" if count else ""
    return Answer(True, VersionReason.READY, f"verified and evaluated{passed}")


def judged(version: ModelVersion, evaluation: EvaluationStatus | None) -> EvaluationStatus | None:
    """The evaluation with its gates judged from its figures."""
    if evaluation is None:
        return None
    results = gates.judge(version.spec.evaluation.gates, evaluation, version.status.opponents)
    return evaluation.model_copy(update={"gates": list(results)})


def _answer(told: Condition) -> Answer:
    holds = {ConditionStatus.TRUE: True, ConditionStatus.FALSE: False}.get(told.status)
    return Answer(holds, told.reason, told.message)


def _refuted(finding: Finding) -> Verdict:
    return Verdict(
        Answer(False, finding.reason, finding.message),
        Answer(
            None, VersionReason.NOT_EVALUATED, "an artifact that is not verified is not evaluated"
        ),
    )


def _status(
    version: ModelVersion, found: EvaluationReport | EvaluationResult, report: str | None
) -> EvaluationStatus:
    status = EvaluationStatus(
        dataset_digest=found.dataset_digest,
        report=report,
        examples=found.examples,
        metrics=list(found.metrics),
        comparisons=list(found.comparisons) if version.status.opponents else [],
        judge=found.judge,
        harness=list(found.harness),
        best=_best(version, found),
    )
    return judged(version, status) or status


def _best(version: ModelVersion, found: EvaluationReport | EvaluationResult) -> list[BestVersion]:
    """The figures that were measured and compared, each with the best version from now on."""
    chosen, measured = version.status.opponents, {m.metric for m in found.metrics}
    if chosen is None:
        return []
    metrics = [m for m in opponents.compared(version.spec.evaluation.gates) if m in measured]
    return opponents.passed_on(version.metadata.name, metrics, chosen, found.comparisons)


def _told(examples: int, source: str) -> str:
    if examples:
        return f"{source} covers {examples} held-out examples"
    return f"{source} has a fingerprint and no held-out examples"
