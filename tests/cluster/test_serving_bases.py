"""A change of the base where GPUs are short, on a real scheduler: it ends, and never waits for itself.

The node is an object of the test's own, with one GPU and nobody behind it: pods are placed and never
run, and the test ends them as a kubelet would.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.operatorkit import (
    OperatorProcess,
    Server,
    eventually,
)
from tests.servingbuilders import a_report

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_oci import RegistryClient

pytestmark = pytest.mark.timeout(180)

VERSION, SERVICE = "ModelVersion", "InferenceService"
PREFIX = "127.0.0.1:5000/{namespace}"
REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
GPU, HOST = "nvidia.com/gpu", "kubernetes.io/hostname"
ROOM = {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: "1"}


@pytest.fixture
def node(server: Server) -> Iterator[str]:
    """A node with one GPU. Nobody answers for it, so that its pods have to tolerate everything."""
    name = f"{server.namespace}-gpu"
    server.core.create_node({"metadata": {"name": name, "labels": {HOST: name}}})
    ready = {"type": "Ready", "status": "True", "reason": "Tested", "message": "one GPU"}
    status = {"capacity": ROOM, "allocatable": ROOM, "conditions": [ready]}
    server.core.patch_node_status(name, {"status": status})
    yield name
    server.delete(SERVICE, "chat")
    eventually(lambda: ended(server), seconds=60, what="pods are left behind")
    server.clear(VERSION)
    server.core.delete_node(name)


async def _push(prefix: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Two full models with their reports: address of each, by name."""
    found = {}
    async with RegistryClient(plain_http=True) as registry:
        for name in ("one", "two"):
            files = folder / name
            files.mkdir()
            (files / "config.json").write_text(f'{{"of": "{name}"}}')
            made = await registry.push_directory(
                files, f"{prefix}/tiny", kind="Full", annotations={}
            )
            report = a_report(artifactDigest=made.digest, kind="Full", rank=None, baseDigest=None)
            document = await registry.push_document(
                f"{prefix}/tiny",
                report.model_dump_json(exclude_none=True).encode(),
                artifact_type=REPORT_TYPE,
                subject=made,
            )
            found[name] = (str(made), str(document))
    return found


def a_service(node: str) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": SERVICE,
        "metadata": {"name": "chat"},
        "spec": {
            "baseModel": {"name": "tiny", "modelVersion": {"name": "one"}},
            "engine": {"gpus": 1, "memory": "1Gi", "cpu": "0.5"},
            "gateway": {"replicas": 1},
            "pod": {
                "nodeSelector": {HOST: node},
                "tolerations": [{"operator": "Exists"}],
            },
        },
    }


def ends(server: Server, pod: str) -> None:
    """What a kubelet does with a pod that was asked to go."""
    with suppress(client.ApiException):
        server.core.delete_namespaced_pod(pod, server.namespace, grace_period_seconds=0)


def ended(server: Server) -> bool:
    """Whether all pods that were asked to go are gone."""
    pods = server.core.list_namespaced_pod(server.namespace).items
    for pod in pods:
        if pod.metadata.deletion_timestamp is not None:
            ends(server, pod.metadata.name)
    return not pods


def placed(server: Server, node: str, digest: str) -> list[str]:
    """Pods that the scheduler gave this base's engines a place on the node."""
    return [
        pod.metadata.name
        for pod in server.pods(names.ENGINE)
        if pod.spec.node_name == node
        and any(v.image and digest in v.image.reference for v in pod.spec.volumes)
    ]


def test_on_a_node_with_one_gpu_a_change_of_the_base_never_waits_for_itself(
    server: Server, operator: OperatorProcess, node: str, tmp_path: Path
) -> None:
    models = asyncio.run(_push(PREFIX.format(namespace=server.namespace), tmp_path))
    for name, (uri, report) in models.items():
        spec = {
            "model": "tiny",
            "artifact": {"uri": uri, "kind": "Full"},
            "evaluation": {"report": report},
        }
        metadata = {"name": name}
        server.create(
            {"apiVersion": names.API_VERSION, "kind": VERSION, "metadata": metadata, "spec": spec}
        )
        eventually(partial(server.is_true, VERSION, name, "Ready"))
    one, two = (models[name][0].partition("@")[2] for name in ("one", "two"))
    server.create(a_service(node))
    first = eventually(lambda: placed(server, node, one))

    rollout = {"schedulingDeadlineSeconds": 10}
    base = {"modelVersion": {"name": "two"}, "rollout": rollout}
    server.change(SERVICE, "chat", {"spec": {"baseModel": base}})
    eventually(lambda: len(server.pods(names.ENGINE)) == 2)
    said = server.says(SERVICE, "chat", "AdaptersReady", "NoSpareCapacity")
    assert f"Insufficient {GPU}" in said
    eventually(lambda: [p.metadata.name for p in server.pods(names.ENGINE)] == first)
    assert status(server).models[0].active_version == "one"

    downtime = {"baseModel": {"rollout": {"allowDowntime": True}}}
    server.change(SERVICE, "chat", {"spec": downtime})
    server.says(SERVICE, "chat", "EngineReady", "ReplacingEngines")
    eventually(lambda: first[0] not in [p.metadata.name for p in server.pods(names.ENGINE)])
    ends(server, first[0])
    eventually(lambda: placed(server, node, two), what="the new engines got no GPU")
    assert [p.version for p in status(server).engine_pools] == ["two"]


def status(server: Server) -> Any:
    return InferenceService.model_validate(server.get(SERVICE, "chat")).status
