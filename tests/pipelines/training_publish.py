"""The finished artifact reaches the registry by digest, once, and waits for it on the volume."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.tinyruns import BASE_DIGEST, digest_of, training_run

from trimtab_api import names
from trimtab_api.documents import ProgressReport, TrainingResult, TrainingRun
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import RegistryUnreachable
from trimtab_pipelines.__main__ import main
from trimtab_pipelines.registry import again_while_unreachable
from trimtab_pipelines.training import output
from trimtab_pipelines.training.publish import CARD_TYPE, publish


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMTAB_ROOT", str(tmp_path))
    monkeypatch.setenv("TRIMTAB_TRAINER_PORT", "0")
    return tmp_path


def finished(root: Path, run: TrainingRun) -> output.Summary:
    """What the volume holds after a training."""
    summary = output.Summary(
        identity=output.identity(run),
        kind=ArtifactKind.ADAPTER,
        rank=4,
        progress=ProgressReport(percent=100, step=9, steps=9),
        train_loss=1.5,
        tokens=1000,
        cut=3,
        dropped=1,
    )
    target = root / "volume" / "output"
    part = output.fresh_directory(target)
    folder = output.artifact_directory(part)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")
    output.complete(part, target, summary)
    return summary


def run_on(root: Path, registry: FakeRegistry, name: str = "tiny") -> TrainingRun:
    return training_run(root, base=root, repository=f"{registry.address}/team/{name}")


def told(root: Path) -> TrainingResult:
    message = root / names.TERMINATION_MESSAGE_PATH.lstrip("/")
    assert len(message.read_bytes()) <= names.TERMINATION_MESSAGE_BYTES
    return TrainingResult.model_validate_json(message.read_bytes())


def test_what_is_on_the_volume_is_published_without_training(
    root: Path, registry: FakeRegistry
) -> None:
    finished(root, run_on(root, registry))  # there are no data and no base to train with
    assert main(["train"]) == 0
    made = told(root)
    assert made.artifact is not None
    digest = made.artifact.digest
    assert made.artifact.uri == f"oci://{registry.address}/team/tiny@{digest}"
    assert (made.artifact.kind, made.artifact.rank) == (ArtifactKind.ADAPTER, 4)
    assert (made.cut, made.dropped) == (3, 1)
    manifest = json.loads(registry.manifests[digest][1])
    assert manifest["annotations"] == {
        "dev.trimtab.kind": "Adapter",
        "dev.trimtab.base": BASE_DIGEST,
        "dev.trimtab.rank": "4",
    }
    result = json.loads(registry.manifests["run-1"][1])
    stored = registry.blobs[result["layers"][0]["digest"]]
    assert TrainingResult.model_validate_json(stored) == made


def test_the_card_is_attached_and_changes_no_digest(root: Path, registry: FakeRegistry) -> None:
    run = run_on(root, registry)
    summary = finished(root, run)
    first = publish(run, summary, root / "volume" / "output")
    before = set(registry.manifests)
    slower = summary.model_copy(update={"seconds": 99.0})
    second = publish(run, slower, root / "volume" / "output")
    assert first.artifact == second.artifact
    assert set(registry.manifests) == before  # the same artifact, the same card
    cards = [json.loads(raw) for _, raw in registry.manifests.values() if CARD_TYPE.encode() in raw]
    assert first.artifact is not None
    assert cards[0]["subject"]["digest"] == first.artifact.digest
    text, drawn = (registry.blobs[part["digest"]].decode() for part in cards[0]["layers"])
    names = [p["annotations"]["org.opencontainers.image.title"] for p in cards[0]["layers"]]
    assert names == ["README.md", "lineage.svg"]
    assert "](lineage.svg)" in text
    for digest in (BASE_DIGEST, run.data.digest, first.artifact.digest):
        assert digest in drawn
    assert BASE_DIGEST in text
    assert "| Training loss | 1.5000 |" in text


def test_a_registry_that_is_away_for_good_leaves_everything_on_the_volume(root: Path) -> None:
    run = training_run(root, base=root)  # its registry's port is closed
    summary = finished(root, run)
    files = output.artifact_directory(root / "volume" / "output")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(RegistryUnreachable):
        publish(run, summary, root / "volume" / "output", patience_seconds=0)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before
    assert output.finished(root / "volume" / "output", run) == summary


async def test_patience_outlasts_a_registry_that_restarts() -> None:
    tries: list[int] = []

    async def attempt() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise RegistryUnreachable("away")
        return "done"

    assert await again_while_unreachable(attempt, 30, first_pause_seconds=0.001) == "done"
    assert len(tries) == 3


def test_the_output_of_another_run_is_not_published(root: Path, registry: FakeRegistry) -> None:
    finished(root, run_on(root, registry))
    other = training_run(root, base=root, hyperparameters={"seed": 77})
    assert output.finished(root / "volume" / "output", other) is None


def test_who_asks_and_where_it_goes_does_not_decide_what_is_made(tmp_path: Path) -> None:
    run = training_run(tmp_path, base=tmp_path)
    elsewhere = training_run(tmp_path, base=tmp_path, repository="other:5000/x", model="named")
    assert output.identity(run) == output.identity(elsewhere)
    other_data = {"uri": run.data.uri, "digest": digest_of("else")}
    changed = training_run(tmp_path, base=tmp_path, data=other_data)
    assert output.identity(run) != output.identity(changed)
