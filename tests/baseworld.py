"""A service whose base is about to change: its two sets of engines, as far as a cluster would show them."""

from datetime import timedelta
from typing import Any

from tests.fakes import FakeCluster, FakeWorld, settings, settle
from tests.servicelife import KEY, loaded, run, seen
from tests.servingbuilders import NAMESPACE, a_ready_version, a_service

from trimtab_api.routing import ProbeAnswer, RoutingTable
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.reconcilers.inferenceservice import reconcile
from trimtab_operator.settings import PrometheusSettings

OLD, NEW = "chat-engine", "chat-engine-74776f74"
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def a_full(name: str, **more: Any) -> Any:
    return a_ready_version(name, kind="Full", model="tiny", **more)


def a_based_service(version: str = "one", **more: Any) -> InferenceService:
    base = {"name": "tiny", "modelVersion": {"name": version}}
    return a_service(base=base, engine={"gpus": 1}, **more)


async def on_base_one(cluster: FakeCluster | None = None, *others: Any, **more: Any) -> FakeWorld:
    """The service answers by the full version `one`."""
    fake = FakeWorld(
        cluster=cluster or FakeCluster(),
        settings=settings(prometheus=PrometheusSettings(url="http://prometheus:9090")),
    )
    for each in (a_based_service(**more), a_full("one"), a_full("two"), *others):
        fake.cluster.add(each)
    await settle(reconcile, KEY, fake)
    run(fake, OLD, ["10.0.0.1"])
    run(fake, "chat-gateway", ["10.0.0.9"])
    loaded(fake, "one")
    answered_by(fake, "one")
    await settle(reconcile, KEY, fake)
    return fake


def ask_for(fake: FakeWorld, version: str = "two", **rollout: Any) -> None:
    """Somebody names another base, with this rollout if any."""
    base: dict[str, Any] = {"modelVersion": {"name": version}}
    if rollout:
        base["rollout"] = rollout
    fake.cluster.edit("InferenceService", KEY, {"spec": {"baseModel": base}})


def answered_by(fake: FakeWorld, version: str) -> None:
    fake.pods.gateways["10.0.0.9"] = {"tiny": ProbeAnswer(model="tiny", version=version, ok=True)}


def comes_up(fake: FakeWorld, name: str = NEW, version: str = "two", ip: str = "10.0.0.2") -> None:
    """The Deployment's engine is there, and has what it should."""
    run(fake, name, [ip])
    loaded(fake, version, ip=ip)


def finds_no_node(fake: FakeWorld, name: str = NEW, *, seconds_ago: int = 0) -> None:
    """The scheduler has no place for the Deployment's pod."""
    template = fake.cluster.objects["Deployment", (NAMESPACE, name)]["spec"]["template"]
    since = fake.clock.now() - timedelta(seconds=seconds_ago)
    told = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": NO_GPU,
        "lastTransitionTime": timestamp(since),
    }
    fake.cluster.add(
        {
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"{name}-0", "namespace": NAMESPACE},
            "status": {"phase": "Pending", "conditions": [told]},
        }
    )


def tidy_pods(fake: FakeWorld) -> None:
    """What controllers and kubelets do: pods go with their Deployment."""
    for pod in fake.cluster.of_kind("Pod"):
        name = pod["metadata"]["name"].rpartition("-")[0]
        if name not in deployments(fake):
            fake.cluster.take_away("Pod", (NAMESPACE, pod["metadata"]["name"]))


def deployments(fake: FakeWorld) -> set[str]:
    return {d["metadata"]["name"] for d in fake.cluster.of_kind("Deployment")}


def engines(fake: FakeWorld) -> set[str]:
    return deployments(fake) - {"chat-gateway"}


def tiny(fake: FakeWorld) -> ServedModelStatus:
    return next(m for m in seen(fake).status.models if m.name == "tiny")


def tables(fake: FakeWorld) -> dict[str, RoutingTable]:
    data = fake.cluster.objects["ConfigMap", (NAMESPACE, "chat-routing")]["data"]
    return {key: RoutingTable.model_validate_json(text) for key, text in data.items()}


def shares(fake: FakeWorld) -> dict[str, int]:
    """What gateways are told of the base's name."""
    found = tables(fake)
    table = found.get("gateway.json") or found["table.json"]
    return {v.version: v.weight for v in table.models[0].versions}


async def visits(fake: FakeWorld) -> None:
    await settle(reconcile, KEY, fake)


async def without_room(fake: FakeWorld, seconds: int = 600, **rollout: Any) -> None:
    ask_for(fake, **rollout)
    await visits(fake)
    finds_no_node(fake, seconds_ago=seconds)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
