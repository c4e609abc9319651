"""The children of InferenceServices, as reviewed."""

from typing import Any

import pytest
from tests.fakes import START, settings
from tests.goldenfiles import check
from tests.servingbuilders import a_service, uri_of

from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.inferenceservice.observed import Observed
from trimtab_operator.domain.inferenceservice.plan import plan
from trimtab_operator.settings import (
    EngineSettings,
    Exposure,
    ExposureKind,
    NetworkSettings,
    RegistrySettings,
    Settings,
)

MODELS = {"bot": {"name": "bot-1"}}


def production(kind: ExposureKind, **exposure: Any) -> Settings:
    """Settings of a cluster with GPUs, TLS and credentials."""
    return settings(
        registry=RegistrySettings(prefix="registry.example.com/ai", credentials_secret="registry"),
        engine=EngineSettings(
            extra_arguments=["--gpu-memory-utilization=0.92"], environment={"NCCL_DEBUG": "WARN"}
        ),
        exposure=Exposure(kind=kind, host="{name}.{namespace}.example.com", **exposure),
        network=NetworkSettings(
            operator_namespace="trimtab-system", prometheus_namespace="monitoring"
        ),
        pod_security_context={"runAsUser": 1001, "fsGroup": 0},
    )


CASES: list[tuple[str, InferenceService, Settings]] = [
    ("inferenceservice-cpu", a_service(models=MODELS), settings()),
    (
        "inferenceservice-gpu-ingress",
        a_service(
            name="support.prod",
            models=MODELS,
            replicas=3,
            engine={
                "gpus": 2,
                "tensorParallel": 2,
                "maxModelLength": 8192,
                "dtype": "BFloat16",
                "memory": "64Gi",
                "cpu": "8",
                "adapters": {"maxRank": 48, "slots": 8, "resident": 4},
            },
            gateway={
                "replicas": 2,
                "apiKeys": {"secretName": "keys"},
                "feedback": {"secret": {"secretName": "ids"}, "withinSeconds": 86_400},
                "capture": {"percent": 25},
                "abuse": {"requestsPerMinute": 600, "onAbuse": "Throttle"},
            },
            pod={
                "nodeSelector": {"gpu": "h100"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "imagePullSecrets": [{"name": "pull"}],
                "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            },
        ),
        production(ExposureKind.INGRESS, tls_secret="wildcard", class_name="nginx"),
    ),
]


@pytest.mark.parametrize(("name", "service", "chart"), CASES, ids=[c[0] for c in CASES])
def test_children(name: str, service: InferenceService, chart: Settings) -> None:
    check(name, plan(Observed(service), chart, START).apply)


@pytest.mark.parametrize(
    ("name", "chart"),
    [
        (
            "inferenceservice-httproute",
            production(ExposureKind.HTTP_ROUTE, parent_ref="gateways/public"),
        ),
        ("inferenceservice-route", production(ExposureKind.ROUTE)),
    ],
)
def test_exposure(name: str, chart: Settings) -> None:
    check(name, plan(Observed(a_service()), chart, START).apply[-1:])


def test_preparation_of_a_base() -> None:
    base = {
        "name": "llama",
        "uri": "hf://Org/Llama-7B",
        "revision": "0123abc",
        "credentials": {"secretName": "hub"},
    }
    made = plan(Observed(a_service(base=base)), settings(), START).base.create
    check("inferenceservice-prepare", made)


def test_the_same_inputs_give_the_same_manifests() -> None:
    service = a_service(models=MODELS, base={"name": "tiny", "uri": uri_of("base")})
    first = plan(Observed(service), settings(), START)
    assert plan(Observed(service), settings(), START) == first
