"""Versions and services on a real API server: written once, protected, said in plain words.

Engines ask for a node that does not exist and gateways for an image that does not, so that nothing
runs; how models answer is the end-to-end tests' business.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.fakes import settings
from tests.operatorkit import (
    NOWHERE,
    OperatorProcess,
    Server,
    eventually,
)
from tests.servingbuilders import a_report

from trimtab_api import names
from trimtab_api.documents import EvaluationResult
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.evaluated import Comparison, MetricValue
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_oci import RegistryClient
from trimtab_operator.domain.inferenceservice import network
from trimtab_operator.settings import Exposure, ExposureKind

pytestmark = pytest.mark.timeout(180)

VERSION, SERVICE = "ModelVersion", "InferenceService"
PREFIX = "127.0.0.1:5000/{namespace}"
REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"


@dataclass(frozen=True)
class Pushed:
    """A base and an adapter with its report, in the cluster's registry."""

    base: str
    adapter: str
    report: str


@pytest.fixture(scope="module")
def pushed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    return asyncio.run(
        _push(PREFIX.format(namespace=server.namespace), tmp_path_factory.mktemp("models"))
    )


async def _push(prefix: str, folder: Path) -> Pushed:
    async with RegistryClient(plain_http=True) as registry:
        base = await registry.push_directory(
            _files(folder / "base", "config.json"), f"{prefix}/base", kind="Full", annotations={}
        )
        adapter = await registry.push_directory(
            _files(folder / "adapter", "adapter_config.json"),
            f"{prefix}/bot",
            kind="Adapter",
            annotations={"dev.trimtab.base": base.digest or "", "dev.trimtab.rank": "8"},
        )
        report = a_report(artifactDigest=adapter.digest, baseDigest=base.digest)
        document = await registry.push_document(
            f"{prefix}/bot",
            report.model_dump_json().encode(),
            artifact_type=REPORT_TYPE,
            subject=adapter,
        )
    return Pushed(str(base), str(adapter), str(document))


def _files(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(json.dumps({"of": str(folder.name)}))
    return folder


def a_version(pushed: Pushed, name: str = "bot-1", **evaluation: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": VERSION,
        "metadata": {"name": name},
        "spec": {
            "model": "bot",
            "artifact": {"uri": pushed.adapter, "kind": "Adapter", "rank": 8},
            "baseModel": {"uri": pushed.base},
            "evaluation": {"report": pushed.report, **evaluation},
        },
    }


def a_service(pushed: Pushed, name: str = "chat") -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": SERVICE,
        "metadata": {"name": name},
        "spec": {
            "baseModel": {"name": "tiny", "uri": pushed.base},
            "engine": {"gpus": 0, "memory": "1Gi", "cpu": "0.5"},
            "gateway": {"replicas": 1, "apiKeys": {"secretName": "keys"}},
            "models": [{"name": "bot", "version": {"latestOf": "bot"}}],
            "pod": {"nodeSelector": NOWHERE},
        },
    }


@pytest.fixture(autouse=True)
def tidy(server: Server, operator: OperatorProcess) -> Iterator[None]:
    yield
    server.clear(SERVICE, VERSION)


def at_rest(operator: OperatorProcess) -> float:
    """All writes so far, once the queues are empty."""
    eventually(lambda: operator.metric("trimtab_operator_queue_depth") == 0)
    return operator.metric("trimtab_operator_writes_total")


def test_a_version_with_a_report_is_ready_without_a_pod(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    gates = [{"metric": "RougeL", "atLeast": 0.3}]
    server.create(a_version(pushed, gates=gates))
    eventually(lambda: server.is_true(VERSION, "bot-1", "Ready"), seconds=10)
    assert server.jobs(names.EVALUATE) == []
    status = server.get(VERSION, "bot-1")["status"]
    assert status["evaluation"]["gates"][0]["message"] == "RougeL 0.4 is at least 0.3"


def test_a_version_without_a_report_is_evaluated_by_a_pod(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    version = a_version(pushed)
    del version["spec"]["evaluation"]
    server.create(version)
    job = eventually(lambda: server.jobs(names.EVALUATE))[0]
    volumes = {v.name: v for v in job.spec.template.spec.volumes}
    assert volumes["base"].image.reference == pushed.base.removeprefix("oci://")
    eventually(lambda: server.pods(names.EVALUATE), what="the pod is not admitted")
    eventually(lambda: server.condition(VERSION, "bot-1", "Ready").get("status") == "Unknown")


def test_a_version_is_compared_with_the_champion_and_keeps_every_number(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    server.create(a_version(pushed, "bot-0"))
    eventually(lambda: server.is_true(VERSION, "bot-0", "Ready"), seconds=10)
    candidate = a_version(pushed)
    candidate["spec"]["evaluation"] = {
        "gates": [{"metric": "RougeL", "notWorseThan": "Champion", "margin": 0.03}],
        "suites": [{"name": "Safety"}],
    }
    server.create(candidate)
    eventually(lambda: server.pods(names.EVALUATE), what="the pod is not admitted")
    opponents = server.get(VERSION, "bot-1")["status"]["opponents"]
    assert (opponents["champion"], opponents["contenders"][0]["uri"]) == ("bot-0", pushed.adapter)
    numbers = {"difference": -0.01, "low": -0.02, "high": 0.001, "deviation": 0.2}
    compared = Comparison.model_validate(
        {"version": "bot-0", "metric": "RougeL", "confidence": 0.95, "value": 0.4, **numbers}
        | {"examples": 1000}
    )
    figures = [
        MetricValue(metric=Metric.ROUGE_L, value=0.39, low=0.37, high=0.41),
        MetricValue(metric=Metric.REFUSAL_RATE, value=1.0, low=1.0, high=1.0),
    ]
    result = EvaluationResult(examples=1000, metrics=figures, comparisons=[compared])
    server.pod_ends(names.EVALUATE, result)
    eventually(lambda: server.is_true(VERSION, "bot-1", "Ready"), what="it is not Ready")
    found = server.get(VERSION, "bot-1")["status"]["evaluation"]
    (gate,) = found["gates"]
    assert (gate["verdict"], gate["champion"], gate["examples"]) == ("Pass", "bot-0", 1000)
    assert {key: gate[key] for key in ("difference", "low", "high")} == {
        key: numbers[key] for key in ("difference", "low", "high")
    }
    assert found["best"] == [{"metric": "RougeL", "version": "bot-0"}]


def test_a_service_says_why_nothing_answers_and_writes_nothing_at_rest(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    server.create(a_version(pushed))
    server.create(a_service(pushed))
    assert "node affinity/selector" in server.says(SERVICE, "chat", "EngineReady", "Unschedulable")
    assert "Secret keys" in server.says(SERVICE, "chat", "GatewayReady", "VolumesMissing")
    before = at_rest(operator)
    server.change(SERVICE, "chat", {"metadata": {"labels": {"touched": "yes"}}})
    server.change(VERSION, "bot-1", {"metadata": {"labels": {"touched": "yes"}}})
    eventually(lambda: operator.metric("trimtab_operator_queue_depth") == 0)
    assert at_rest(operator) == before


def test_a_restarted_operator_finds_everything_as_it_should_be(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    server.create(a_version(pushed))
    server.create(a_service(pushed))
    server.says(SERVICE, "chat", "EngineReady", "Unschedulable")
    server.says(SERVICE, "chat", "GatewayReady", "VolumesMissing")
    operator.kill()
    operator.start()
    assert at_rest(operator) == 0


def test_a_service_that_is_made_anew_gets_children_of_its_own(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    apps = client.AppsV1Api(server.connection)

    def owners() -> set[str]:
        found = apps.list_namespaced_deployment(server.namespace).items
        return {owner.uid for d in found for owner in d.metadata.owner_references}

    server.create(a_service(pushed))
    eventually(lambda: len(owners()) == 1)
    server.delete(SERVICE, "chat")
    server.create(a_service(pushed))
    uid = server.get(SERVICE, "chat")["metadata"]["uid"]
    eventually(lambda: owners() == {uid}, seconds=60)
    server.says(SERVICE, "chat", "EngineReady", "Unschedulable")


def test_the_way_in_of_an_earlier_choice_of_the_chart_goes_with_the_operators_next_start(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    networking = client.NetworkingV1Api(server.connection)
    server.create(a_service(pushed))
    service = InferenceService.model_validate(server.get(SERVICE, "chat"))
    chart = settings(exposure=Exposure(kind=ExposureKind.INGRESS, host="{name}.example.com"))
    (ingress,) = network.exposure(service, chart)
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": SERVICE,
        "name": "chat",
        "uid": service.metadata.uid,
    }
    ingress["metadata"]["ownerReferences"] = [owner]
    networking.create_namespaced_ingress(server.namespace, ingress)
    stranger = {"metadata": {"name": "stranger"}, "spec": ingress["spec"]}
    networking.create_namespaced_ingress(server.namespace, stranger)
    operator.kill()
    operator.start()

    def left() -> list[str]:
        return [i.metadata.name for i in networking.list_namespaced_ingress(server.namespace).items]

    eventually(lambda: left() == ["stranger"])


def test_scale_reads_the_engines(server: Server, operator: OperatorProcess, pushed: Pushed) -> None:
    server.create(a_service(pushed))
    eventually(lambda: server.get(SERVICE, "chat").get("status", {}).get("selector"))
    place = {
        "group": names.GROUP,
        "version": names.VERSION,
        "namespace": server.namespace,
        "plural": "inferenceservices",
        "name": "chat",
    }
    server.objects.patch_namespaced_custom_object_scale(
        **place, body={"spec": {"replicas": 2}}, _content_type="application/merge-patch+json"
    )
    eventually(lambda: len(server.pods(names.ENGINE)) == 2)
    eventually(
        lambda: (
            server.objects.get_namespaced_custom_object_scale(**place)["status"]["replicas"] == 2
        )
    )


def test_a_version_in_use_is_deleted_only_when_it_is_free(
    server: Server, operator: OperatorProcess, pushed: Pushed
) -> None:
    server.create(a_version(pushed))
    service = a_service(pushed)
    service["spec"]["models"] = [{"name": "bot", "version": {"name": "bot-1"}}]
    server.create(service)
    eventually(lambda: server.is_true(VERSION, "bot-1", "InUse"))
    server.delete(VERSION, "bot-1")
    assert "chat" in server.says(VERSION, "bot-1", "InUse", "DeletionWaits")
    server.delete(SERVICE, "chat")
    eventually(lambda: not server.get(VERSION, "bot-1"))
