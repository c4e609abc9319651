"""What a ModelVersion should have and say, as a function of what was seen.

    report given ---> registry's word ----------+
                                                +--> verdict --> gates --> signature --> Ready
    no report (or no access) --> Job --> result +

A verdict that is final is kept in status and never asked for again: artifacts have digests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import EvaluationResult
from trimtab_api.reasons import RETRYABLE, FailureReason, VersionReason
from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_api.v1alpha1.modelversion import ModelVersionStatus, Opponents, Producer
from trimtab_operator.domain import images
from trimtab_operator.domain.conditions import condition, is_true, with_conditions
from trimtab_operator.domain.decision.standing import Standing, standing
from trimtab_operator.domain.events import Event, transitions
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.images import Image
from trimtab_operator.domain.manifests import Manifest, name_of
from trimtab_operator.domain.modelversion import evaluation, retention, signing, usage
from trimtab_operator.domain.modelversion.base import ResolvedBase, resolved
from trimtab_operator.domain.modelversion.verdict import (
    Verdict,
    judged,
    of_failure,
    of_finding,
    of_given_report,
    of_result,
    readiness,
    remembered,
    remembered_failure,
    unknown,
)
from trimtab_operator.domain.modelversion.verification import Claim
from trimtab_operator.domain.observation import (
    CONTAINER_FAILED,
    JOB_FAILED,
    JobState,
    failure_of,
    obstacle,
    pods_of,
    settles_in,
)
from trimtab_operator.domain.outcome import Done, Outcome, Retry, soonest
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy
from trimtab_operator.settings import Settings

KIND: Final = "ModelVersion"
# What every version begins with.
UNTOUCHED: Final = frozenset(
    {
        VersionReason.NOT_IN_USE,
        VersionReason.NOT_APPROVED,
        VersionReason.NOT_RETIRED,
        VersionReason.NOT_QUARANTINED,
    }
)
TRIED_AGAIN_AFTER: Final = timedelta(minutes=1)
LOOKED_AGAIN_AFTER: Final = timedelta(minutes=1)
REGISTRY_ASKED_AGAIN_AFTER: Final = timedelta(seconds=5)
FAULTS: Final = (
    VersionReason.GATE_FAILED,
    VersionReason.GATE_UNDECIDED,
    VersionReason.BASE_NOT_FULL,
    VersionReason.BASE_MISSING,
)
WORRYING: Final = frozenset(
    {*FailureReason, JOB_FAILED, CONTAINER_FAILED, VersionReason.QUARANTINED, *FAULTS}
)


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


@dataclass(frozen=True)
class Plan:
    """What to write, in this order."""

    finalizers: tuple[str, ...]
    # What the decision tells; afterwards it would be news no more.
    announced: tuple[Event, ...]
    decision: ModelVersionStatus | None
    create: tuple[Manifest, ...]
    delete: tuple[Manifest, ...]
    events: tuple[Event, ...]
    status: ModelVersionStatus
    outcome: Outcome


@dataclass(frozen=True)
class _Judgement:
    """A verdict and what it takes to get further."""

    verdict: Verdict
    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    again_after: timedelta | None = None
    # None where nobody asks for a signature.
    signed: signing.Judgement | None = None


def needs_registry(version: ModelVersion) -> bool:
    """Whether the registry is to be asked about a given report now."""
    return bool(version.spec.evaluation.report) and not (
        remembered(version) or version.metadata.deletion_timestamp or retention.has_begun(version)
    )


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Decide everything at once."""
    version = observed.version
    base = resolved(version, observed.base)
    judgement = _with_signature(_judgement(observed, base, settings, now), observed, settings, now)
    signed = judgement.signed
    stands = standing(version, observed.decisions, observed.policy)
    end = _deletion(observed, stands, judgement, settings, now)
    status = _status(observed, base, judgement, stands, end, settings, now)
    decision = None
    if judgement.create:
        decision = version.status.model_copy(
            update={
                "image": status.image,
                "image_digest": status.image_digest,
                "base_uri": status.base_uri,
                "base_digest": status.base_digest,
                "opponents": status.opponents,
            }
        )
    told = _events(version, status)
    if end.create:
        decision = version.status.model_copy(update={"conditions": status.conditions})
    after = soonest(judgement.again_after, signed.again_after if signed else None, end.again_after)
    return Plan(
        finalizers=_finalizers(observed),
        announced=told if end.create else (),
        decision=decision,
        create=(*judgement.create, *(signed.create if signed else ()), *end.create),
        delete=(*judgement.delete, *(signed.delete if signed else ()), *end.delete),
        events=() if end.create else told,
        status=status,
        outcome=_outcome(replace(judgement, again_after=after)),
    )


def blocked(
    status: ModelVersionStatus, message: str, version: ModelVersion, now: datetime
) -> ModelVersionStatus:
    """The status when the cluster refuses a Job: the deletion's, the signature's or the evaluation's."""
    what, concerned = _refused(status, version)
    text = f"the {what} cannot be started: {message}"
    answer = Answer(None, VersionReason.JOB_REFUSED, text)
    told = [_condition(kind, answer, version, now) for kind in concerned]
    return status.model_copy(update={"conditions": with_conditions(status.conditions, told)})


def _refused(status: ModelVersionStatus, version: ModelVersion) -> tuple[str, tuple[str, ...]]:
    """Which Job it was, and the conditions that wait for it."""
    if retention.has_begun(version):
        return "deletion", (retention.CONDITION,)
    if not is_true(status.conditions, "Evaluated"):
        return "evaluation", ("ArtifactVerified", "Evaluated", "Ready")
    # A good signature counts until there is another one.
    return "signature", (signing.CONDITION, *(() if status.signature else ("Ready",)))


def _judgement(
    observed: Observed, base: ResolvedBase | Finding | None, settings: Settings, now: datetime
) -> _Judgement:
    version = observed.version
    if known := remembered(version):
        return _tidied(observed, known, now)
    if retention.has_begun(version):
        nothing = unknown(VersionReason.ARTIFACT_DELETED, "there is no artifact to look at")
        return _tidied(observed, remembered_failure(version) or nothing, now)
    if version.metadata.deletion_timestamp:
        return _Judgement(unknown(VersionReason.DELETING, "the version is being deleted"))
    if isinstance(base, Finding):
        return _Judgement(of_finding(base))
    given = observed.given
    if given is not None and not given.is_forbidden:
        return _by_registry(given)
    return _by_job(observed, base, settings, now)


def _with_signature(
    judgement: _Judgement, observed: Observed, settings: Settings, now: datetime
) -> _Judgement:
    """The judgement with the signature, which waits for the verdict."""
    version, verdict = observed.version, judgement.verdict
    report = verdict.evaluation.report if verdict.evaluation else None
    evaluated = readiness(version, verdict)
    signed = signing.judge(version, evaluated, report, observed.signature, settings, now)
    return replace(judgement, signed=signed)


def _tidied(observed: Observed, known: Verdict, now: datetime) -> _Judgement:
    """Nothing is left to find out; the Job's log is kept for a while."""
    due, again = evaluation.over(observed.jobs, now)
    return _Judgement(known, delete=due, again_after=again)


def _by_registry(given: Given) -> _Judgement:
    if given.fault is not None:
        after = REGISTRY_ASKED_AGAIN_AFTER if given.fault.is_unknown else LOOKED_AGAIN_AFTER
        return _Judgement(of_finding(given.fault), again_after=after)
    if given.claim is None:
        return _Judgement(unknown(VersionReason.EVALUATING, "the registry has not been asked yet"))
    return _Judgement(of_given_report(given.claim))


def _by_job(
    observed: Observed, base: ResolvedBase | None, settings: Settings, now: datetime
) -> _Judgement:
    version = observed.version
    name = evaluation.job_name(version)
    outdated = tuple(j for j in observed.jobs if name_of(j) != name)
    job = next((j for j in observed.jobs if name_of(j) == name), None)
    if job is None:
        return replace(_started(observed, base, settings), delete=outdated)
    pods = pods_of(name, observed.pods)
    state = JobState(job)
    if not state.is_finished:
        return _Judgement(_waiting(state, pods, now), (), outdated, settles_in(pods, now))
    if not state.is_complete:
        before = None if pods else remembered_failure(version)
        if before is not None:
            return _Judgement(before)
        return _after_failure(job, failure_of(state, pods, EvaluationResult), now)
    if observed.result is not None:
        return _Judgement(of_result(version, observed.result), delete=outdated)
    fault = observed.result_fault or Finding(
        VersionReason.RESULT_MISSING, "the evaluation left no result"
    )
    if fault.is_unknown:
        return _Judgement(of_finding(fault), again_after=REGISTRY_ASKED_AGAIN_AFTER)
    return _after_failure(job, Failure(reason=fault.reason, message=fault.message), now)


def _started(observed: Observed, base: ResolvedBase | None, settings: Settings) -> _Judgement:
    """The evaluation begins once it is known whom the version is compared with."""
    version = observed.version
    if fault := observed.opponents_fault:
        return _Judgement(of_finding(fault), again_after=REGISTRY_ASKED_AGAIN_AFTER)
    against = _opponents(observed)
    waits = unknown(VersionReason.EVALUATING, "the evaluation pod is being started")
    return _Judgement(waits, create=tuple(evaluation.children(version, base, against, settings)))


def _opponents(observed: Observed) -> Opponents | None:
    return observed.opponents or observed.version.status.opponents


def _waiting(job: JobState, pods: Sequence[Manifest], now: datetime) -> Verdict:
    """What is known while the evaluation is not over."""
    found = obstacle(pods, now)
    if found is not None:
        return unknown(found.reason, found.message)
    if job.is_suspended and not pods:
        message = "a queue holds the evaluation pod back until there is room"
        return unknown(VersionReason.EVALUATING, message)
    return unknown(VersionReason.EVALUATING, "the evaluation pod is at work")


def _after_failure(job: Manifest, failure: Failure, now: datetime) -> _Judgement:
    """A failure that may pass is tried again after a while; any other is final until asked."""
    if failure.reason not in RETRYABLE:
        return _Judgement(of_failure(failure))
    verdict = unknown(failure.reason, f"{failure.message}; it will be tried again")
    left = TRIED_AGAIN_AFTER - (now - evaluation.ended(job, now))
    if left > timedelta():
        return _Judgement(verdict, again_after=left)
    return _Judgement(verdict, delete=(job,), again_after=timedelta(seconds=1))


def _status(
    observed: Observed,
    base: ResolvedBase | Finding | None,
    judgement: _Judgement,
    stands: Standing,
    end: retention.Deletion,
    settings: Settings,
    now: datetime,
) -> ModelVersionStatus:
    version, verdict, signed = observed.version, judgement.verdict, judgement.signed
    known = base if isinstance(base, ResolvedBase) else None
    answers = {
        "ArtifactVerified": verdict.verified,
        "Evaluated": verdict.evaluated,
        **({signing.CONDITION: signed.answer} if signed else {}),
        "Ready": signing.ready(version, readiness(version, verdict), signed),
        "InUse": _in_use(observed),
        **_decided(stands, end),
    }
    conditions = [_condition(kind, answer, version, now) for kind, answer in answers.items()]
    before, image = version.status, _image(observed, judgement, settings)
    return ModelVersionStatus(
        observed_generation=version.metadata.generation,
        conditions=with_conditions(before.conditions, conditions),
        producers=usage.merged(before.producers, list(observed.producers)),
        used_by=usage.listed(observed.users),
        decisions=list(stands.rulings),
        evaluation=judged(version, verdict.evaluation),
        signature=signed.signature if signed else before.signature,
        opponents=_opponents(observed) if judgement.create else before.opponents,
        base_digest=known.digest if known else before.base_digest,
        base_uri=known.uri if known else before.base_uri,
        size_bytes=verdict.size_bytes if verdict.size_bytes is not None else before.size_bytes,
        image=image.reference or None,
        image_digest=image.digest,
    )


def _deletion(
    observed: Observed, stands: Standing, judgement: _Judgement, settings: Settings, now: datetime
) -> retention.Deletion:
    """An artifact that is still being looked at, or signed, is needed for that."""
    jobs_of = {
        "its evaluation": (*observed.jobs, *judgement.create),
        "its signature": (
            *observed.signature.jobs,
            *(judgement.signed.create if judgement.signed else ()),
        ),
    }
    needed_by = (
        *(str(user) for user in observed.users),
        *observed.others,
        *(what for what, jobs in jobs_of.items() if not all(JobState(j).is_finished for j in jobs)),
    )
    return retention.deletion(
        observed.version, stands, needed_by, observed.deletions, observed.pods, settings, now
    )


def _decided(stands: Standing, end: retention.Deletion) -> dict[str, Answer]:
    """What people have decided, and what has become of the artifact because of it."""
    answers = {
        "Approved": stands.approved,
        "Retired": stands.retired,
        "Quarantined": stands.quarantined,
    }
    if end.answer is None:
        return answers
    answers[retention.CONDITION] = end.answer
    if end.answer.reason not in retention.REVERSIBLE:
        is_gone = bool(end.answer.holds)
        reason = VersionReason.ARTIFACT_DELETED if is_gone else VersionReason.DELETING_ARTIFACT
        answers["Ready"] = Answer(False, reason, end.answer.message)
    return answers


def _image(seen: Observed, judgement: _Judgement, settings: Settings) -> Image:
    """Fixed by what a node says of it: the Job that exists stays as it is, the next one uses it."""
    version, status = seen.version, seen.version.status
    if judgement.create:
        return Image.of(evaluation.image(version, settings))
    name = evaluation.job_name(version)
    made = next((JobState(j).image(names.EVALUATE) for j in seen.jobs if name_of(j) == name), None)
    before = Image(status.image or made or "", status.image_digest)
    return images.observed(before, pods_of(name, seen.pods), {names.EVALUATE})


def _events(version: ModelVersion, status: ModelVersionStatus) -> tuple[Event, ...]:
    """Transitions; what a new version is not yet is none."""
    known = {c.type for c in version.status.conditions}
    told = [c for c in status.conditions if c.type in known or c.reason not in UNTOUCHED]
    return tuple(transitions(KIND, version, told, warnings=WORRYING))


def _in_use(observed: Observed) -> Answer:
    if not observed.users:
        return Answer(False, VersionReason.NOT_IN_USE, "nobody uses it")
    told = usage.told(observed.users)
    if observed.version.metadata.deletion_timestamp:
        return Answer(True, VersionReason.DELETION_WAITS, f"deletion waits: {told}")
    return Answer(True, VersionReason.IN_USE, told)


def _finalizers(observed: Observed) -> tuple[str, ...]:
    """Protected while in use. A finalizer cannot be added to what is already on its way out."""
    present = observed.version.metadata.finalizers
    others = tuple(f for f in present if f != names.FINALIZER_IN_USE)
    may_hold = not observed.version.metadata.deletion_timestamp or len(others) < len(present)
    if observed.users and may_hold:
        return tuple(present) if len(others) < len(present) else (*others, names.FINALIZER_IN_USE)
    return others


def _condition(kind: str, answer: Answer, version: ModelVersion, now: datetime) -> Condition:
    return condition(
        kind,
        answer.holds,
        answer.reason,
        answer.message,
        generation=version.metadata.generation,
        now=now,
    )


def _outcome(judgement: _Judgement) -> Outcome:
    verified = judgement.verdict.verified
    if verified.holds is None and verified.reason == FailureReason.REGISTRY_UNREACHABLE:
        return Retry(verified.message, judgement.again_after)
    return Done(judgement.again_after)
