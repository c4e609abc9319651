"""The Jobs of ModelVersions that evaluate and sign, as reviewed."""

from typing import Any

import pytest
from tests.fakes import START, settings
from tests.goldenfiles import check
from tests.servingbuilders import CREATED, a_ready_version, a_version, ready_status, uri_of

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.modelversion.judging import Observed
from trimtab_operator.domain.modelversion.plan import plan
from trimtab_operator.settings import RegistrySettings, Retention

ON_A_GPU = {
    "resources": {"gpus": 1, "cpu": "4", "memory": "32Gi"},
    "pod": {
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
    },
}


def signing(version: ModelVersion, **means: Any) -> ModelVersion:
    """An evaluated version whose signature is due."""
    wire = version.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["spec"]["signing"] = means
    return ModelVersion.model_validate(wire)


CASES: list[tuple[str, ModelVersion]] = [
    (
        "modelversion-adapter",
        a_version(
            evaluation={"dataset": {"uri": uri_of("data")}},
            labels={"kueue.x-k8s.io/queue-name": "cpus"},
        ),
    ),
    (
        "modelversion-sign-key",
        signing(a_ready_version(), key={"secretName": "release"}),
    ),
    (
        "modelversion-sign-sigstore",
        signing(a_ready_version(), sigstore={"trust": {"name": "signers"}}),
    ),
    (
        "modelversion-sign-existing",
        signing(
            a_ready_version("base-1", model="base", kind="Full"),
            existing={"trust": {"name": "signers"}},
        ),
    ),
    ("modelversion-full", a_version("base-1", model="base", kind="Full", evaluation=ON_A_GPU)),
]


RETIRED = {
    "action": "Retire",
    "decision": "old",
    "uid": "uid-old",
    "by": "bob",
    "reason": "old",
    "time": CREATED,
}
CHART = settings(
    registry=RegistrySettings(
        prefix="registry.internal:5000/trimtab", plain_http=True, credentials_secret="registry"
    ),
    retention=Retention(delete_retired_after_seconds=60),
)


@pytest.mark.parametrize(("name", "version"), CASES, ids=[c[0] for c in CASES])
def test_jobs(name: str, version: ModelVersion) -> None:
    check(name, plan(Observed(version), CHART, START).create)


def test_deletion() -> None:
    version = a_ready_version(status=ready_status(decisions=[RETIRED]), evaluation=ON_A_GPU)
    check("modelversion-deletion", plan(Observed(version), CHART, START).create)
