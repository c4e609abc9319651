"""What pods say about their node, in the very form that Kubernetes writes."""

from typing import Any

import pytest

from trimtab_operator.domain.observation import lost_node


def pod(ready: dict[str, Any], containers: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", **ready}, {"type": "ContainersReady", **containers}]
    return {
        "metadata": {"name": "p", **metadata},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "conditions": conditions},
    }


YES = {"status": "True"}
# The node's controller takes the condition as it was and turns its status alone.
TAKEN_BACK = {"status": "False"}
NOT_READY = {"status": "False", "reason": "ContainersNotReady"}
GATED = {"status": "False", "reason": "ReadinessGatesNotReady"}
CASES = [
    pytest.param(pod(YES, YES), None, id="a pod that is ready"),
    pytest.param(pod(NOT_READY, NOT_READY), None, id="a pod whose containers start"),
    pytest.param(pod(GATED, YES), None, id="a pod that waits for a readiness gate"),
    pytest.param({"metadata": {"name": "p"}}, None, id="a pod that nobody has looked at"),
    pytest.param(pod(TAKEN_BACK, YES), "n1", id="a pod whose node is silent"),
    pytest.param(
        pod(TAKEN_BACK, YES, deletionTimestamp="2026-01-02T03:04:05Z"),
        "n1",
        id="one that is to go, which nobody there hears",
    ),
]


@pytest.mark.parametrize(("manifest", "node"), CASES)
def test_a_node_is_lost_when_the_cluster_alone_doubts_its_pod(
    manifest: dict[str, Any], node: str | None
) -> None:
    assert lost_node(manifest) == node
