"""Objects that were stored under earlier CRDs, on a real API server that has the present ones since.

Every kind is there as its user and the operator of then have left it. It can be read, changed and
reported on, and an operator goes on with what was frozen in its status.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests import builders
from tests.operatorkit import NOWHERE, Server, eventually, running_operator, server_alone

from generation.manifests import KINDS, crd
from trimtab_api import names

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "127.0.0.1:9/trimtab"
JOB, VERSION, SERVICE = "FineTuneJob", "ModelVersion", "InferenceService"
Manifest = dict[str, Any]
NOW = {kind.definition.kind: crd(kind) for kind in KINDS}
THEN_IMAGE = "localhost/nowhere/then:0"


@dataclass(frozen=True)
class Then:
    """The CRDs of an earlier day, by kind; and a field of each spec that they did not know."""

    definitions: dict[str, Manifest]
    lacks: dict[str, tuple[str, ...]] = field(default_factory=dict)


def released(version: str) -> Then:
    files = sorted((ROOT / "crds" / "released" / version).glob("*.yaml"))
    found = [yaml.safe_load(path.read_text()) for path in files]
    return Then({definition["spec"]["names"]["kind"]: definition for definition in found})


def with_a_field_less() -> Then:
    lacks = {
        JOB: ("hyperparameters", "maxGradientNorm"),
        VERSION: ("evaluation", "resources", "cpu"),
        SERVICE: ("engine", "adapters", "slots"),
    }
    return Then({kind: _without(NOW[kind], path) for kind, path in lacks.items()}, lacks)


def _without(definition: Manifest, path: tuple[str, ...]) -> Manifest:
    """The CRD without a field of the spec: nor the rules beside it, nor what defaults above say of it."""
    result = deepcopy(definition)
    node = result["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    *above, name = path
    for place, step in enumerate(above):
        node = node["properties"][step]
        inner = node.get("default")
        for word in path[place + 1 : -1]:
            inner = inner.get(word) if inner else None
        if inner:
            inner.pop(name, None)
    node.pop("x-kubernetes-validations", None)
    del node["properties"][name]
    return result


EARLIER = {
    **{
        f"release {folder.name}": released(folder.name)
        for folder in sorted((ROOT / "crds" / "released").glob("*/"))
    },
    "CRDs that know a field less": with_a_field_less(),
}


def objects() -> dict[str, Manifest]:
    """One of each kind in the middle of its life, with what the operator has noted about it."""
    base = f"oci://{REGISTRY}/base/tiny@{builders.BASE_DIGEST}"
    pod = {
        "nodeSelector": NOWHERE,
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    }
    source = {"uri": "configmap://pairs/train.jsonl", "format": "JSONL"}
    job = builders.fine_tune_job(
        baseModel={"uri": base},
        dataset=builders.inline_dataset(
            sources=[source], columns={"prompt": "q", "completion": "a"}
        ),
        method={"lora": {"rank": 8, "alpha": 16, "targetModules": "Attention"}},
        hyperparameters={"epochs": 2, "learningRate": 0.001, "seed": 7},
        evaluation={"gates": [{"metric": "RougeL", "atLeast": 0.1}]},
        resources={"gpus": 0, "cpu": "500m", "memory": "1Gi"},
        storage={"size": "1Gi"},
        pod=pod,
        backoffLimit=1,
        activeDeadlineSeconds=3600,
    )
    service = builders.inference_service(
        replicas=1,
        engine={"gpus": 0, "maxModelLength": 256, "memory": "1Gi", "adapters": {"maxRank": 8}},
        gateway={"replicas": 1, "apiKeys": {"secretName": "keys"}},
        pod=pod,
    )
    version = builders.full_version(
        evaluation={"gates": [{"metric": "Perplexity", "atMost": 9}], "pod": pod},
        lineage={"image": THEN_IMAGE, "seed": 7, "hyperparameters": {"epochs": "2"}},
    )
    prepared = {
        "baseModelUri": base,
        "baseModelDigest": builders.BASE_DIGEST,
        "datasetUri": f"oci://{REGISTRY}/data@{builders.DIGEST}",
        "datasetDigest": builders.DIGEST,
        "image": THEN_IMAGE,
    }
    job["status"] = {
        "observedGeneration": 1,
        "conditions": [builders.condition("Started", reason="Pending", message="it starts")],
        "records": {"read": 9, "kept": 9, "train": 8, "test": 1},
        "resolved": prepared,
        "attempt": 0,
        "startTime": "2026-01-01T00:00:00Z",
    }
    version["status"] = {
        "observedGeneration": 1,
        "conditions": [builders.condition("ArtifactVerified"), builders.condition("Ready")],
        "producers": [{"fineTuneJob": "pretrain", "uid": "1"}],
        "sizeBytes": 42,
    }
    service["status"] = {
        "observedGeneration": 1,
        "conditions": [builders.condition("Ready", "False", "Starting", "no engine is ready")],
        "baseUri": base,
        "baseDigest": builders.BASE_DIGEST,
        "release": {"engineImage": THEN_IMAGE, "agentImage": THEN_IMAGE, "requested": "1"},
        "models": [{"name": "tiny", "activeVersion": version["metadata"]["name"]}],
        "replicas": 0,
    }
    return {JOB: job, VERSION: version, SERVICE: service}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with server_alone() as found:
        try:
            yield found
        finally:
            install(found, NOW)


def install(server: Server, definitions: dict[str, Manifest]) -> None:
    """As Helm does."""
    api = client.ApiextensionsV1Api(server.connection)
    for definition in definitions.values():
        api.patch_custom_resource_definition(
            definition["metadata"]["name"],
            definition,
            field_manager="helm",
            force=True,
            _content_type="application/apply-patch+yaml",
        )
    # The API server takes a schema over within moments and tells nobody.
    time.sleep(1)


def write_status(server: Server, kind: str, name: str, status: Manifest) -> None:
    server.objects.patch_namespaced_custom_object_status(
        names.GROUP,
        names.VERSION,
        server.namespace,
        NOW[kind]["spec"]["names"]["plural"],
        name,
        {"status": status},
        _content_type="application/merge-patch+json",
    )


def stored(server: Server) -> dict[str, Manifest]:
    """The objects as they are read now."""
    return {kind: server.get(kind, made["metadata"]["name"]) for kind, made in objects().items()}


def at(spec: Manifest, path: tuple[str, ...]) -> Any:
    for name in path:
        spec = spec.get(name) or {}
    return spec


def images(workload: Any) -> set[str]:
    pod = workload.spec.template.spec
    return {c.image for c in (*pod.containers, *(pod.init_containers or ()))}


@pytest.fixture(params=list(EARLIER.values()), ids=list(EARLIER))
def upgraded(server: Server, request: pytest.FixtureRequest) -> tuple[Then, dict[str, Manifest]]:
    """The objects as they were stored under the CRDs of then, which have been replaced since."""
    then: Then = request.param
    install(server, then.definitions)
    for kind, made in objects().items():
        server.create({word: part for word, part in made.items() if word != "status"})
        write_status(server, kind, made["metadata"]["name"], made["status"])
    before = stored(server)
    install(server, NOW)
    return then, before


def test_objects_of_an_earlier_release_are_read_changed_and_carried_on(
    server: Server, upgraded: tuple[Then, dict[str, Manifest]], tmp_path: Path
) -> None:
    then, before = upgraded
    now = stored(server)
    for kind, old in before.items():
        added = then.lacks.get(kind)
        if added:
            assert at(old["spec"], added) == {}
            assert at(now[kind]["spec"], added) == _default_of(kind, added)
            _take_out(now[kind]["spec"], added)
        assert _as_far_as(old["spec"], now[kind]["spec"]) == old["spec"], "defaults may be new"
        assert now[kind]["status"] == old["status"] == objects()[kind]["status"]
        name = old["metadata"]["name"]
        server.change(kind, name, {"metadata": {"labels": {"touched": "yes"}}})
        write_status(server, kind, name, {"observedGeneration": 2})
        changed = server.get(kind, name)
        assert changed["metadata"]["labels"] == {"touched": "yes"}
        assert changed["status"] == {**old["status"], "observedGeneration": 2}
        assert changed["metadata"]["generation"] == old["metadata"]["generation"]
    with running_operator(server, tmp_path, REGISTRY):
        _goes_on_with_what_was_frozen(server)
        server.clear(JOB, SERVICE, VERSION)


def _as_far_as(known: Any, now: Any) -> Any:
    """What is there now, without fields that were not known."""
    if isinstance(known, dict) and isinstance(now, dict):
        return {word: _as_far_as(part, now[word]) for word, part in known.items() if word in now}
    if isinstance(known, list) and isinstance(now, list) and len(known) == len(now):
        return [_as_far_as(part, other) for part, other in zip(known, now, strict=True)]
    return now


def _default_of(kind: str, path: tuple[str, ...]) -> Any:
    node = NOW[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path:
        node = node["properties"][name]
    return node["default"]


def _take_out(spec: Manifest, path: tuple[str, ...]) -> None:
    del at(spec, path[:-1])[path[-1]]


def _goes_on_with_what_was_frozen(server: Server) -> None:
    eventually(lambda: server.jobs(names.TRAIN), what="the training did not begin")
    assert [images(job) for job in server.jobs(names.TRAIN)] == [{THEN_IMAGE}]
    assert server.jobs(names.PREPARE) == []
    apps = client.AppsV1Api(server.connection)
    selector = f"{names.LABEL_COMPONENT}={names.ENGINE}"
    (engine,) = eventually(
        lambda: apps.list_namespaced_deployment(server.namespace, label_selector=selector).items,
        what="there are no engines",
    )
    assert images(engine) == {THEN_IMAGE}
    eventually(lambda: server.is_true(VERSION, "tiny-base-cccccccc", "InUse"))
    for kind, made in objects().items():
        status = server.get(kind, made["metadata"]["name"])["status"]
        for word in ("resolved", "release", "producers"):
            assert status.get(word) == made["status"].get(word)
