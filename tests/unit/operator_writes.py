"""What goes to the API server for a write, and what stays in the store of its answer."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests import builders
from tests.builders import Manifest

from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.cluster import ApiCluster
from trimtab_operator.adapters.store import Store
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterError, Conflict, NameTaken
from trimtab_operator.domain.naming import ANNOTATION_OWNER

KEY = ("default", "tune")
OWNER = {
    "apiVersion": "trimtab.dev/v1alpha1",
    "kind": "FineTuneJob",
    "name": "tune",
    "uid": "u",
    "controller": True,
}


@dataclass
class Answering(Api):
    """An API server that does what it is asked, or raises, and counts its versions."""

    version: int = 10
    asked: list[tuple[str, Manifest]] = field(default_factory=list)
    error: ClusterError | None = None

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        body = json.loads(json.dumps(request.get("body") or {}))
        self.asked.append((method, body))
        if self.error is not None:
            raise self.error
        if method == "DELETE":
            return {"kind": "Status", "status": "Success"}
        self.version += 1
        changed = {"uid": "c", **body["metadata"], "resourceVersion": str(self.version)}
        whole = a_job() if "/finetunejobs/" in path else {}
        return {**whole, **body, "metadata": {**whole.get("metadata", {}), **changed}}


@pytest.fixture
def server() -> Answering:
    return Answering()


@pytest.fixture
def cluster(server: Answering) -> ApiCluster:
    return ApiCluster(server, Store(), Telemetry(), SystemClock())


def a_job() -> Manifest:
    seen = {"uid": "u", "resourceVersion": "7", "generation": 1}
    return builders.with_metadata(builders.fine_tune_job(), **seen)


def job() -> FineTuneJob:
    return FineTuneJob.model_validate(a_job())


def a_child(**spec: Any) -> Manifest:
    """As a plan wants it."""
    annotations = {ANNOTATION_OWNER: "FineTuneJob/tune"}
    metadata = {"name": "c", "namespace": "default", "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def there(version: str = "9", owner: str = "u", **spec: Any) -> Manifest:
    """As the API server has it."""
    owners = [{**OWNER, "uid": owner}]
    seen = {"uid": "c", "resourceVersion": version, "ownerReferences": owners}
    return builders.with_metadata(a_child(**spec), **seen)


async def test_a_status_goes_against_the_version_that_was_read(
    cluster: ApiCluster, server: Answering
) -> None:
    await cluster.write_status(job(), job().status.model_copy(update={"attempt": 1}))
    ((_, body),) = server.asked
    assert body["metadata"]["resourceVersion"] == "7"


async def test_a_status_that_is_there_is_not_written(
    cluster: ApiCluster, server: Answering
) -> None:
    await cluster.write_status(job(), job().status)
    await cluster.write_finalizers(job(), [])
    assert server.asked == []


async def test_a_child_that_is_known_is_changed_as_it_was_known(
    cluster: ApiCluster, server: Answering
) -> None:
    cluster.store.put("Job", there(suspend=True))
    await cluster.apply(a_child(suspend=False), job())
    await cluster.delete(there(version="8"))
    exactly = [
        server.asked[0][1]["metadata"],
        server.asked[1][1]["preconditions"],
    ]
    assert [(e["uid"], e["resourceVersion"]) for e in exactly] == [("c", "9"), ("c", "8")]


async def test_a_child_that_is_as_wanted_is_not_applied_again(
    cluster: ApiCluster, server: Answering
) -> None:
    await cluster.apply(a_child(suspend=True), job())
    await cluster.apply(a_child(suspend=True), job())
    assert len(server.asked) == 1


async def test_a_child_belongs_to_its_owner_alone(cluster: ApiCluster, server: Answering) -> None:
    await cluster.create(a_child(), job())
    ((_, body),) = server.asked
    assert body["metadata"]["ownerReferences"] == [OWNER]


@pytest.mark.parametrize("write", ["apply", "create"])
async def test_a_namesake_of_another_owner_is_left_alone(
    write: str, cluster: ApiCluster, server: Answering
) -> None:
    cluster.store.put("Job", there(owner="somebody else"))
    with pytest.raises(NameTaken):
        await getattr(cluster, write)(a_child(), job())
    assert server.asked == []


async def test_what_was_answered_is_known_at_once(cluster: ApiCluster, server: Answering) -> None:
    await cluster.create(a_child(), job())
    await cluster.write_status(job(), job().status.model_copy(update={"attempt": 1}))
    assert [name_and_version(c) for c in cluster.children(job(), "Job")] == [("c", "11")]
    found = cluster.get(FineTuneJob, KEY)
    assert found is not None
    assert (found.status.attempt, found.metadata.resource_version) == (1, "12")


async def test_a_conflict_is_told(cluster: ApiCluster, server: Answering) -> None:
    server.error = Conflict("somebody was faster")
    with pytest.raises(Conflict):
        await cluster.write_status(job(), job().status.model_copy(update={"attempt": 1}))
    with pytest.raises(Conflict):
        await cluster.delete(there())


def name_and_version(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"]["name"], manifest["metadata"]["resourceVersion"]
