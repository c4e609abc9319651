"""A base for which there is no room beside the present one: it takes the room, is guarded there, and gives it back."""

import json
from collections.abc import Iterator

import pytest
from examples.quickstart.kube import wait
from kubernetes.utils.quantity import parse_quantity
from tests.e2e.world import Object, World, ask, part, pods, service

NAME = "cramped"
# An engine starts in a minute where it has a core for itself.
STARTED_WITHIN = 400
DOWNTIME = {"allowDowntime": True, "schedulingDeadlineSeconds": 10, "rollbackWindowSeconds": 3600}


def spare(world: World) -> int:
    """Mebibytes of memory that no pod has asked for which stays on the node."""
    (node,) = json.loads(world.kube.kubectl("get", "nodes", "-o", "json"))["items"]
    told = world.kube.kubectl("get", "pods", "--all-namespaces", "-o", "json")
    asked = sum(
        parse_quantity(c.get("resources", {}).get("requests", {}).get("memory", 0))
        for p in json.loads(told)["items"]
        if p["status"]["phase"] in ("Pending", "Running")
        if "deletionTimestamp" not in p["metadata"]
        for c in p["spec"]["containers"]
    )
    return int(parse_quantity(node["status"]["allocatable"]["memory"]) - asked) // 2**20


@pytest.fixture
def url(world: World, base: str) -> Iterator[str]:
    """A Ready service whose engine takes most of what there is: whatever ends meanwhile, two do not fit."""
    world.apply(service(base, NAME, {}, memory=f"{spare(world) * 3 // 4}Mi"))
    world.holds("inferenceservice", NAME, "Ready", seconds=STARTED_WITHIN)
    with world.kube.forwarded(NAME, 80) as found:
        yield found
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


def change(world: World, version: str) -> None:
    base = {"name": "base", "modelVersion": {"name": version}, "rollout": DOWNTIME}
    changed = json.dumps({"spec": {"baseModel": base}})
    world.kube.kubectl("patch", "inferenceservice", NAME, "--type=merge", "-p", changed)


def abort(world: World, version: str) -> None:
    uri = world.kube.kubectl("get", "modelversion", version, "-o", "jsonpath={.spec.artifact.uri}")
    by = world.kube.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    target = {"kind": "InferenceService", "name": NAME, "model": "base"}
    world.apply(
        json.dumps(
            {
                "apiVersion": "trimtab.dev/v1alpha1",
                "kind": "Decision",
                "metadata": {"name": f"{NAME}-abort"},
                "spec": {
                    "action": "Abort",
                    "target": {**target, "digest": uri.partition("@")[2]},
                    "by": by,
                    "reason": "its answers are odd",
                },
            }
        )
    )


def comes(url: str, version: str) -> None:
    """Wait until the version answers; until then callers are told to come again."""

    def there() -> bool:
        answer = ask(url, "base")
        if answer.status_code == 503:
            assert "retry-after" in answer.headers
            return False
        answer.raise_for_status()
        return bool(answer.headers["x-trimtab-version"] == version)

    wait(there, STARTED_WITHIN, f"an answer of {version}", every=1)


def engines(world: World) -> list[Object]:
    """The engines that are there to stay."""
    found = pods(world, part(NAME, "engine"))
    return [p for p in found if "deletionTimestamp" not in p["metadata"]]


def test_what_took_the_room_of_another_base_is_guarded_and_makes_room_for_it_again(
    world: World, base: str, successor: str, url: str
) -> None:
    comes(url, base)
    change(world, successor)
    comes(url, successor)
    world.says("inferenceservice", NAME, "RolloutProgressing", "Guarding")
    world.holds("inferenceservice", NAME, "Ready")
    assert len(engines(world)) == 1
    abort(world, successor)
    world.says("inferenceservice", NAME, "EngineReady", "ReplacingEngines")
    comes(url, base)
    assert len(engines(world)) == 1
    told = world.holds("inferenceservice", NAME, "EngineReady")
    (model,) = told["status"]["models"]
    last = model["lastRollback"]
    assert (last["from"], last["to"]) == (successor, base)
    # The spec still names what was taken back.
    world.says("inferenceservice", NAME, "Ready", "VersionAborted")
