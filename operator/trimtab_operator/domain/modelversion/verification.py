"""Holding an artifact and its report against what the ModelVersion says of them.

Two lists of rules over facts that the registry gave. Digests make the facts trustworthy: an
artifact is fetched by its digest, and so is a report.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trimtab_api.documents import EvaluationReport
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.modelversion import ArtifactKind, ModelVersion
from trimtab_operator.domain.finding import Finding


@dataclass(frozen=True)
class ArtifactFacts:
    """What the manifest under the version's digest says of itself."""

    kind: str | None
    base: str | None
    rank: str | None
    size_bytes: int


@dataclass(frozen=True)
class Claim:
    """What is to be checked; `base_digest` is that of the base the spec refers to."""

    version: ModelVersion
    base_digest: str | None
    artifact: ArtifactFacts
    report: EvaluationReport | None = None
    report_subject: str | None = None
    report_problem: str | None = None

    @property
    def is_adapter(self) -> bool:
        return self.version.spec.artifact.kind is ArtifactKind.ADAPTER


Rule = Callable[[Claim], Finding | None]


def no_model_of_ours(claim: Claim) -> Finding | None:
    if claim.artifact.kind is None:
        return Finding(
            FailureReason.UNSAFE_FORMAT,
            "the artifact is no model that Trimtab pushed; import it with "
            "`python -m trimtab_pipelines push DIRECTORY oci://...`",
        )
    return None


def other_kind(claim: Claim) -> Finding | None:
    declared = claim.version.spec.artifact.kind
    if claim.artifact.kind != declared:
        return Finding(
            FailureReason.UNSUPPORTED_MODEL,
            f"spec.artifact.kind is {declared}, the artifact says {claim.artifact.kind}",
        )
    return None


def other_base(claim: Claim) -> Finding | None:
    if claim.is_adapter and claim.artifact.base != claim.base_digest:
        return Finding(
            FailureReason.BASE_MISMATCH,
            f"the adapter belongs to base {claim.artifact.base}, spec.baseModel is {claim.base_digest}",
        )
    return None


def other_rank(claim: Claim) -> Finding | None:
    declared = claim.version.spec.artifact.rank
    if claim.is_adapter and declared is not None and claim.artifact.rank != str(declared):
        return Finding(
            FailureReason.RANK_MISMATCH,
            f"spec.artifact.rank is {declared}, the artifact says {claim.artifact.rank}",
        )
    return None


def report_unreadable(claim: Claim) -> Finding | None:
    if claim.report is None:
        return Finding(
            FailureReason.REPORT_INVALID,
            f"spec.evaluation.report is of no use: {claim.report_problem or 'it is empty'}",
        )
    return None


def report_of_another_artifact(claim: Claim) -> Finding | None:
    digest = claim.version.spec.artifact.digest
    told = {claim.report.artifact_digest} if claim.report else set()
    told |= {claim.report_subject} if claim.report_subject else set()
    if told != {digest}:
        others = ", ".join(sorted(told - {digest}))
        return Finding(
            FailureReason.REPORT_INVALID,
            f"the report is about {others or 'no artifact'}, not about {digest}",
        )
    return None


def report_with_another_base(claim: Claim) -> Finding | None:
    told = claim.report.base_digest if claim.report else None
    if claim.is_adapter and told != claim.base_digest:
        return Finding(
            FailureReason.REPORT_INVALID,
            f"the report was made with base {told}, spec.baseModel is {claim.base_digest}",
        )
    return None


def report_on_other_data(claim: Claim) -> Finding | None:
    data = claim.version.spec.evaluation.dataset
    wanted = data.uri.rpartition("@")[2] if data else None
    told = claim.report.dataset_digest if claim.report else None
    if wanted is not None and told != wanted:
        return Finding(
            FailureReason.REPORT_INVALID,
            f"the report was made on data {told}, spec.evaluation.dataset is {wanted}",
        )
    return None


def fingerprint_missing(claim: Claim) -> Finding | None:
    if claim.report is None or not claim.report.fingerprint.sequences:
        return Finding(FailureReason.REPORT_INVALID, "the report holds no fingerprint")
    return None


ARTIFACT_RULES: tuple[Rule, ...] = (no_model_of_ours, other_kind, other_base, other_rank)
REPORT_RULES: tuple[Rule, ...] = (
    report_unreadable,
    report_of_another_artifact,
    report_with_another_base,
    report_on_other_data,
    fingerprint_missing,
)


def artifact_fault(claim: Claim) -> Finding | None:
    """The first thing in which the artifact is not what the spec says."""
    return next((f for rule in ARTIFACT_RULES if (f := rule(claim))), None)


def report_fault(claim: Claim) -> Finding | None:
    """The first thing for which the report cannot be believed."""
    return next((f for rule in REPORT_RULES if (f := rule(claim))), None)
