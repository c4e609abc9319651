"""The objects of FineTuneJobs, in full."""

from typing import Any

import pytest
from tests import builders
from tests.fakes import settings
from tests.goldenfiles import check

from trimtab_api import names
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.finetunejob import ResolvedInputs
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.finetunejob.children import preparation, training
from trimtab_operator.domain.finetunejob.version import model_version
from trimtab_operator.settings import RegistrySettings

RESOLVED = ResolvedInputs(
    base_model_uri=f"oci://{builders.REGISTRY}/base/tiny@{builders.BASE_DIGEST}",
    base_model_digest=builders.BASE_DIGEST,
    dataset_uri=f"oci://{builders.REGISTRY}/team/data@{builders.OTHER_DIGEST}",
    dataset_digest=builders.OTHER_DIGEST,
    image="trimtab/pipelines@sha256:" + "1" * 64,
)
FROM_OUTSIDE: dict[str, Any] = {
    "baseModel": {
        "uri": "hf://Org/Model",
        "revision": builders.COMMIT,
        "credentials": {"secretName": "hub"},
    },
    "dataset": builders.inline_dataset(
        sources=[
            {"uri": "s3://bucket/*.jsonl", "credentials": {"secretName": "s3"}},
            {"uri": "pvc://corpus/a/b.csv"},
            {"uri": "configmap://pairs/train.jsonl"},
        ]
    ),
    "resources": {"gpus": 1, "cpu": "4", "memory": "32Gi"},
    "storage": {"size": "50Gi", "className": "fast"},
    "pod": {
        "nodeSelector": {"gpu": "h200"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "batch",
        "imagePullSecrets": [{"name": "pull"}],
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    },
    "activeDeadlineSeconds": 86400,
}

NAMED: dict[str, Any] = {
    "baseModel": {"uri": "hf://Org/Model", "revision": builders.COMMIT},
    "dataset": {"name": "tickets"},
}


def job(manifest: builders.Manifest, *, resolved: bool) -> FineTuneJob:
    labels = {names.LABEL_KUEUE_QUEUE: "gpus"}
    uid = "0b7f1c1e-0000-4000-8000-000000000001"
    parsed = FineTuneJob.model_validate(builders.with_metadata(manifest, uid=uid, labels=labels))
    status = parsed.status.model_copy(update={"resolved": RESOLVED if resolved else None})
    return parsed.model_copy(update={"status": status})


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("plain", builders.fine_tune_job(namespace="team")),
        ("from-outside", builders.fine_tune_job(namespace="team", **FROM_OUTSIDE)),
        ("pretraining", builders.pretraining_job(namespace="team")),
        ("named", builders.fine_tune_job(namespace="team", **NAMED)),
    ],
)
def test_children(name: str, manifest: builders.Manifest) -> None:
    configured = settings(
        registry=RegistrySettings(prefix=builders.REGISTRY, credentials_secret="registry")
    )
    outside = manifest["spec"]["baseModel"].get("uri", "").startswith("hf://")
    built = preparation(job(manifest, resolved=False), configured, with_base=outside)
    built += training(_trained_from(manifest), configured)
    check(f"finetunejob-{name}", built)


def _trained_from(manifest: builders.Manifest) -> FineTuneJob:
    found = job(manifest, resolved=True)
    if found.spec.base_model.scratch is None:
        return found
    scratch = RESOLVED.model_copy(update={"base_model_uri": None, "base_model_digest": None})
    return found.model_copy(
        update={"status": found.status.model_copy(update={"resolved": scratch})}
    )


def test_version() -> None:
    made = TrainedArtifact(
        uri=f"oci://{builders.REGISTRY}/team/support-bot@{builders.DIGEST}",
        digest=builders.DIGEST,
        kind=ArtifactKind.ADAPTER,
        rank=16,
    )
    changes: dict[str, Any] = {**FROM_OUTSIDE}
    changes["evaluation"] = {
        "gates": [
            {"metric": "RougeL", "atLeast": 0.3},
            {"metric": "Perplexity", "notWorseThan": "Champion", "margin": 0.05},
        ],
        "maxExamples": 800,
        "suites": [{"name": "Forgetting"}, {"name": "Safety", "uri": RESOLVED.dataset_uri}],
    }
    signing = {"certificate": {"secretName": "release"}}
    changes["output"] = {"model": "support-bot", "signing": signing}
    source = job(builders.fine_tune_job(namespace="team", **changes), resolved=True)
    check("finetunejob-version", [model_version(source, made)])
