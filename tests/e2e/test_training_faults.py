"""What goes wrong in training: each is said in `status`, and nothing is lost or left behind."""

import json
import time

import pytest
from examples.quickstart.kube import condition, wait
from tests.e2e.world import World, adapter_job

GOOD = b'{"question": "What is one?", "answer": "One is the first number."}\n'


def many(template: str = "What is {0}?", count: int = 60) -> bytes:
    """Distinct pairs, enough for every split."""
    lines = (
        json.dumps({"question": template.format(n), "answer": f"It is the number {n}."})
        for n in range(count)
    )
    return "\n".join(lines).encode()


BAD_DATA = [
    pytest.param(b"", "DataEmpty", "", id="an empty file"),
    pytest.param(
        GOOD + b'{"question": broken\n',
        "DataMalformed",
        "line 2",
        id="a broken line, by its number",
    ),
    pytest.param(
        GOOD.replace(b"answer", b"reply") * 3,
        "ColumnMissing",
        "reply",
        id="a missing column, and those that exist",
    ),
    pytest.param(GOOD, "TooFewRecords", "", id="one row"),
    pytest.param(many().decode().encode("utf-16"), "DataEncoding", "UTF-8", id="another encoding"),
    pytest.param(GOOD * 50, "OnlyDuplicates", "", id="only duplicates"),
]


@pytest.mark.parametrize(("content", "reason", "said"), BAD_DATA)
def test_bad_data_fails_the_job_with_its_reason(
    world: World, base: str, content: bytes, reason: str, said: str
) -> None:
    name = f"bad-{reason.lower()}"
    world.apply(adapter_job(world.push(name, {"data.jsonl": content}), base, name))
    job = world.job_ends(name, 240)
    assert condition(job, "Failed")["status"] == "True"
    assert job["status"]["failure"]["reason"] == reason
    assert said in job["status"]["failure"]["message"]


def test_no_node_with_enough_gpus_is_said_while_it_waits(
    world: World, pairs: str, base: str
) -> None:
    world.apply(adapter_job(pairs, base, "greedy").replace("gpus: 0", "gpus: 8"))
    wait(
        lambda: (
            condition(world.kube.get("finetunejob", "greedy"), "Started")["reason"]
            == "Unschedulable"
        ),
        120,
        "Started=False with reason Unschedulable",
    )
    assert (
        "nvidia.com/gpu" in condition(world.kube.get("finetunejob", "greedy"), "Started")["message"]
    )
    world.kube.kubectl("delete", "finetunejob", "greedy")


def test_a_pod_out_of_memory_is_named_so(world: World, pairs: str, base: str) -> None:
    world.apply(
        adapter_job(pairs, base, "hungry", backoffLimit=0).replace("memory: 3Gi", "memory: 64Mi")
    )
    job = world.job_ends("hungry", 240)
    assert job["status"]["failure"]["reason"] == "OutOfMemory"


def test_suspended_and_resumed_it_makes_the_same_version(
    world: World, pairs: str, base: str, adapter: str
) -> None:
    name = "paused"
    world.apply(adapter_job(pairs, base, name))
    _running(world, name)
    world.kube.kubectl(
        "patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    world.holds("finetunejob", name, "Suspended")
    wait(lambda: not _pods(world, name), 90, "no pod of a suspended job")
    world.kube.kubectl(
        "patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    assert world.job_ends(name)["status"]["modelVersion"] == adapter


def test_an_operator_killed_during_training_changes_nothing(
    world: World, pairs: str, base: str, adapter: str
) -> None:
    name = "unattended"
    world.apply(adapter_job(pairs, base, name))
    _running(world, name)
    world.kube.kubectl(
        "delete",
        "pod",
        "-n",
        "trimtab-system",
        "-l",
        "app.kubernetes.io/component=operator",
        "--grace-period=0",
        "--force",
    )
    assert world.job_ends(name)["status"]["modelVersion"] == adapter


def test_a_killed_training_pod_goes_on_and_makes_the_same_version(
    world: World, pairs: str, base: str, adapter: str
) -> None:
    name = "evicted"
    world.apply(adapter_job(pairs, base, name))
    pod = _running(world, name)
    world.kube.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    assert world.job_ends(name)["status"]["modelVersion"] == adapter


def test_deleted_during_training_it_leaves_nothing_behind(
    world: World, pairs: str, base: str
) -> None:
    name = "dropped"
    world.apply(adapter_job(pairs, base, name))
    _running(world, name)
    world.kube.kubectl("delete", "finetunejob", name, "--wait")
    kinds = "jobs,pods,persistentvolumeclaims,configmaps"
    wait(
        lambda: (
            not json.loads(
                world.kube.kubectl(
                    "get", kinds, "-l", f"trimtab.dev/finetunejob={name}", "-o", "json"
                )
            )["items"]
        ),
        90,
        "every child is gone",
    )


def test_a_failed_job_is_tried_again_on_request(world: World, base: str) -> None:
    name = "second-chance"
    missing = f"oci://{world.place.registry}/e2e/later:v1"
    world.apply(adapter_job(missing, base, name, backoffLimit=0))
    assert world.job_ends(name)["status"]["failure"]["reason"] == "SourceNotFound"
    world.kube.kubectl("annotate", "finetunejob", name, "trimtab.dev/retry=once")
    wait(
        lambda: (world.kube.get("finetunejob", name) or {})["status"]["attempt"] == 1,
        60,
        "a second attempt",
    )


def _running(world: World, name: str) -> str:
    """Wait until it has made a step; the pod's name."""

    def trains() -> bool:
        progress = ((world.kube.get("finetunejob", name) or {}).get("status") or {}).get(
            "progress"
        ) or {}
        return bool(progress.get("step", 0) > 0)

    wait(trains, 180, f"the first step of {name}", every=0.3)
    time.sleep(1)
    return _pods(world, name)[-1]


def _pods(world: World, name: str) -> list[str]:
    selector = f"trimtab.dev/finetunejob={name},app.kubernetes.io/component=train"
    found = json.loads(world.kube.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [
        pod["metadata"]["name"] for pod in found if pod["status"]["phase"] in {"Pending", "Running"}
    ]
