"""The objects that a FineTuneJob has: documents, a volume, two Jobs. Same inputs, same manifests."""

from typing import Final

from trimtab_api import names
from trimtab_api.documents import Output, Owner, PrepareRun, TrainingRun
from trimtab_api.documents.common import Mounted, Stored
from trimtab_api.documents.preparation import BaseOrigin, DataOrigin
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.finetunejob import ResolvedInputs
from trimtab_operator.domain import pods
from trimtab_operator.domain import preparation as preparing
from trimtab_operator.domain.manifests import Manifest, child_metadata
from trimtab_operator.domain.naming import (
    base_repository,
    child_name,
    data_repository,
    result_tag,
    version_repository,
)
from trimtab_operator.settings import Settings

KIND: Final = "FineTuneJob"
FETCH: Final = "fetch"
STORAGE: Final = "storage"
_PROGRAM: Final = ("python", "-m", "trimtab_pipelines")


def job_name(job: FineTuneJob, stage: str, attempt: int) -> str:
    """Name of a stage's Job and ConfigMap; a namesake's or an earlier attempt's is another."""
    return child_name(job.metadata.name, stage, job.metadata.uid, str(attempt))


def claim_name(job: FineTuneJob) -> str:
    """Name of the volume claim; all attempts share it, and with it the checkpoints."""
    return child_name(job.metadata.name, STORAGE, job.metadata.uid)


def result_uri(job: FineTuneJob, stage: str, settings: Settings) -> str:
    """Where the registry has the result document of a stage."""
    prefix, namespace = settings.registry.prefix, job.metadata.namespace
    repository = (
        data_repository(prefix, namespace)
        if stage == names.PREPARE
        else version_repository(prefix, namespace, job.spec.output.model)
    )
    return f"oci://{repository}:{result_tag(job.metadata.uid, stage, job.status.attempt)}"


def preparation(job: FineTuneJob, settings: Settings, *, with_base: bool) -> list[Manifest]:
    """What resolves the references: the task and the Job that does it."""
    name = job_name(job, names.PREPARE, job.status.attempt)
    task = _prepare_run(job, settings, with_base=with_base)
    mounts = [
        pods.scratch_space(),
        pods.run_document(name),
        *pods.registry_credentials(settings),
        *_inputs(job, with_base=with_base),
    ]
    container = pods.container(
        names.PREPARE,
        settings.images.pipelines,
        preparing.PROGRAM,
        mounts,
        settings,
        wants=pods.resources(0, job.spec.resources.cpu, job.spec.resources.memory),
    )
    pod = pods.pod_spec([container], mounts, settings, overrides=job.spec.pod)
    return [
        _document(job, names.PREPARE, name, task),
        pods.task_job(
            KIND,
            job,
            names.PREPARE,
            name,
            pod,
            backoff_limit=job.spec.backoff_limit,
            active_deadline_seconds=job.spec.active_deadline_seconds,
        ),
    ]


def training(job: FineTuneJob, settings: Settings) -> list[Manifest]:
    """The task, the volume and the Job that trains on frozen inputs."""
    resolved = job.status.resolved or ResolvedInputs()
    name = job_name(job, names.TRAIN, job.status.attempt)
    queue = job.metadata.labels.get(names.LABEL_KUEUE_QUEUE)
    return [
        _document(job, names.TRAIN, name, _training_run(job, resolved, settings)),
        _claim(job),
        pods.task_job(
            KIND,
            job,
            names.TRAIN,
            name,
            training_pod(job, resolved, name, settings),
            backoff_limit=job.spec.backoff_limit,
            active_deadline_seconds=job.spec.active_deadline_seconds,
            labels={names.LABEL_KUEUE_QUEUE: queue} if queue else None,
            metrics_port=names.PORT_TRAINER,
        ),
    ]


def training_pod(
    job: FineTuneJob, resolved: ResolvedInputs, config_map: str, settings: Settings
) -> Manifest:
    """`fetch` brings the data into the volume, then `train` works on it."""
    image = resolved.image or settings.images.pipelines
    shared = [
        pods.scratch_space(),
        pods.run_document(config_map),
        *pods.registry_credentials(settings),
        pods.claim("volume", names.VOLUME_PATH, claim_name(job)),
    ]
    training_only = [pods.shared_memory()]
    if resolved.base_model_uri:
        training_only.append(
            pods.model_image("base", names.BASE_MODEL_PATH, resolved.base_model_uri, settings)
        )
    wants = job.spec.resources
    fetch = pods.container(
        FETCH,
        image,
        [*_PROGRAM, FETCH],
        shared,
        settings,
        wants=pods.resources(0, wants.cpu, wants.memory),
    )
    train = pods.container(
        names.TRAIN,
        image,
        [*_PROGRAM, names.TRAIN],
        [*shared, *training_only],
        settings,
        ports=[("http", names.PORT_TRAINER)],
        wants=pods.resources(wants.gpus, wants.cpu, wants.memory),
    )
    return pods.pod_spec(
        [train],
        [*shared, *training_only],
        settings,
        overrides=job.spec.pod,
        init_containers=[fetch],
    )


def _prepare_run(job: FineTuneJob, settings: Settings, *, with_base: bool) -> PrepareRun:
    prefix = settings.registry.prefix
    source = job.spec.base_model
    base = None
    if with_base and source.uri:
        base = BaseOrigin(
            uri=source.uri,
            revision=source.revision,
            output=_output(job, names.PREPARE, base_repository(prefix, source.uri), settings),
        )
    data = None
    if job.spec.dataset.inline is not None:
        repository = data_repository(prefix, job.metadata.namespace)
        output = _output(job, names.PREPARE, repository, settings)
        data = DataOrigin(dataset=job.spec.dataset.inline, output=output)
    return PrepareRun(owner=_owner(job), base=base, data=data)


def _training_run(job: FineTuneJob, resolved: ResolvedInputs, settings: Settings) -> TrainingRun:
    spec = job.spec
    base = None
    if resolved.base_model_uri and resolved.base_model_digest:
        base = Mounted(
            uri=resolved.base_model_uri,
            digest=resolved.base_model_digest,
            path=names.BASE_MODEL_PATH,
        )
    repository = version_repository(
        settings.registry.prefix, job.metadata.namespace, spec.output.model
    )
    return TrainingRun(
        owner=_owner(job),
        model=spec.output.model,
        objective=spec.objective,
        method=spec.method,
        hyperparameters=spec.hyperparameters,
        early_stopping=spec.early_stopping,
        base=base,
        scratch=spec.base_model.scratch,
        data=Stored(uri=resolved.dataset_uri or "", digest=resolved.dataset_digest or ""),
        gpus=spec.resources.gpus,
        output=_output(job, names.TRAIN, repository, settings),
    )


def _output(job: FineTuneJob, stage: str, repository: str, settings: Settings) -> Output:
    return Output(
        repository=repository,
        result_tag=result_tag(job.metadata.uid, stage, job.status.attempt),
        plain_http=settings.registry.plain_http,
    )


def _owner(job: FineTuneJob) -> Owner:
    meta = job.metadata
    return Owner(kind=KIND, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def _document(job: FineTuneJob, stage: str, name: str, task: ApiModel) -> Manifest:
    text = task.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    return pods.run_config_map(KIND, job, stage, name, text)


def _claim(job: FineTuneJob) -> Manifest:
    storage = job.spec.storage
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.class_name:
        spec["storageClassName"] = storage.class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": child_metadata(KIND, job, STORAGE, claim_name(job)),
        "spec": spec,
    }


def _inputs(job: FineTuneJob, *, with_base: bool) -> list[pods.Mount]:
    """Room for the data, and whatever the references name, where `prepare` looks for it."""
    mounts: list[pods.Mount] = []
    if job.spec.dataset.inline is not None:
        mounts.append(preparing.scratch_folder(job.spec.storage.size))
        mounts += preparing.inputs(job.spec.dataset.inline)
    base = job.spec.base_model
    if with_base and base.uri:
        if base.credentials:
            path = f"{names.CREDENTIALS_PATH}/base"
            mounts.append(pods.secret("base-credentials", path, base.credentials.secret_name))
        mounts += preparing.mounted([base.uri])
    # The same claim or ConfigMap may hold data and base.
    return list({m.volume["name"]: m for m in mounts}.values())
