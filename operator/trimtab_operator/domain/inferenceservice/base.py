"""The model that engines hold: found once, by digest, and frozen in status.

A base that is neither a ModelVersion nor an artifact by digest is mirrored into the registry by a
`prepare` pod in the user's namespace, which alone sees the user's credentials.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import Output, Owner, PrepareResult, PrepareRun
from trimtab_api.documents.preparation import BaseOrigin
from trimtab_api.reasons import RETRYABLE, ServiceReason, VersionReason
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_operator.domain import pods
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.consent import NOTHING_ASKED, Consent
from trimtab_operator.domain.inferenceservice.routes import Base, routed
from trimtab_operator.domain.manifests import Manifest, name_of
from trimtab_operator.domain.modelversion.base import of_version
from trimtab_operator.domain.naming import base_repository, child_name, result_tag, short_hash
from trimtab_operator.domain.observation import JobState, failure_of, obstacle, pods_of, settles_in
from trimtab_operator.settings import Settings

KIND: Final = children.KIND
BASE_CREDENTIALS_PATH: Final = f"{names.CREDENTIALS_PATH}/base"
BY_DIGEST: Final = "@sha256:"


@dataclass(frozen=True)
class Preparation:
    """What was seen of the pod that mirrors the base."""

    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    result: PrepareResult | None = None
    result_fault: Finding | None = None


@dataclass(frozen=True)
class BasePlan:
    """The base, or why there is none yet and what is needed to get it."""

    base: Base | None = None
    finding: Finding | None = None
    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    again_after: timedelta | None = None


def resolve(
    service: InferenceService,
    named: ModelVersion | None,
    preparation: Preparation,
    settings: Settings,
    now: datetime,
    consent: Consent = NOTHING_ASKED,
) -> BasePlan:
    """Find the base; what was found before is never looked for again."""
    status, spec = service.status, service.spec.base_model
    called = spec.model_version.name if spec.model_version else spec.name
    if status.base_uri and status.base_digest:
        told = next((m.active_version for m in status.models if m.name == spec.name), None)
        return BasePlan(
            with_proof(Base(told or called, status.base_digest, status.base_uri), named)
        )
    if spec.model_version is not None:
        found = of_version(spec.model_version.name, named)
        if isinstance(found, Finding):
            return BasePlan(finding=found)
        if named is not None and (fault := consent.against(named)):
            return BasePlan(finding=fault)
        return BasePlan(with_proof(Base(called, found.digest, found.uri), named))
    uri = spec.uri or ""
    if uri.startswith("oci://") and BY_DIGEST in uri:
        return BasePlan(Base(called, uri.rpartition("@")[2], uri))
    return _prepared(service, called, preparation, settings, now)


def with_proof(base: Base, version: ModelVersion | None) -> Base:
    """The base with what vouches for it; a version of other content does not."""
    if version is None or version.spec.artifact.digest != base.digest:
        return base
    known = routed(version)
    return replace(base, report=known.report, signature=known.signature)


def needs_preparation(service: InferenceService) -> bool:
    """Whether a pod has to find the base."""
    spec, status = service.spec.base_model, service.status
    return not (status.base_digest or spec.model_version or BY_DIGEST in (spec.uri or ""))


def job_name(service: InferenceService) -> str:
    """One name per service and per request to try again."""
    return child_name(
        service.metadata.name, names.PREPARE, service.metadata.uid, _asked_again(service)
    )


def result_uri(service: InferenceService, settings: Settings) -> str:
    """Where the pod leaves its result."""
    return f"oci://{_repository(service, settings)}:{_tag(service)}"


def _prepared(
    service: InferenceService,
    called: str,
    seen: Preparation,
    settings: Settings,
    now: datetime,
) -> BasePlan:
    name = job_name(service)
    outdated = tuple(j for j in seen.jobs if name_of(j) != name)
    job = next((j for j in seen.jobs if name_of(j) == name), None)
    if job is None:
        waits = Finding.unknown(
            ServiceReason.PREPARING_BASE, "the pod that fetches the base is being started"
        )
        return BasePlan(None, waits, tuple(_children(service, settings)), outdated)
    its_pods = pods_of(name, seen.pods)
    state = JobState(job)
    if not state.is_finished:
        found = obstacle(its_pods, now)
        text = found.message if found else "the base is being fetched into the registry"
        reason = found.reason if found else ServiceReason.PREPARING_BASE
        finding = Finding.unknown(reason, text)
        return BasePlan(None, finding, (), outdated, settles_in(its_pods, now))
    if not state.is_complete:
        failure = failure_of(state, its_pods, PrepareResult)
        fault = Finding(failure.reason, failure.message, failure.reason in RETRYABLE)
        return BasePlan(finding=fault, delete=outdated)
    return BasePlan(*_read(called, seen), delete=outdated)


def _read(called: str, seen: Preparation) -> tuple[Base | None, Finding | None]:
    result = seen.result
    if result is not None and result.failure is not None:
        return None, Finding(result.failure.reason, result.failure.message)
    if result is None or result.base is None:
        missing = Finding(
            VersionReason.RESULT_MISSING, "the pod that fetched the base left no result"
        )
        return None, seen.result_fault or missing
    return Base(called, result.base.digest, result.base.uri), None


def _children(service: InferenceService, settings: Settings) -> list[Manifest]:
    name = job_name(service)
    spec = service.spec.base_model
    document = PrepareRun(
        owner=Owner(
            kind=KIND,
            namespace=service.metadata.namespace,
            name=service.metadata.name,
            uid=service.metadata.uid,
        ),
        base=BaseOrigin(
            uri=spec.uri or "",
            revision=spec.revision,
            output=Output(
                repository=_repository(service, settings),
                result_tag=_tag(service),
                plain_http=settings.registry.plain_http,
            ),
        ),
    )
    mounts = [
        pods.run_document(name),
        pods.scratch_space(),
        pods.Mount.of("volume", names.VOLUME_PATH, {"emptyDir": {}}, read_only=False),
        *pods.registry_credentials(settings),
    ]
    if spec.credentials:
        secret = spec.credentials.secret_name
        mounts.append(pods.secret("base-credentials", BASE_CREDENTIALS_PATH, secret))
    scheme, _, rest = (spec.uri or "").partition("://")
    if scheme == "pvc":
        claim = rest.partition("/")[0]
        mounts.append(pods.claim("base-claim", f"/claims/{claim}", claim, read_only=True))
    container = pods.container(
        names.PREPARE,
        settings.images.pipelines,
        ["python", "-m", "trimtab_pipelines", names.PREPARE],
        mounts,
        settings,
        # Files pass through it; what it holds of them at a time is little.
        wants={"requests": {"cpu": "100m", "memory": "256Mi"}},
    )
    # Its user's proxies and tolerations hold here too; GPUs and their nodes are not needed.
    overrides = service.spec.pod.model_copy(update={"node_selector": {}})
    pod = pods.pod_spec([container], mounts, settings, overrides=overrides)
    text = document.model_dump_json(exclude_none=True)
    return [
        pods.run_config_map(KIND, service, names.PREPARE, name, text),
        pods.task_job(KIND, service, names.PREPARE, name, pod),
    ]


def _repository(service: InferenceService, settings: Settings) -> str:
    return base_repository(settings.registry.prefix, service.spec.base_model.uri or "")


def _tag(service: InferenceService) -> str:
    again = _asked_again(service)
    stage = f"{names.PREPARE}-{short_hash(again)}" if again else names.PREPARE
    return result_tag(service.metadata.uid, stage, 0)


def _asked_again(service: InferenceService) -> str:
    return service.metadata.annotations.get(names.ANNOTATION_RETRY, "")
