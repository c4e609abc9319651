"""One FineTuneJob in a world of fakes: what its pods leave, and how to look at it."""

from typing import Any

from tests import batchjobs, builders
from tests.fakes import FakeWorld, settle

from trimtab_api.documents import PrepareResult, TrainingResult
from trimtab_api.documents.preparation import PreparedArtifact
from trimtab_api.documents.training import TrainedArtifact
from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_api.v1alpha1.common import Condition
from trimtab_api.v1alpha1.data import PreparedRecords
from trimtab_api.v1alpha1.finetunejob import Progress
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.outcome import Outcome
from trimtab_operator.reconcilers.finetunejob import reconcile

KEY = ("default", "tune")
DATA = "sha256:" + "d" * 64
MADE = "sha256:" + "e" * 64
PREPARED = PrepareResult(
    data=PreparedArtifact(
        uri=f"oci://registry.internal:5000/trimtab/default/data@{DATA}", digest=DATA
    ),
    records=PreparedRecords(read=10, kept=10, train=8, validation=1, test=1),
)
TRAINED = TrainingResult(
    artifact=TrainedArtifact(
        uri=f"oci://registry.internal:5000/trimtab/default/support-bot@{MADE}",
        digest=MADE,
        kind=ArtifactKind.ADAPTER,
        rank=16,
    ),
    progress=Progress(percent=100, step=9, steps=9),
)


def world(*jobs: builders.Manifest, **parts: Any) -> FakeWorld:
    fake = FakeWorld(**parts)
    for manifest in jobs or [builders.fine_tune_job()]:
        fake.cluster.add(manifest)
    return fake


async def visit(fake: FakeWorld, key: tuple[str, str] = KEY) -> Outcome:
    return await settle(reconcile, key, fake)


def job(fake: FakeWorld, key: tuple[str, str] = KEY) -> FineTuneJob:
    found = fake.cluster.get(FineTuneJob, key)
    assert found is not None
    return found


def said(fake: FakeWorld, kind: str) -> Condition:
    found = find(job(fake).status.conditions, kind)
    assert found is not None
    return found


async def prepared(fake: FakeWorld) -> FakeWorld:
    await visit(fake)
    batchjobs.succeeds(fake.cluster, "prepare", PREPARED)
    await visit(fake)
    return fake


async def trained(fake: FakeWorld) -> FakeWorld:
    await prepared(fake)
    batchjobs.succeeds(fake.cluster, "train", TRAINED)
    await visit(fake)
    return fake
