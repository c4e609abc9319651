"""What a ModelVersion should have and say, as a function of what was seen.

verdict (see `judging`) --> gates --> signature --> Ready
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import FailureReason, VersionReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.modelversion import ModelVersionStatus
from trimtab_operator.domain import images
from trimtab_operator.domain.conditions import condition, is_true, with_conditions
from trimtab_operator.domain.decision.standing import Standing, standing
from trimtab_operator.domain.events import Event, transitions
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.images import Image
from trimtab_operator.domain.manifests import Manifest, name_of
from trimtab_operator.domain.modelversion import evaluation, lineage, retention, signing, usage
from trimtab_operator.domain.modelversion.base import ResolvedBase, resolved
from trimtab_operator.domain.modelversion.judging import Judgement, Observed, judge, opponents_of
from trimtab_operator.domain.modelversion.verdict import judged, readiness
from trimtab_operator.domain.observation import (
    CONTAINER_FAILED,
    DEADLINE_EXCEEDED,
    JOB_FAILED,
    JobState,
    pods_of,
)
from trimtab_operator.domain.outcome import Done, Outcome, Retry, soonest
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
FAULTS: Final = (
    VersionReason.GATE_FAILED,
    VersionReason.GATE_UNDECIDED,
    VersionReason.BASE_NOT_FULL,
    VersionReason.BASE_MISSING,
)
WORRYING: Final = frozenset(
    {
        *FailureReason,
        JOB_FAILED,
        CONTAINER_FAILED,
        DEADLINE_EXCEEDED,
        VersionReason.QUARANTINED,
        *FAULTS,
    }
)


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


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Decide everything at once."""
    version = observed.version
    base = resolved(version, observed.base)
    judgement = _with_signature(judge(observed, base, settings, now), observed, settings, now)
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
    # With new opponents an earlier verdict goes, or it would be taken for one about them.
    is_superseded = bool(judgement.create) and is_true(version.status.conditions, "Evaluated")
    tells = is_superseded or bool(end.create)
    if tells:
        decided = decision or version.status
        decision = decided.model_copy(update={"conditions": status.conditions})
    after = soonest(judgement.again_after, signed.again_after if signed else None, end.again_after)
    return Plan(
        finalizers=_finalizers(observed),
        announced=told if tells else (),
        decision=decision,
        create=(*judgement.create, *(signed.create if signed else ()), *end.create),
        delete=(*judgement.delete, *(signed.delete if signed else ()), *end.delete),
        events=() if tells else told,
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


def _with_signature(
    judgement: Judgement, observed: Observed, settings: Settings, now: datetime
) -> Judgement:
    """The judgement with the signature, which waits for the verdict."""
    version, verdict = observed.version, judgement.verdict
    report = verdict.evaluation.report if verdict.evaluation else None
    evaluated = readiness(version, verdict)
    signed = signing.judge(
        version,
        evaluated,
        report,
        observed.signature,
        settings,
        now,
        is_going=observed.is_going,
    )
    return replace(judgement, signed=signed)


def _status(
    observed: Observed,
    base: ResolvedBase | Finding | None,
    judgement: Judgement,
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
    producers = usage.merged(before.producers, list(observed.producers))
    around = lineage.Around(
        base=observed.base,
        parent=observed.parent,
        sources=observed.sources,
        origin=observed.origin,
        producers=producers,
        users=observed.users,
    )
    return ModelVersionStatus(
        observed_generation=version.metadata.generation,
        conditions=with_conditions(before.conditions, conditions),
        producers=producers,
        used_by=usage.listed(observed.users),
        decisions=list(stands.rulings),
        evaluation=judged(version, verdict.evaluation),
        signature=signed.signature if signed else before.signature,
        opponents=opponents_of(observed) if judgement.create else before.opponents,
        base_digest=known.digest if known else before.base_digest,
        base_uri=known.uri if known else before.base_uri,
        size_bytes=verdict.size_bytes if verdict.size_bytes is not None else before.size_bytes,
        lineage=lineage.graph(version, around),
        image=image.reference or None,
        image_digest=image.digest,
    )


def _deletion(
    observed: Observed, stands: Standing, judgement: Judgement, settings: Settings, now: datetime
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


def _image(seen: Observed, judgement: Judgement, settings: Settings) -> Image:
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


def _outcome(judgement: Judgement) -> Outcome:
    verified = judgement.verdict.verified
    if verified.holds is None and verified.reason == FailureReason.REGISTRY_UNREACHABLE:
        return Retry(verified.message, judgement.again_after)
    return Done(judgement.again_after)
