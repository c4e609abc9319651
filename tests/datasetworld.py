"""One Dataset in a world of fakes: what its pods leave, and how to look at it."""

from typing import Any

from tests import batchjobs, builders
from tests.fakes import FakeWorld, settle

from trimtab_api import names
from trimtab_api.documents import PrepareResult, PrepareRun
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_api.v1alpha1 import Dataset
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.data import DroppedRecords, PreparedRecords
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.reconcilers.dataset import reconcile

KEY = ("default", "tickets")
DATA = "sha256:" + "d" * 64
NEWER = "sha256:" + "5" * 64
REPORT = f"oci://{builders.REGISTRY}/default/data@sha256:" + "7" * 64


def result(digest: str = DATA, **changes: Any) -> PrepareResult:
    """What a pod says that has prepared the data."""
    uri = f"oci://{builders.REGISTRY}/default/data@{digest}"
    told: dict[str, Any] = {
        "data": PreparedArtifact(uri=uri, digest=digest),
        "report": REPORT,
        "records": PreparedRecords(
            read=12,
            kept=10,
            train=8,
            validation=1,
            test=1,
            dropped=[DroppedRecords(step="NearDuplicates", count=2)],
        ),
    }
    return PrepareResult(**(told | changes))


def world(*datasets: builders.Manifest, **parts: Any) -> FakeWorld:
    fake = FakeWorld(**parts)
    for manifest in datasets or [builders.dataset()]:
        fake.cluster.add(manifest)
    return fake


async def visit(fake: FakeWorld, key: tuple[str, str] = KEY) -> Outcome:
    return await settle(reconcile, key, fake)


def dataset(fake: FakeWorld, key: tuple[str, str] = KEY) -> Dataset:
    found = fake.cluster.get(Dataset, key)
    assert found is not None
    return found


def ready(fake: FakeWorld, key: tuple[str, str] = KEY) -> Condition:
    found = find(dataset(fake, key).status.conditions, "Ready")
    assert found is not None
    return found


def said(fake: FakeWorld, key: tuple[str, str] = KEY) -> tuple[str, str]:
    return ready(fake, key).status, ready(fake, key).reason


async def prepared(fake: FakeWorld, digest: str = DATA, **changes: Any) -> FakeWorld:
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", result(digest, **changes))
    await visit(fake)
    return fake


def task(fake: FakeWorld) -> PrepareRun:
    """What the last pod was told to do."""
    name = batchjobs.job_of(fake.cluster, "prepare")["metadata"]["name"]
    document = fake.cluster.objects["ConfigMap", ("default", name)]["data"]["run.json"]
    return PrepareRun.model_validate_json(document)


def asks_again(fake: FakeWorld, request: str, kind: str = "Dataset", key: Any = KEY) -> None:
    fake.cluster.edit(kind, key, {"metadata": {"annotations": {names.ANNOTATION_RETRY: request}}})


def changes_spec(fake: FakeWorld, **changes: Any) -> None:
    fake.cluster.edit("Dataset", KEY, {"spec": changes})
