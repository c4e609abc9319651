"""The ModelVersion that comes out of a job: named by content, owned by nobody."""

from trimtab_api import names
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.evaluation import (
    EvaluationDataset,
    EvaluationResources,
    VersionEvaluation,
)
from trimtab_api.v1alpha1.finetunejob import ResolvedInputs
from trimtab_api.v1alpha1.modelversion import (
    AdapterBase,
    Artifact,
    ArtifactKind,
    Lineage,
    LineageDataset,
    ModelVersionSpec,
)
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import digest_label, label_value, version_name


def model_version(job: FineTuneJob, made: TrainedArtifact) -> Manifest:
    """The version that holds what the job has made.

    It has no owner: it outlives its job. A second job that makes the same meets the same name.
    """
    spec = ModelVersionSpec(
        model=job.spec.output.model,
        artifact=Artifact(uri=made.uri, kind=made.kind, rank=made.rank),
        base_model=_base(job) if made.kind is ArtifactKind.ADAPTER else None,
        lineage=_lineage(job),
        evaluation=_evaluation(job),
        signing=job.spec.output.signing,
    )
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": {
            "name": version_name(job.spec.output.model, made.digest),
            "namespace": job.metadata.namespace,
            "labels": {names.LABEL_MODEL: job.spec.output.model, **_origin(job), **_queue(job)},
            **_author(job),
        },
        "spec": spec.to_wire(),
    }


def _resolved(job: FineTuneJob) -> ResolvedInputs:
    return job.status.resolved or ResolvedInputs()


def _base(job: FineTuneJob) -> AdapterBase:
    source = job.spec.base_model
    if source.model_version is not None:
        return AdapterBase(model_version=source.model_version)
    origin = source.uri if source.uri != _resolved(job).base_model_uri else None
    if origin and source.revision:
        origin = f"{origin}@{source.revision}"
    return AdapterBase(uri=_resolved(job).base_model_uri, origin=origin)


def _lineage(job: FineTuneJob) -> Lineage:
    spec, resolved = job.spec, _resolved(job)
    dataset = None
    if resolved.dataset_digest:
        dataset = LineageDataset(
            name=spec.dataset.name, uri=resolved.dataset_uri, digest=resolved.dataset_digest
        )
    method = next(iter(spec.method.to_wire()), None)
    settings = {**_texts(spec.hyperparameters.to_wire()), **_texts(_method(job))}
    parent = spec.base_model.model_version
    return Lineage(
        dataset=dataset,
        image=resolved.image,
        image_digest=resolved.image_digest,
        seed=spec.hyperparameters.seed,
        objective=spec.objective,
        method=method,
        hyperparameters=settings,
        parent=parent.name if parent else None,
    )


def _method(job: FineTuneJob) -> dict[str, object]:
    chosen = job.spec.method.lora or job.spec.method.qlora
    return chosen.to_wire() if chosen else {}


def _texts(values: dict[str, object]) -> dict[str, str]:
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in values.items()
        if key != "seed"
    }


def _evaluation(job: FineTuneJob) -> VersionEvaluation:
    """Held-out data is the test split of the job's own; without one only the print is taken."""
    records, uri = job.status.records, _resolved(job).dataset_uri
    has_test = records is None or records.test > 0
    return VersionEvaluation(
        dataset=EvaluationDataset(uri=uri) if uri and has_test else None,
        gates=job.spec.evaluation.gates,
        max_examples=job.spec.evaluation.max_examples,
        active_deadline_seconds=job.spec.evaluation.active_deadline_seconds,
        suites=job.spec.evaluation.suites,
        resources=_evaluation_resources(job),
        pod=job.spec.pod,
    )


def _evaluation_resources(job: FineTuneJob) -> EvaluationResources:
    """A model that takes a GPU to be trained takes one to be judged, under the same quota."""
    return EvaluationResources.model_validate(job.spec.resources.to_wire())


def _author(job: FineTuneJob) -> Manifest:
    """Who asked for the job has made the version, too."""
    author = job.metadata.annotations.get(names.ANNOTATION_AUTHOR)
    return {"annotations": {names.ANNOTATION_AUTHOR: author}} if author else {}


def _origin(job: FineTuneJob) -> dict[str, str]:
    """What people search by; whole digests are no label values."""
    resolved = _resolved(job)
    found = {
        names.LABEL_DATASET: label_value(job.spec.dataset.name or ""),
        names.LABEL_DATASET_DIGEST: digest_label(resolved.dataset_digest or ""),
        names.LABEL_BASE_DIGEST: digest_label(resolved.base_model_digest or ""),
    }
    return {label: value for label, value in found.items() if value}


def _queue(job: FineTuneJob) -> dict[str, str]:
    queue = job.metadata.labels.get(names.LABEL_KUEUE_QUEUE)
    return {names.LABEL_KUEUE_QUEUE: queue} if queue else {}
