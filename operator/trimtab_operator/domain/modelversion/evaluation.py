"""The evaluation pod: its task, its Job, and the name under which it leaves its result."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from trimtab_api import names
from trimtab_api.documents import EvaluationRun, Output, Owner
from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain import pods
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.manifests import Manifest, get
from trimtab_operator.domain.modelversion.base import ResolvedBase
from trimtab_operator.domain.naming import (
    child_name,
    image_reference,
    result_tag,
    short_hash,
    version_repository,
)
from trimtab_operator.domain.observation import JobState
from trimtab_operator.domain.outcome import soonest
from trimtab_operator.settings import Settings

KIND: Final = "ModelVersion"
# Room for an adapter and the held-out data, which are small; models are mounted, not copied.
VOLUME_SIZE: Final = "4Gi"
BACKOFF_LIMIT: Final = 3
LOGS_KEPT: Final = timedelta(hours=1)


def job_name(version: ModelVersion) -> str:
    """One name per version and per request to try again."""
    return child_name(
        version.metadata.name, names.EVALUATE, version.metadata.uid, _asked_again(version)
    )


def run_document(
    version: ModelVersion, base: ResolvedBase | None, settings: Settings
) -> EvaluationRun:
    """The pod's task."""
    artifact = version.spec.artifact
    stored = Stored(uri=artifact.uri, digest=artifact.digest)
    data = version.spec.evaluation.dataset
    is_full = artifact.kind is ArtifactKind.FULL
    return EvaluationRun(
        owner=Owner(
            kind=KIND,
            namespace=version.metadata.namespace,
            name=version.metadata.name,
            uid=version.metadata.uid,
        ),
        kind=artifact.kind,
        artifact=stored,
        rank=artifact.rank,
        base=Mounted(uri=base.uri, digest=base.digest, path=names.BASE_MODEL_PATH)
        if base
        else None,
        mounted=Mounted(uri=artifact.uri, digest=artifact.digest, path=names.CANDIDATE_MODEL_PATH)
        if is_full
        else None,
        data=Stored(uri=data.uri, digest=data.uri.rpartition("@")[2]) if data else None,
        gpus=version.spec.evaluation.resources.gpus,
        output=Output(
            repository=repository(version, settings),
            result_tag=tag(version),
            plain_http=settings.registry.plain_http,
        ),
    )


def repository(version: ModelVersion, settings: Settings) -> str:
    """Where the report goes: beside the artifact, unless that is somebody else's registry."""
    beside = image_reference(version.spec.artifact.uri).partition("@")[0]
    if beside.startswith(f"{settings.registry.prefix}/"):
        return beside
    return version_repository(
        settings.registry.prefix, version.metadata.namespace, version.spec.model
    )


def tag(version: ModelVersion) -> str:
    """Tag of the result document."""
    again = _asked_again(version)
    stage = f"{names.EVALUATE}-{short_hash(again)}" if again else names.EVALUATE
    return result_tag(version.metadata.uid, stage, 0)


def result_uri(version: ModelVersion, settings: Settings) -> str:
    """Address of the result document."""
    return f"oci://{repository(version, settings)}:{tag(version)}"


def ended(job: Manifest, now: datetime) -> datetime:
    """When a Job ended; now, while it has not."""
    for each in get(job, "status", "conditions", default=[]):
        if each.get("type") in {"Complete", "Failed"} and each.get("status") == "True":
            return moment_of(each.get("lastTransitionTime")) or now
    return now


def over(jobs: Sequence[Manifest], now: datetime) -> tuple[tuple[Manifest, ...], timedelta | None]:
    """The Jobs whose time is over once nothing is left to find out, and when the others' will be."""
    due: list[Manifest] = []
    waits: list[timedelta] = []
    for job in jobs:
        left = LOGS_KEPT - (now - ended(job, now))
        if JobState(job).is_finished and left <= timedelta():
            due.append(job)
        else:
            waits.append(max(left, timedelta(seconds=1)))
    return tuple(due), soonest(*waits)


def image(version: ModelVersion, settings: Settings) -> str:
    """Frozen with the first pod; a request to try again takes the present one."""
    if version.status.image and not _asked_again(version):
        return version.status.image
    return settings.images.pipelines


def children(
    version: ModelVersion, base: ResolvedBase | None, settings: Settings
) -> list[Manifest]:
    """The task's ConfigMap and the Job."""
    name = job_name(version)
    document = run_document(version, base, settings)
    mounts = [
        pods.run_document(name),
        pods.scratch_space(),
        pods.Mount.of(
            "volume",
            names.VOLUME_PATH,
            {"emptyDir": {"sizeLimit": VOLUME_SIZE}},
            read_only=False,
        ),
        *pods.registry_credentials(settings),
    ]
    for mounted, volume in ((document.base, "base"), (document.mounted, "candidate")):
        if mounted:
            mounts.append(pods.model_image(volume, mounted.path, mounted.uri, settings))
    wants = version.spec.evaluation.resources
    container = pods.container(
        names.EVALUATE,
        image(version, settings),
        ["python", "-m", "trimtab_pipelines", names.EVALUATE],
        mounts,
        settings,
        wants=pods.resources(wants.gpus, wants.cpu, wants.memory, is_memory_limited=False),
    )
    job = pods.task_job(
        KIND,
        version,
        names.EVALUATE,
        name,
        pods.pod_spec([container], mounts, settings, overrides=version.spec.evaluation.pod),
        backoff_limit=BACKOFF_LIMIT,
        labels=_passed_on(version),
    )
    text = document.model_dump_json(exclude_none=True)
    return [pods.run_config_map(KIND, version, names.EVALUATE, name, text), job]


def _asked_again(version: ModelVersion) -> str:
    return version.metadata.annotations.get(names.ANNOTATION_RETRY, "")


def _passed_on(version: ModelVersion) -> dict[str, str]:
    labels = version.metadata.labels
    return {k: labels[k] for k in (names.LABEL_KUEUE_QUEUE,) if k in labels}
