"""What is found out about a version, and what it takes to get further: nothing is written here.

    report given ---> registry's word ----------+
                                                +--> verdict
    no report (or no access) --> Job --> result +

A verdict that is final is kept in status and never asked for again: artifacts have digests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.documents import EvaluationResult
from trimtab_api.reasons import RETRYABLE, VersionReason
from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_api.v1alpha1.modelversion import Opponents, Producer
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.manifests import Manifest, name_of
from trimtab_operator.domain.modelversion import evaluation, retention, signing, usage
from trimtab_operator.domain.modelversion.base import ResolvedBase
from trimtab_operator.domain.modelversion.verdict import (
    Verdict,
    of_failure,
    of_finding,
    of_given_report,
    of_result,
    remembered,
    remembered_failure,
    unknown,
)
from trimtab_operator.domain.modelversion.verification import Claim
from trimtab_operator.domain.observation import (
    JobState,
    failure_of,
    obstacle,
    pods_of,
    settles_in,
)
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy
from trimtab_operator.settings import Settings

# Kubernetes's own finalizer: children go first.
FOREGROUND: Final = "foregroundDeletion"
TRIED_AGAIN_AFTER: Final = timedelta(minutes=1)
LOOKED_AGAIN_AFTER: Final = timedelta(minutes=1)
REGISTRY_ASKED_AGAIN_AFTER: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Given:
    """What the registry answered about the artifact and the report in the spec."""

    claim: Claim | None = None
    fault: Finding | None = None
    is_forbidden: bool = False


@dataclass(frozen=True)
class Observed:
    """Everything that the decision rests on."""

    version: ModelVersion
    base: ModelVersion | None = None
    parent: ModelVersion | None = None
    sources: tuple[str, ...] = ()
    origin: tuple[str, str] | None = None
    given: Given | None = None
    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    result: EvaluationResult | None = None
    result_fault: Finding | None = None
    signature: signing.Seen = field(default_factory=signing.Seen)
    opponents: Opponents | None = None
    opponents_fault: Finding | None = None
    users: tuple[usage.Use, ...] = ()
    producers: tuple[Producer, ...] = ()
    decisions: tuple[Decision, ...] = ()
    deletions: tuple[Manifest, ...] = ()
    # Who refers to the same content by its digest.
    others: tuple[str, ...] = ()
    policy: NamespacePolicy = NO_RULES

    @property
    def is_going(self) -> bool:
        """Whether nothing is found out about it any more, since nobody may need it.

        A deletion that waits for those who use it is no such case: they need to know that it is good,
        also when its status was lost. One that takes its children first would take its Jobs, too.
        """
        metadata = self.version.metadata
        takes_children = FOREGROUND in metadata.finalizers
        return bool(metadata.deletion_timestamp) and (takes_children or not self.users)


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it takes to get further."""

    verdict: Verdict
    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    again_after: timedelta | None = None
    # None where nobody asks for a signature.
    signed: signing.Judgement | None = None


def needs_registry(observed: Observed) -> bool:
    """Whether the registry is to be asked about a given report now."""
    version = observed.version
    return bool(version.spec.evaluation.report) and not (
        remembered(version) or observed.is_going or retention.has_begun(version)
    )


def judge(
    observed: Observed, base: ResolvedBase | Finding | None, settings: Settings, now: datetime
) -> Judgement:
    """What is known about artifact and evaluation; the signature waits for that."""
    version = observed.version
    if known := remembered(version):
        return _tidied(observed, known, now)
    if retention.has_begun(version):
        nothing = unknown(VersionReason.ARTIFACT_DELETED, "there is no artifact to look at")
        return _tidied(observed, remembered_failure(version) or nothing, now)
    if observed.is_going:
        return Judgement(unknown(VersionReason.DELETING, "the version is being deleted"))
    if isinstance(base, Finding):
        return Judgement(of_finding(base))
    given = observed.given
    if given is not None and not given.is_forbidden:
        return _by_registry(given)
    return _by_job(observed, base, settings, now)


def opponents_of(observed: Observed) -> Opponents | None:
    """Whom the version is compared with: chosen just now, or before."""
    return observed.opponents or observed.version.status.opponents


def _tidied(observed: Observed, known: Verdict, now: datetime) -> Judgement:
    """Nothing is left to find out; the Job's log is kept for a while."""
    due, again = evaluation.over(observed.jobs, now)
    return Judgement(known, delete=due, again_after=again)


def _by_registry(given: Given) -> Judgement:
    if given.fault is not None:
        after = REGISTRY_ASKED_AGAIN_AFTER if given.fault.is_unknown else LOOKED_AGAIN_AFTER
        return Judgement(of_finding(given.fault), again_after=after)
    if given.claim is None:
        return Judgement(unknown(VersionReason.EVALUATING, "the registry has not been asked yet"))
    return Judgement(of_given_report(given.claim))


def _by_job(
    observed: Observed, base: ResolvedBase | None, settings: Settings, now: datetime
) -> Judgement:
    version = observed.version
    name = evaluation.job_name(version)
    outdated = tuple(j for j in observed.jobs if name_of(j) != name)
    job = next((j for j in observed.jobs if name_of(j) == name), None)
    if job is None:
        return replace(_started(observed, base, settings), delete=outdated)
    pods = pods_of(name, observed.pods)
    state = JobState(job)
    if not state.is_finished:
        return Judgement(_waiting(state, pods, now), (), outdated, settles_in(pods, now))
    if not state.is_complete:
        before = None if pods else remembered_failure(version)
        if before is not None:
            return Judgement(before)
        return _after_failure(job, failure_of(state, pods, EvaluationResult), now)
    if observed.result is not None:
        return Judgement(of_result(version, observed.result), delete=outdated)
    fault = observed.result_fault or Finding(
        VersionReason.RESULT_MISSING, "the evaluation left no result"
    )
    if fault.is_unknown:
        return Judgement(of_finding(fault), again_after=REGISTRY_ASKED_AGAIN_AFTER)
    return _after_failure(job, Failure(reason=fault.reason, message=fault.message), now)


def _started(observed: Observed, base: ResolvedBase | None, settings: Settings) -> Judgement:
    """The evaluation begins once it is known whom the version is compared with."""
    version = observed.version
    if fault := observed.opponents_fault:
        return Judgement(of_finding(fault), again_after=REGISTRY_ASKED_AGAIN_AFTER)
    against = opponents_of(observed)
    waits = unknown(VersionReason.EVALUATING, "the evaluation pod is being started")
    return Judgement(waits, create=tuple(evaluation.children(version, base, against, settings)))


def _waiting(job: JobState, pods: Sequence[Manifest], now: datetime) -> Verdict:
    """What is known while the evaluation is not over."""
    found = obstacle(pods, now)
    if found is not None:
        return unknown(found.reason, found.message)
    if job.is_suspended and not pods:
        message = "a queue holds the evaluation pod back until there is room"
        return unknown(VersionReason.EVALUATING, message)
    return unknown(VersionReason.EVALUATING, "the evaluation pod is at work")


def _after_failure(job: Manifest, failure: Failure, now: datetime) -> Judgement:
    """A failure that may pass is tried again after a while; any other is final until asked."""
    if failure.reason not in RETRYABLE:
        return Judgement(of_failure(failure))
    verdict = unknown(failure.reason, f"{failure.message}; it will be tried again")
    left = TRIED_AGAIN_AFTER - (now - evaluation.ended(job, now))
    if left > timedelta():
        return Judgement(verdict, again_after=left)
    return Judgement(verdict, delete=(job,), again_after=timedelta(seconds=1))
