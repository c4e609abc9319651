"""Datasets on a real API server: prepared, prepared anew, refused, and named by a job that waits."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests import builders
from tests.datasetworld import DATA, NEWER, result
from tests.operatorkit import (
    NOWHERE,
    OperatorProcess,
    Server,
    eventually,
)

from trimtab_api import names
from trimtab_api.documents import PrepareResult, RunFailure, TrainingResult
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1.modelversion import ArtifactKind

pytestmark = pytest.mark.timeout(180)

DATASET, JOB = "Dataset", "FineTuneJob"
# Nothing answers there: what the registry would say is not what these tests are about.
PREFIX = "127.0.0.1:9/trimtab"
POD = {"nodeSelector": NOWHERE}


@pytest.fixture(autouse=True)
def tidy(server: Server, operator: OperatorProcess) -> Iterator[None]:
    yield
    server.clear(JOB, DATASET, "ModelVersion")


def tickets(**changes: Any) -> builders.Manifest:
    return builders.dataset(**{"pod": POD, **changes})


def digest(server: Server) -> str | None:
    status: builders.Manifest = server.get(DATASET, "tickets").get("status", {})
    return status.get("digest")


def kubectl(server: Server, *arguments: str) -> str:
    command = ["kubectl", f"--kubeconfig={server.kubeconfig}", "-n", server.namespace, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_apply_to_ready_and_what_kubectl_shows(
    server: Server, operator: OperatorProcess
) -> None:
    server.create(tickets())
    server.pod_ends(names.PREPARE, result(DATA))
    kubectl(server, "wait", "--for=condition=Ready", "tds/tickets", "--timeout=30s")
    head, row = kubectl(server, "get", "tds").splitlines()
    assert head.split() == [
        "NAME",
        "TASK",
        "RECORDS",
        "DIGEST",
        "READY",
        "AGE",
    ]
    assert row.split()[:5] == ["tickets", "Instruction", "10", DATA, "True"]
    wide = kubectl(server, "get", "tds", "-o", "wide")
    assert "10 of 12 records are kept" in wide
    status = server.get(DATASET, "tickets")["status"]
    assert status["records"]["dropped"] == [{"step": "NearDuplicates", "count": 2}]
    assert {"Preparing", "Ready"} <= set(server.events("tickets"))


def test_a_changed_spec_is_prepared_anew_and_the_earlier_data_stays(
    server: Server, operator: OperatorProcess
) -> None:
    server.create(tickets())
    server.pod_ends(names.PREPARE, result(DATA))
    eventually(lambda: server.is_true(DATASET, "tickets", "Ready"))
    server.change(DATASET, "tickets", {"spec": {"split": {"seed": 9}}})
    assert "generation 1" in server.says(DATASET, "tickets", "Ready", "Preparing")
    assert digest(server) == DATA
    eventually(lambda: len(server.jobs(names.PREPARE)) == 1, what="the earlier Job is left behind")
    eventually(
        lambda: [p for p in server.pods(names.PREPARE) if p.status.phase == "Pending"],
        what="it was not prepared anew",
    )
    server.pod_ends(names.PREPARE, result(NEWER))
    eventually(lambda: digest(server) == NEWER)
    assert server.is_true(DATASET, "tickets", "Ready")


def test_a_failure_is_final_until_somebody_asks_again(
    server: Server, operator: OperatorProcess
) -> None:
    server.create(tickets())
    told = PrepareResult(failure=RunFailure(reason="ColumnMissing", message="no column prompt"))
    server.pod_ends(names.PREPARE, told, code=names.EXIT_USER_ERROR)
    assert server.says(DATASET, "tickets", "Ready", "ColumnMissing") == "no column prompt"
    first = server.jobs(names.PREPARE)[0].metadata.name
    request = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    server.change(DATASET, "tickets", request)
    eventually(lambda: [j.metadata.name for j in server.jobs(names.PREPARE)] not in ([first], []))
    server.pod_ends(names.PREPARE, result(DATA))
    eventually(lambda: server.is_true(DATASET, "tickets", "Ready"))


def test_a_kill_at_any_moment_loses_nothing(server: Server, operator: OperatorProcess) -> None:
    server.create(tickets())
    eventually(lambda: server.jobs(names.PREPARE))
    operator.kill()
    server.pod_ends(names.PREPARE, result(DATA))
    operator.start()
    eventually(lambda: server.is_true(DATASET, "tickets", "Ready"))
    assert len(server.jobs(names.PREPARE)) == 1


def test_the_pod_gets_its_volume_and_the_volume_goes_with_it(
    server: Server, operator: OperatorProcess
) -> None:
    server.create(tickets(storage={"size": "1Gi"}))

    def claims() -> list[Any]:
        found = server.core.list_namespaced_persistent_volume_claim(server.namespace)
        return list(found.items)

    (claim,) = eventually(claims, what="no claim was made")
    assert claim.spec.resources.requests == {"storage": "1Gi"}
    server.delete(DATASET, "tickets")
    eventually(lambda: not claims(), what="the claim is left behind")


def test_a_job_waits_for_its_dataset_and_says_where_its_version_is_from(
    server: Server, operator: OperatorProcess
) -> None:
    job = builders.pretraining_job("tune", dataset={"name": "tickets"}, pod=POD)
    server.create(job)
    assert "does not exist" in server.says(JOB, "tune", "Started", "DatasetNotReady")
    server.create(tickets(task="Text"))
    server.pod_ends(names.PREPARE, result(DATA))
    eventually(lambda: server.pods(names.TRAIN), what="the job was not woken")
    assert [j.metadata.labels.get(names.LABEL_JOB) for j in server.jobs(names.PREPARE)] == [None]
    server.delete(DATASET, "tickets")
    made = "sha256:" + "e" * 64
    artifact = TrainedArtifact(
        uri=f"oci://{PREFIX}/tiny-base@{made}", digest=made, kind=ArtifactKind.FULL
    )
    server.pod_ends(names.TRAIN, TrainingResult(artifact=artifact))
    eventually(lambda: server.is_true(JOB, "tune", "Complete"))
    found = kubectl(
        server,
        *("get", "mv", "-o", "jsonpath={.items[*].spec.lineage.dataset}", "-l"),
        f"{names.LABEL_DATASET}=tickets,{names.LABEL_DATASET_DIGEST}={'d' * 12},"
        f"{names.LABEL_MODEL}=tiny-base",
    )
    assert f'"digest":"{DATA}"' in found
    assert '"name":"tickets"' in found


def test_data_of_another_task_fails_the_job_with_the_remedy(
    server: Server, operator: OperatorProcess
) -> None:
    server.create(tickets())
    server.pod_ends(names.PREPARE, result(DATA))
    eventually(lambda: server.is_true(DATASET, "tickets", "Ready"))
    server.create(builders.pretraining_job("tune", dataset={"name": "tickets"}, pod=POD))
    assert "needs Text" in server.says(JOB, "tune", "Failed", "DatasetUnsuitable")
