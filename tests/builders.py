"""Valid manifests with sane defaults; a test says only what it is about.

Keyword arguments replace fields of the spec (camelCase names, as in YAML); None takes a field away.
"""

from copy import deepcopy
from typing import Any

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
BASE_DIGEST = "sha256:" + "c" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REGISTRY = "registry.internal:5000/trimtab"

Manifest = dict[str, Any]


def manifest(kind: str, name: str, namespace: str, spec: Manifest, changes: Manifest) -> Manifest:
    """A custom resource whose spec has the given changes."""
    changed = {**deepcopy(spec), **deepcopy(changes)}
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in changed.items() if value is not None},
    }


def with_metadata(wanted: Manifest, **changes: Any) -> Manifest:
    """The same manifest with other metadata: labels, annotations, uid, generation."""
    return {**wanted, "metadata": {**wanted["metadata"], **changes}}


def inline_dataset(**changes: Any) -> Manifest:
    """Data in a ConfigMap; for `dataset=`."""
    inline = {
        "sources": [{"uri": "configmap://pairs/train.jsonl"}],
        "task": "Instruction",
        **changes,
    }
    return {"inline": {field: value for field, value in inline.items() if value is not None}}


def dataset(name: str = "tickets", namespace: str = "default", **changes: Any) -> Manifest:
    """Questions and answers in a ConfigMap."""
    spec = {"sources": [{"uri": "configmap://pairs/train.jsonl"}]}
    return manifest("Dataset", name, namespace, spec, changes)


def fine_tune_job(name: str = "tune", namespace: str = "default", **changes: Any) -> Manifest:
    """LoRA on the CPU over a base in the registry."""
    spec = {
        "baseModel": {"uri": f"oci://{REGISTRY}/base/tiny@{BASE_DIGEST}"},
        "dataset": inline_dataset(),
        "method": {"lora": {}},
        "output": {"model": "support-bot"},
        "resources": {"gpus": 0},
    }
    return manifest("FineTuneJob", name, namespace, spec, changes)


def pretraining_job(name: str = "pretrain", namespace: str = "default", **changes: Any) -> Manifest:
    """A new model from scratch on the CPU."""
    spec = {
        "baseModel": {
            "scratch": {
                "hiddenSize": 64,
                "layers": 2,
                "heads": 2,
                "vocabularySize": 512,
                "contextLength": 128,
            }
        },
        "dataset": inline_dataset(task="Text"),
        "objective": "Pretraining",
        "method": {"full": {}},
        "hyperparameters": {"maxLength": 128, "packing": True},
        "output": {"model": "tiny-base"},
        "resources": {"gpus": 0},
    }
    return manifest("FineTuneJob", name, namespace, spec, changes)


def model_version(
    name: str = "support-bot-aaaaaaaa", namespace: str = "default", **changes: Any
) -> Manifest:
    """An imported adapter."""
    spec = {
        "model": "support-bot",
        "artifact": {
            "uri": f"oci://{REGISTRY}/default/support-bot@{DIGEST}",
            "kind": "Adapter",
            "rank": 8,
        },
        "baseModel": {"uri": f"oci://{REGISTRY}/base/tiny@{BASE_DIGEST}"},
    }
    return manifest("ModelVersion", name, namespace, spec, changes)


def full_version(
    name: str = "tiny-base-cccccccc", namespace: str = "default", **changes: Any
) -> Manifest:
    """A whole model."""
    spec = {
        "model": "tiny-base",
        "artifact": {"uri": f"oci://{REGISTRY}/base/tiny@{BASE_DIGEST}", "kind": "Full"},
    }
    return manifest("ModelVersion", name, namespace, spec, changes)


def inference_service(name: str = "chat", namespace: str = "default", **changes: Any) -> Manifest:
    """One adapter over a base, on the CPU."""
    spec = {
        "baseModel": {"name": "tiny", "modelVersion": {"name": "tiny-base-cccccccc"}},
        "engine": {"gpus": 0},
        "models": [{"name": "support-bot", "version": {"name": "support-bot-aaaaaaaa"}}],
    }
    return manifest("InferenceService", name, namespace, spec, changes)


def decision(name: str = "approved", namespace: str = "default", **changes: Any) -> Manifest:
    """An approval of `model_version()`."""
    spec = {
        "action": "Approve",
        "target": {"kind": "ModelVersion", "name": "support-bot-aaaaaaaa", "digest": DIGEST},
        "by": "alice",
        "reason": "read 40 answers",
    }
    return manifest("Decision", name, namespace, spec, changes)


def condition(
    kind: str, status: str = "True", reason: str = "Tested", message: str = "", generation: int = 1
) -> Manifest:
    """One entry of `status.conditions`."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": generation,
    }
