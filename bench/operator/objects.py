"""The objects of the bench: the FineTuneJob that is created, and the children it must get.

The job names a base and data that a pod would have to resolve. Without a kubelet no pod ever starts,
so a system is done with a job when its ConfigMap, its Job and its status are written.
"""

from typing import Any

from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_operator.domain.finetunejob import children
from trimtab_operator.settings import Settings

NAMESPACE = "bench"
SYSTEM_NAMESPACE = "bench-system"
JOBS = f"/apis/trimtab.dev/v1alpha1/namespaces/{NAMESPACE}/finetunejobs"
CANARY_JOBS = f"/apis/trimtab.dev/v1alpha1/namespaces/{SYSTEM_NAMESPACE}/finetunejobs"
BATCH_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NAMESPACES = "/api/v1/namespaces"

SETTINGS = {
    "images": {"pipelines": "pipelines:1", "serving": "serving:1", "engine": "engine:1"},
    "registry": {"prefix": "registry.example/trimtab", "credentialsSecret": "registry"},
    "leaderElection": {"enabled": True, "namespace": SYSTEM_NAMESPACE},
}
SPEC = {
    "baseModel": {"uri": "hf://organisation/model", "revision": "0123456789" * 4},
    "dataset": {
        "inline": {
            "sources": [{"uri": "configmap://tickets/train.jsonl"}],
            "task": "Instruction",
            "columns": {"prompt": "question", "completion": "answer"},
        }
    },
    "method": {"lora": {"rank": 16, "alpha": 32}},
    "hyperparameters": {"epochs": 3, "learningRate": 0.0002, "batchSize": 8, "maxLength": 1024},
    "output": {"model": "support-bot"},
    "resources": {"gpus": 1, "memory": "16Gi"},
}
Manifest = dict[str, Any]


def a_namespace(name: str) -> Manifest:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def name_of(index: int) -> str:
    """All names are equally long, so that they can be found in raw bytes."""
    return f"ftj-{index:05}"


def job(index: int, namespace: str = NAMESPACE) -> Manifest:
    """A FineTuneJob."""
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name_of(index), "namespace": namespace},
        "spec": SPEC,
    }


def foreign(kind: str, index: int) -> Manifest:
    """A Secret or a Pod of somebody else's, of an ordinary size."""
    found: Manifest = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": f"foreign-{index:05}", "namespace": NAMESPACE},
    }
    if kind == "Secret":
        return {**found, "stringData": {"content": "x" * 1000}}
    return {**found, "spec": {"containers": [{"name": "main", "image": "image:1"}]}}


def templates() -> Manifest:
    """The children that Trimtab's operator makes, with tokens for name and uid of the owner."""
    name, uid = "owner-name", "owner-uid"
    metadata = {"name": name, "namespace": NAMESPACE, "uid": uid}
    owner = FineTuneJob.model_validate({**job(0), "metadata": metadata})
    settings = Settings.model_validate(SETTINGS)
    config_map, batch_job = children.preparation(owner, settings, with_base=True)
    return {"name": name, "uid": uid, "configMap": config_map, "job": batch_job}
