"""The objects of the bench: a service with one model in rollouts, its versions, and its pods.

There is no kubelet and no controller, so the pods are made here, and their status says where the
bench's own programs listen.
"""

import json
from pathlib import Path
from typing import Any, Final

from trimtab_api import names
from trimtab_api.documents import EvaluationReport
from trimtab_api.fingerprint import Fingerprint, FingerprintSequence
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import Reference, RegistryClient
from trimtab_operator.domain.inferenceservice import children

NAMESPACE: Final = "bench"
SYSTEM_NAMESPACE: Final = "bench-system"
SERVICE: Final = "chat"
REPORT_TYPE: Final = "application/vnd.trimtab.evaluation-report.v1+json"
Manifest = dict[str, Any]

SPEC: Final[Manifest] = {
    "replicas": 1,
    "engine": {"gpus": 0, "memory": "1Gi", "adapters": {"maxRank": 16, "slots": 4, "resident": 64}},
    "gateway": {"replicas": 3},
    "models": [
        {
            "name": "bot",
            "version": {"latestOf": "bot"},
            "rollout": {
                "steps": [{"weight": 50}],
                "analysis": {"metrics": ["ErrorRate", "EmptyAnswers"]},
            },
        }
    ],
}


def service(base: Reference) -> Manifest:
    """The service."""
    spec = {**SPEC, "baseModel": {"name": "tiny", "uri": str(base)}}
    return _ours("InferenceService", SERVICE, spec)


def version(name: str, base: Reference, adapter: Reference, report: Reference) -> Manifest:
    """A version of `bot` that was evaluated elsewhere."""
    spec = {
        "model": "bot",
        "artifact": {"uri": str(adapter), "kind": "Adapter", "rank": 8},
        "baseModel": {"uri": str(base)},
        "evaluation": {"report": str(report)},
    }
    return _ours("ModelVersion", name, spec)


def pod(component: str, name: str, owner: Manifest) -> Manifest:
    """A pod of a Deployment of the service, as far as the operator looks at it."""
    service = InferenceService.model_validate(owner)
    template = children.pod_metadata(service, component, names.PORT_GATEWAY_ADMIN)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template, "name": name, "namespace": NAMESPACE},
        "spec": {"containers": [{"name": component, "image": "image:1"}]},
    }


def running_at(address: str) -> Manifest:
    """The status of a pod that is ready at this address."""
    moment = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": moment}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    told = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    return {"status": {**told, "conditions": conditions}}


async def pushed_base(registry: RegistryClient, prefix: str, folder: Path) -> Reference:
    """A base of one file: nobody runs it."""
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    return await registry.push_directory(
        folder / "base", f"{prefix}/base", kind="Full", annotations={}
    )


async def pushed_adapter(
    registry: RegistryClient, prefix: str, folder: Path, name: str, base: Reference
) -> tuple[Reference, Reference]:
    """An adapter unlike all others, and the report about it."""
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text(json.dumps({"r": 8, "of": name}))
    annotations = {"dev.trimtab.base": base.digest or "", "dev.trimtab.rank": "8"}
    adapter = await registry.push_directory(
        folder / name, f"{prefix}/bot", kind="Adapter", annotations=annotations
    )
    sequence = FingerprintSequence(tokens=[1, 2], logprobs=[-1.0], base_logprobs=[-2.0])
    report = EvaluationReport(
        artifact_digest=adapter.digest or "",
        kind=ArtifactKind.ADAPTER,
        rank=8,
        base_digest=base.digest,
        fingerprint=Fingerprint(dtype="float32", tolerance=0.01, sequences=[sequence]),
    )
    document = await registry.push_document(
        f"{prefix}/bot",
        json.dumps(report.to_wire()).encode(),
        artifact_type=REPORT_TYPE,
        subject=adapter,
    )
    return adapter, document


def _ours(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
