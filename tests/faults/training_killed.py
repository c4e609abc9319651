"""Real training processes, killed and stopped in the middle, end with what an undisturbed one makes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.registries import free_port
from tests.tinyruns import pairs, texts, training_run, write_data

from trimtab_api import names
from trimtab_api.documents import TrainingResult, TrainingRun

pytestmark = pytest.mark.timeout(600)

SETTINGS = {"epochs": 150, "batchSize": 2, "packing": True}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


def prepared(root: Path, repository: str) -> TrainingRun:
    write_data(root, [*texts(40), *({"text": p["prompt"]} for p in pairs(10))], texts(44)[40:])
    return training_run(root, repository=repository, hyperparameters=SETTINGS)


def started(root: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "TRIMTAB_ROOT": str(root),
        "TRIMTAB_TRAINER_PORT": str(free_port()),
        "TRIMTAB_CHECKPOINT_SECONDS": "0.05",
        "TRIMTAB_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "trimtab_pipelines", "train"]
    with (root / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


def last_step(root: Path) -> int:
    found = sorted((root / "volume" / "checkpoints").glob("step-*"))
    whole = [path for path in found if path.suffix != ".part"]
    return int(whole[-1].name.removeprefix("step-")) if whole else 0


def struck(root: Path, after: int, blow: signal.Signals) -> int:
    """Run until some steps are on the volume, strike, and give the exit code."""
    process = started(root)
    deadline = time.monotonic() + 120
    while last_step(root) <= after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, (root / "log").read_text()
    process.send_signal(blow)
    return process.wait(60)


def told(root: Path) -> TrainingResult:
    message = root / names.TERMINATION_MESSAGE_PATH.lstrip("/")
    return TrainingResult.model_validate_json(message.read_bytes())


def test_killed_and_stopped_and_moved_it_ends_with_the_same_digest(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    repository = f"{registry.address}/team/tiny"
    prepared(tmp_path / "calm", repository)
    assert started(tmp_path / "calm").wait(240) == 0, (tmp_path / "calm" / "log").read_text()
    calm = told(tmp_path / "calm")
    assert calm.artifact is not None

    here = tmp_path / "here"
    prepared(here, repository)
    assert struck(here, 0, signal.SIGKILL) == -signal.SIGKILL
    reached = last_step(here)
    assert struck(here, reached, signal.SIGTERM) == names.EXIT_INTERRUPTED
    assert last_step(here) > reached > 0
    there = tmp_path / "there"
    shutil.move(here, there)  # the volume is mounted on another node
    assert started(there).wait(240) == 0, (there / "log").read_text()
    shaken = told(there)
    assert shaken.artifact == calm.artifact
    assert (shaken.train_loss, shaken.eval_loss, shaken.tokens) == (
        calm.train_loss,
        calm.eval_loss,
        calm.tokens,
    )
    assert "going on from step" in (there / "log").read_text()
