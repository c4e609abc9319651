"""The life of an InferenceService, step by step: a world, what its pods say, and what status then tells."""

from typing import Any

from tests.fakes import FakeWorld, settle
from tests.servingbuilders import NAMESPACE, a_ready_version, a_service, digest_of

from trimtab_api.routing import AdapterState, AgentReport, ProbeAnswer, RoutingTable
from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.conditions import find
from trimtab_operator.reconcilers.inferenceservice import reconcile

KEY = (NAMESPACE, "chat")
BOT = {"bot": {"name": "bot-1"}}


def world_of(*objects: Any) -> FakeWorld:
    fake = FakeWorld()
    for each in objects:
        fake.cluster.add(each)
    return fake


def seen(fake: FakeWorld) -> InferenceService:
    service = fake.cluster.get(InferenceService, KEY)
    assert service is not None
    return service


def told(fake: FakeWorld, kind: str = "Ready") -> tuple[str, str]:
    found = find(seen(fake).status.conditions, kind)
    assert found is not None, kind
    return found.status.value, found.reason


def message(fake: FakeWorld, kind: str = "Ready") -> str:
    found = find(seen(fake).status.conditions, kind)
    assert found is not None, kind
    return found.message


def table(fake: FakeWorld) -> RoutingTable:
    data = fake.cluster.objects["ConfigMap", (NAMESPACE, "chat-routing")]["data"]
    return RoutingTable.model_validate_json(data["table.json"])


def weights(fake: FakeWorld, model: str = "bot") -> dict[str, int]:
    routed = next(m for m in table(fake).models if m.name == model)
    return {v.version: v.weight for v in routed.versions}


# --- the rest of the cluster, as far as a service needs it ---------------------------------------


def ready_pod(deployment: dict[str, Any], number: int, ip: str, **status: Any) -> dict[str, Any]:
    name = deployment["metadata"]["name"]
    return {
        "kind": "Pod",
        "metadata": {
            **deployment["spec"]["template"]["metadata"],
            "name": f"{name}-{number}",
            "namespace": NAMESPACE,
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


def run(fake: FakeWorld, name: str, ips: list[str]) -> None:
    """The Deployment's pods are all there."""
    deployment = fake.cluster.objects["Deployment", (NAMESPACE, name)]
    for number, ip in enumerate(ips):
        fake.cluster.add(ready_pod(deployment, number, ip))
    count = len(ips)
    fake.cluster.edit(
        "Deployment",
        (NAMESPACE, name),
        {
            "status": {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": count,
                "updatedReplicas": count,
                "readyReplicas": count,
            }
        },
    )


def starting(fake: FakeWorld, deployment: str, **status: Any) -> None:
    made = fake.cluster.objects["Deployment", (NAMESPACE, deployment)]
    fake.cluster.add(
        ready_pod(
            made,
            0,
            "",
            **{"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], **status},
        )
    )


def loaded(fake: FakeWorld, *versions: str, ip: str = "10.0.0.1", **states: str) -> None:
    """The agent at this address says what it has."""
    fake.agents.reports[f"{ip}:8000"] = AgentReport(
        sequence=1,
        knows_pools=True,
        engine_ready=True,
        adapters=[
            *(AdapterState(version=v, digest=digest_of(v), state="Loaded") for v in versions),
            *(
                AdapterState(
                    version=v.replace("_", "-"),
                    digest=digest_of(v.replace("_", "-")),
                    state="Failed",
                    reason=reason,
                    message="because",
                )
                for v, reason in states.items()
            ),
        ],
    )


def joins(fake: FakeWorld, ip: str) -> None:
    """The agent at this address says that its engine has all that it needs."""
    report = fake.agents.reports[f"{ip}:8000"]
    assert report is not None
    fake.agents.reports[f"{ip}:8000"] = report.model_copy(update={"joins": True})


def answers(fake: FakeWorld, **models: str) -> None:
    """The gateway answers these names by these versions, and the base by its own."""
    fake.pods.gateways["10.0.0.9"] = {
        name: ProbeAnswer(model=name, version=version, ok=True)
        for name, version in {"tiny": "tiny", **models}.items()
    }


async def serving(*objects: Any, models: dict[str, Any] | None = None) -> FakeWorld:
    """A service whose engine and gateway run and whose model bot answers by bot-1."""
    fake = world_of(a_service(models=models or BOT), a_ready_version("bot-1"), *objects)
    await settle(reconcile, KEY, fake)
    run(fake, "chat-engine", ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake, "bot-1")
    answers(fake, bot="bot-1")
    await settle(reconcile, KEY, fake)
    return fake
