"""What goes wrong in training: each is said in `status`, and nothing is lost or left behind."""

import json

import pytest
from examples.quickstart import target
from examples.quickstart.kube import condition, wait
from tests.e2e.machine import Machine
from tests.e2e.world import World, adapter_job, pods, running, service, trainers

OPERATOR = "app.kubernetes.io/component=operator"
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
    pytest.param(
        many("What is {0}" + " and what comes after it" * 40 + "?"),
        "RecordTooLong",
        "128 tokens",
        id="records longer than the context",
    ),
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


@pytest.mark.parametrize(
    ("modest", "greedy", "said"),
    [
        pytest.param("gpus: 0", "gpus: 1", "nvidia.com/gpu", id="GPUs"),
        pytest.param("memory: 3Gi", "memory: 9Ti", "memory", id="memory"),
    ],
)
def test_no_node_with_enough_is_said_while_it_waits(
    world: World, pairs: str, base: str, modest: str, greedy: str, said: str
) -> None:
    world.apply(adapter_job(pairs, base, "greedy").replace(modest, greedy))
    job = world.says("finetunejob", "greedy", "Started", "Unschedulable")
    assert f"Insufficient {said}" in condition(job, "Started")["message"]
    world.kube.kubectl("delete", "finetunejob", "greedy", "--wait")


def test_an_image_that_cannot_be_pulled_is_named_while_it_waits(
    world: World, pairs: str, base: str
) -> None:
    missing = f"{world.place.registry}/e2e/none@sha256:{'1' * 64}"
    known, unknown = f'modelVersion: {{name: "{base}"}}', f'uri: "oci://{missing}"'
    for manifest, kind, type_ in (
        (adapter_job(pairs, base, "unpullable"), "finetunejob", "Started"),
        (service(base, "unpullable", {}), "inferenceservice", "EngineReady"),
    ):
        world.apply(manifest.replace(known, unknown).replace("memory: 4Gi", "memory: 64Mi"))
        found = world.says(kind, "unpullable", type_, "ImagePullFailed")
        assert missing in condition(found, type_)["message"]
        world.kube.kubectl("delete", kind, "unpullable", "--wait=false")


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
    running(world, name)
    world.kube.kubectl(
        "patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    world.holds("finetunejob", name, "Suspended")
    wait(lambda: not _at_work(world, name), 90, "no pod of a suspended job")
    world.kube.kubectl(
        "patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    assert world.job_ends(name)["status"]["modelVersion"] == adapter


def test_deleted_during_training_it_leaves_nothing_behind(
    world: World, pairs: str, base: str
) -> None:
    name = "dropped"
    world.apply(adapter_job(pairs, base, name))
    running(world, name)
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


def test_a_registry_that_is_away_at_publish_costs_no_step_and_is_waited_for(
    world: World, machine: Machine, pairs: str, base: str, adapter: str
) -> None:
    name = "unpublished"
    world.apply(adapter_job(pairs, base, name, pod=_env(TRIMTAB_PATIENCE_SECONDS="3")))
    running(world, name)
    with machine.without("registry"):
        found = world.says("finetunejob", name, "Started", "RegistryUnreachable")
        assert "tried again" in condition(found, "Started")["message"]
        assert condition(found, "Failed")["status"] == "False"
    assert world.job_ends(name)["status"]["modelVersion"] == adapter
    last = trainers(world, name)[-1]["metadata"]["name"]
    assert len(trainers(world, name)) > 1
    assert "step" not in world.kube.kubectl("logs", last, "-c", "train")


def test_a_node_that_is_gone_takes_trainer_and_operator_along_and_all_goes_on_when_it_is_back(
    world: World, machine: Machine, pairs: str, base: str, adapter: str
) -> None:
    name = "unplugged"
    world.apply(adapter_job(pairs, base, name, pod=_env(TRIMTAB_CHECKPOINT_SECONDS="0.1")))
    pod = running(world, name)
    with machine.without("kubelet"):
        for victim in (pod, *pods(world, OPERATOR, target.RELEASE_NAMESPACE)):
            machine.kill(victim)
        # What its user does; the Job lets go of the pod when the kubelet is back and says that it has ended.
        forced = ("--grace-period=0", "--force", "--wait=false")
        world.kube.kubectl("delete", "pod", pod["metadata"]["name"], *forced)
    assert world.job_ends(name)["status"]["modelVersion"] == adapter
    (last,) = trainers(world, name)
    log = world.kube.kubectl("logs", last["metadata"]["name"], "-c", "train")
    assert "going on from step" in log


def _env(**variables: str) -> dict[str, object]:
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


def _at_work(world: World, name: str) -> bool:
    return any(p["status"]["phase"] in {"Pending", "Running"} for p in trainers(world, name))
