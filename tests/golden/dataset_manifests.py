"""The objects of Datasets, in full."""

from typing import Any

import pytest
from tests import builders
from tests.fakes import settings
from tests.goldenfiles import check

from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.dataset import HeldOutData
from trimtab_operator.domain.dataset.children import preparing
from trimtab_operator.settings import RegistrySettings

HELD_OUT = HeldOutData(
    dataset="exam", uri=f"oci://{builders.REGISTRY}/team/data@{builders.OTHER_DIGEST}"
)
FULL: dict[str, Any] = {
    "sources": [
        {"uri": "s3://bucket/*.html", "format": "HTML", "credentials": {"secretName": "s3"}},
        {"uri": "pvc://corpus/a/b.txt"},
        {"uri": "configmap://pairs/train.jsonl"},
    ],
    "task": "Text",
    "documents": {"tokens": 256},
    "clean": {
        "characters": {"min": 8, "max": 20000},
        "languages": {"allow": ["en"]},
        "wordLists": [{"configMap": {"name": "words", "key": "toxic.txt"}}],
        "secrets": {},
        "pii": {"action": "Drop"},
        "deduplicate": {"method": "MinHash"},
    },
    "leakage": {"against": [{"dataset": {"name": "exam"}}]},
    "resources": {"cpu": "2", "memory": "2Gi"},
    "storage": {"size": "40Gi", "className": "fast"},
    "pod": {
        "nodeSelector": {"disk": "fast"},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    },
    "activeDeadlineSeconds": 3600,
}


SYNTHETIC: dict[str, Any] = {
    "sources": [{"uri": "pvc://corpus/*.md"}],
    "synthetic": {
        "teacher": {
            "inferenceService": {"name": "llm"},
            "model": "teacher",
            "credentials": {"secretName": "llm-key"},
        },
        "recording": f"oci://{builders.REGISTRY}/team/data@{builders.OTHER_DIGEST}",
    },
}


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("plain", builders.dataset(namespace="team")),
        ("full", builders.dataset(namespace="team", **FULL)),
        ("ray", builders.dataset(namespace="team", **FULL, engine="Ray")),
        ("synthetic", builders.dataset(namespace="team", **SYNTHETIC)),
    ],
)
def test_children(name: str, manifest: builders.Manifest) -> None:
    uid = "0b7f1c1e-0000-4000-8000-000000000002"
    dataset = Dataset.model_validate(builders.with_metadata(manifest, uid=uid, generation=3))
    configured = settings(
        registry=RegistrySettings(prefix=builders.REGISTRY, credentials_secret="registry")
    )
    held_out = [HELD_OUT] if dataset.spec.leakage else []
    check(f"dataset-{name}", preparing(dataset, held_out, configured))
