"""The signature of a version: when it is due, the pod that makes or verifies it, and what is said of it.

    evaluated, all gates passed --> Job --> bundle in the registry --> Signed --> Ready

The operator sees neither keys nor trusted signers: the pod mounts them. A signature that is known
is kept in status; the annotation that asks for another try asks for another signature, too, since
certificates end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import Output, Owner, SigningMethod, SigningResult, SigningRun
from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.reasons import RETRYABLE, VersionReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.common import ConditionStatus
from trimtab_api.v1alpha1.finetunejob import Failure
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_api.v1alpha1.signing import SignatureStatus, Signing
from trimtab_operator.domain import pods
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.modelversion import evaluation, retention
from trimtab_operator.domain.naming import child_name, result_tag, short_hash
from trimtab_operator.domain.observation import (
    JobState,
    failure_of,
    obstacle,
    pods_of,
    settles_in,
)
from trimtab_operator.settings import Settings

KIND: Final = evaluation.KIND
CONDITION: Final = "Signed"
BACKOFF_LIMIT: Final = 3
WANTS: Final = ("100m", "256Mi")
TRIED_AGAIN_AFTER: Final = timedelta(minutes=1)
REGISTRY_ASKED_AGAIN_AFTER: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Seen:
    """What there is of a signature: Jobs and pods of the version, and the result of the present Job."""

    jobs: Sequence[Manifest] = ()
    pods: Sequence[Manifest] = ()
    result: SigningResult | None = None
    result_fault: Finding | None = None


@dataclass(frozen=True)
class Judgement:
    """What is said of the signature, and what it takes to get further."""

    answer: Answer
    signature: SignatureStatus | None = None
    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    again_after: timedelta | None = None


@dataclass(frozen=True)
class _Means:
    """With what is signed, the name of it for people, and where the pod finds it."""

    method: SigningMethod
    source: str
    mounts: tuple[pods.Mount, ...]


def is_about(job: Manifest) -> bool:
    """Whether a Job of the version signs; the others evaluate."""
    labels = get(job, "metadata", "labels", default={})
    return bool(labels.get(names.LABEL_COMPONENT) == names.SIGN)


def judge(
    version: ModelVersion,
    evaluated: Answer,
    report: str | None,
    seen: Seen,
    settings: Settings,
    now: datetime,
    *,
    is_going: bool = False,
) -> Judgement | None:
    """None where nobody asks for a signature; `evaluated` says whether every gate has passed."""
    if version.spec.signing is None:
        return None
    known = remembered(version)
    if known is None and retention.has_begun(version):
        known = _last_said(version)
    if known is not None:
        due, again = evaluation.over(seen.jobs, now)
        return Judgement(known, version.status.signature, delete=due, again_after=again)
    before = version.status.signature
    if is_going:
        answer = Answer(None, VersionReason.DELETING, "the version is being deleted")
        return Judgement(answer, before)
    if not evaluated.holds or report is None:
        waits = "it is signed once it is verified and evaluated and every gate has passed"
        return Judgement(Answer(None, VersionReason.NOT_SIGNED, waits), before)
    return _by_job(version, report, seen, settings, now)


def remembered(version: ModelVersion) -> Answer | None:
    """The signature of an earlier reconcile, unless another one is asked for."""
    told, known = find(version.status.conditions, CONDITION), version.status.signature
    if told is None or told.status is not ConditionStatus.TRUE or known is None:
        return None
    asked = asked_again(version)
    if asked and asked != known.requested:
        return None
    return Answer(True, told.reason, told.message)


def _last_said(version: ModelVersion) -> Answer:
    """What stays true of an artifact that is gone, or on its way."""
    told = find(version.status.conditions, CONDITION)
    if told is None or told.status is ConditionStatus.UNKNOWN:
        nothing = "there is no artifact to sign"
        return Answer(None, VersionReason.ARTIFACT_DELETED, nothing)
    return Answer(told.status is ConditionStatus.TRUE, told.reason, told.message)


def ready(version: ModelVersion, evaluated: Answer, judgement: Judgement | None) -> Answer:
    """A version that is to be signed is Ready only when it is."""
    if judgement is None or not evaluated.holds:
        return evaluated
    signed = judgement.answer
    if signed.holds:
        return Answer(True, evaluated.reason, f"{evaluated.message}; signed")
    if version.status.signature is not None and signed.holds is None:
        # Another signature is asked for while there is a good one; nothing is taken back meanwhile.
        return Answer(True, evaluated.reason, f"{evaluated.message}; signed, and signed again")
    return Answer(signed.holds, signed.reason, signed.message)


def job_name(version: ModelVersion) -> str:
    """One name per version and per request to try again."""
    return child_name(version.metadata.name, names.SIGN, version.metadata.uid, asked_again(version))


def result_uri(version: ModelVersion, settings: Settings) -> str:
    """Address of the result document."""
    return f"oci://{evaluation.repository(version, settings)}:{_tag(version)}"


def asked_again(version: ModelVersion) -> str:
    """The user's last request to try again."""
    return version.metadata.annotations.get(names.ANNOTATION_RETRY, "")


def run_document(
    version: ModelVersion, signing: Signing, report: str, settings: Settings
) -> SigningRun:
    """The pod's task."""
    artifact = version.spec.artifact
    means = _means(signing)
    is_full = artifact.kind is ArtifactKind.FULL
    return SigningRun(
        owner=Owner(
            kind=KIND,
            namespace=version.metadata.namespace,
            name=version.metadata.name,
            uid=version.metadata.uid,
        ),
        model=version.spec.model,
        kind=artifact.kind,
        artifact=Stored(uri=artifact.uri, digest=artifact.digest),
        mounted=Mounted(uri=artifact.uri, digest=artifact.digest, path=names.CANDIDATE_MODEL_PATH)
        if is_full
        else None,
        report=Stored(uri=report, digest=report.rpartition("@")[2]),
        method=means.method,
        source=means.source,
        audience=signing.sigstore.audience if signing.sigstore else None,
        output=Output(
            repository=evaluation.repository(version, settings),
            result_tag=_tag(version),
            plain_http=settings.registry.plain_http,
        ),
    )


def children(
    version: ModelVersion, signing: Signing, report: str, settings: Settings
) -> tuple[Manifest, ...]:
    """The task's ConfigMap and the Job."""
    name = job_name(version)
    document = run_document(version, signing, report, settings)
    mounts = [
        pods.run_document(name),
        pods.scratch_space(),
        *_means(signing).mounts,
        *pods.registry_credentials(settings),
    ]
    if document.mounted:
        path, uri = document.mounted.path, document.mounted.uri
        mounts.append(pods.model_image("candidate", path, uri, settings))
    cpu, memory = WANTS
    container = pods.container(
        names.SIGN,
        evaluation.image(version, settings),
        ["python", "-m", "trimtab_pipelines", names.SIGN],
        mounts,
        settings,
        wants=pods.resources(0, cpu, memory, is_memory_limited=False),
    )
    labels = version.metadata.labels
    job = pods.task_job(
        KIND,
        version,
        names.SIGN,
        name,
        pods.pod_spec([container], mounts, settings, overrides=version.spec.evaluation.pod),
        backoff_limit=BACKOFF_LIMIT,
        labels={k: labels[k] for k in (names.LABEL_KUEUE_QUEUE,) if k in labels},
    )
    text = document.model_dump_json(exclude_none=True)
    return (pods.run_config_map(KIND, version, names.SIGN, name, text), job)


def _by_job(
    version: ModelVersion, report: str, seen: Seen, settings: Settings, now: datetime
) -> Judgement:
    name, before = job_name(version), version.status.signature
    outdated = tuple(j for j in seen.jobs if name_of(j) != name)
    job = next((j for j in seen.jobs if name_of(j) == name), None)
    signing = version.spec.signing
    if job is None and signing is not None:
        made = children(version, signing, report, settings)
        return Judgement(_at_work("is being started"), before, made, outdated)
    state, own = JobState(job or {}), pods_of(name, seen.pods)
    if not state.is_finished:
        found = obstacle(own, now)
        waits = Answer(None, found.reason, found.message) if found else _at_work("is at work")
        return Judgement(waits, before, (), outdated, settles_in(own, now))
    if not state.is_complete:
        told = find(version.status.conditions, CONDITION)
        if not own and told is not None and told.status is ConditionStatus.FALSE:
            return Judgement(Answer(False, told.reason, told.message), before)
        return _after_failure(state, failure_of(state, own, SigningResult), before, now)
    if seen.result is not None and seen.result.bundle_uri and seen.result.signer:
        return Judgement(
            _signed(version, seen.result), _status(version, report, seen.result), (), outdated
        )
    fault = seen.result_fault or Finding(
        VersionReason.RESULT_MISSING, "the pod that signs left no result"
    )
    after = REGISTRY_ASKED_AGAIN_AFTER if fault.is_unknown else None
    return Judgement(Answer.of(fault), before, again_after=after)


def _after_failure(
    job: JobState, failure: Failure, before: SignatureStatus | None, now: datetime
) -> Judgement:
    """A failure that may pass is tried again after a while; any other is final until asked."""
    if failure.reason not in RETRYABLE:
        return Judgement(Answer(False, failure.reason, failure.message), before)
    answer = Answer(None, failure.reason, f"{failure.message}; it will be tried again")
    left = TRIED_AGAIN_AFTER - (now - evaluation.ended(job.manifest, now))
    if left > timedelta():
        return Judgement(answer, before, again_after=left)
    soon = timedelta(seconds=1)
    return Judgement(answer, before, delete=(job.manifest,), again_after=soon)


def _signed(version: ModelVersion, result: SigningResult) -> Answer:
    covers = "the files and the report" if result.is_report_covered else "the files alone"
    existing = version.spec.signing and version.spec.signing.existing
    reason = VersionReason.SIGNATURE_VERIFIED if existing else VersionReason.SIGNED
    return Answer(True, reason, f"{result.signer} has signed {covers}")


def _status(version: ModelVersion, report: str, result: SigningResult) -> SignatureStatus:
    return SignatureStatus(
        bundle=result.bundle_uri or "",
        signer=(result.signer or "")[:512],
        report=report if result.is_report_covered else None,
        requested=asked_again(version) or None,
    )


def _means(signing: Signing) -> _Means:
    """What the pod mounts to sign or verify. What is absent is told by the pod."""
    if signing.existing is not None:
        name = signing.existing.trust.name
        return _Means(SigningMethod.EXISTING, name, (pods.trusted_signers(name),))
    if signing.sigstore is not None:
        name, audience = signing.sigstore.trust.name, signing.sigstore.audience
        token = pods.identity_token("signing", names.SIGNING_CREDENTIALS_PATH, audience)
        return _Means(SigningMethod.SIGSTORE, name, (token, pods.trusted_signers(name)))
    method = SigningMethod.KEY if signing.key else SigningMethod.CERTIFICATE
    secret = signing.key or signing.certificate
    name = secret.secret_name if secret else ""
    mount = pods.secret("signing", names.SIGNING_CREDENTIALS_PATH, name, optional=True)
    return _Means(method, name, (mount,))


def _tag(version: ModelVersion) -> str:
    again = asked_again(version)
    return result_tag(
        version.metadata.uid, f"{names.SIGN}-{short_hash(again)}" if again else names.SIGN, 0
    )


def _at_work(what: str) -> Answer:
    return Answer(None, VersionReason.SIGNING, f"the pod that signs {what}")
