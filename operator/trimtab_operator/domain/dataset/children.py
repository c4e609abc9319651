"""The objects that a Dataset has: a document and a Job for each preparation. Same inputs, same manifests."""

from collections.abc import Sequence
from typing import Final

from trimtab_api import names
from trimtab_api.documents import Output, Owner, PrepareRun
from trimtab_api.documents.preparation import DataOrigin, LeakageCheck, Synthesis
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.dataset import (
    HeldOutData,
    PreparationEngine,
    PreparationResources,
    PreparationWorkers,
    WorkerResources,
)
from trimtab_api.v1alpha1.synthetic import Synthetic
from trimtab_operator.domain import endpoints, pods, preparation, rayjobs
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import child_name, data_repository, result_tag
from trimtab_operator.settings import Settings

KIND: Final = "Dataset"
BACKOFF_LIMIT: Final = 3
# Ray starts it in a shell of its own, whose PATH may be another.
_ENTRYPOINT: Final = " ".join(("/opt/trimtab/bin/python", *preparation.PROGRAM[1:]))
# Its result is in status by then; the pod, its log and its volume go.
KEPT_SECONDS: Final = 3600


def is_spread(dataset: Dataset) -> bool:
    """Whether workers of Ray do the work."""
    return dataset.spec.engine is PreparationEngine.RAY


def job_name(dataset: Dataset, attempt: int) -> str:
    """Name of the Job and the ConfigMap of one preparation; a namesake's or an earlier one's is another.

    KubeRay's names are short, and begin with a letter.
    """
    meta = dataset.metadata
    if is_spread(dataset):
        return child_name("ray", names.PREPARE, meta.uid, str(meta.generation), str(attempt))
    return child_name(meta.name, names.PREPARE, meta.uid, str(meta.generation), str(attempt))


def result_uri(dataset: Dataset, attempt: int, settings: Settings) -> str:
    """Where the registry has the result document of one preparation."""
    repository = data_repository(settings.registry.prefix, dataset.metadata.namespace)
    return f"oci://{repository}:{_tag(dataset, attempt)}"


def preparing(
    dataset: Dataset, held_out: Sequence[HeldOutData], settings: Settings
) -> list[Manifest]:
    """The task and the Job that does it."""
    spec = dataset.spec
    name = job_name(dataset, dataset.status.attempt)
    text = _task(dataset, held_out, settings).model_dump_json(
        by_alias=True, exclude_none=True, indent=2
    )
    task = pods.run_config_map(KIND, dataset, names.PREPARE, name, text)
    shared = [
        pods.scratch_space(),
        pods.run_document(name),
        *pods.registry_credentials(settings),
        *preparation.inputs(spec),
        *(_teacher(spec.synthetic) if spec.synthetic else []),
    ]
    volume = preparation.scratch_claim(spec.storage.size, spec.storage.class_name)
    pod = _pod(dataset, [*shared, volume], spec.resources, settings)
    if is_spread(dataset):
        return [*_policy(dataset, settings), task, _ray_job(dataset, name, pod, shared, settings)]
    return [task, _job(dataset, name, pod)]


def _job(dataset: Dataset, name: str, pod: Manifest) -> Manifest:
    return pods.task_job(
        KIND,
        dataset,
        names.PREPARE,
        name,
        pod,
        backoff_limit=BACKOFF_LIMIT,
        active_deadline_seconds=dataset.spec.active_deadline_seconds,
        ttl_seconds_after_finished=KEPT_SECONDS,
    )


def _ray_job(
    dataset: Dataset, name: str, head: Manifest, shared: Sequence[pods.Mount], settings: Settings
) -> Manifest:
    """The same pod as the head; workers have all of its mounts but the volume."""
    workers = dataset.spec.workers or PreparationWorkers()
    return rayjobs.ray_job(
        KIND,
        dataset,
        names.PREPARE,
        name,
        _ENTRYPOINT,
        head=head,
        worker=_pod(dataset, shared, workers.resources, settings),
        workers=workers.count,
        active_deadline_seconds=dataset.spec.active_deadline_seconds,
    )


def _policy(dataset: Dataset, settings: Settings) -> list[Manifest]:
    """One for all preparations of a Dataset."""
    theirs = settings.ray.operator_namespace
    if not (settings.network.operator_namespace and theirs):
        return []
    name = child_name(dataset.metadata.name, names.PREPARE, dataset.metadata.uid)
    return [rayjobs.job_server_policy(KIND, dataset, names.PREPARE, name, theirs)]


def _pod(
    dataset: Dataset,
    mounts: Sequence[pods.Mount],
    wants: PreparationResources | WorkerResources,
    settings: Settings,
) -> Manifest:
    container = pods.container(
        names.PREPARE,
        settings.images.pipelines,
        preparation.PROGRAM,
        mounts,
        settings,
        wants=pods.resources(0, wants.cpu, wants.memory),
    )
    return pods.pod_spec([container], mounts, settings, overrides=dataset.spec.pod)


def _teacher(synthetic: Synthetic) -> list[pods.Mount]:
    return endpoints.credentials("teacher", synthetic.teacher, names.TEACHER_CREDENTIALS_PATH)


def _synthesis(dataset: Dataset) -> Synthesis | None:
    """The teacher's part; what it has said to earlier preparations is not asked again."""
    synthetic = dataset.spec.synthetic
    if synthetic is None:
        return None
    return Synthesis(
        synthetic=synthetic,
        url=endpoints.url(synthetic.teacher, dataset.metadata.namespace),
        kept_tag=result_tag(dataset.metadata.uid, "answers", 0),
        recordings=[r for r in (dataset.status.recording, synthetic.recording) if r],
    )


def _task(dataset: Dataset, held_out: Sequence[HeldOutData], settings: Settings) -> PrepareRun:
    meta, spec = dataset.metadata, dataset.spec
    leakage = None
    if spec.leakage is not None:
        leakage = LeakageCheck(against=list(held_out), action=spec.leakage.action)
    output = Output(
        repository=data_repository(settings.registry.prefix, meta.namespace),
        result_tag=_tag(dataset, dataset.status.attempt),
        plain_http=settings.registry.plain_http,
    )
    return PrepareRun(
        owner=Owner(kind=KIND, namespace=meta.namespace, name=meta.name, uid=meta.uid),
        data=DataOrigin(
            dataset=spec,
            is_spread=is_spread(dataset),
            leakage=leakage,
            synthesis=_synthesis(dataset),
            output=output,
        ),
    )


def _tag(dataset: Dataset, attempt: int) -> str:
    meta = dataset.metadata
    return result_tag(meta.uid, f"{names.PREPARE}-{meta.generation}", attempt)
