"""The preparation as its pod runs it: a process of its own, with a volume, killed and measured."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.ociserver import FakeRegistry

from trimtab_api import names
from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import FailureReason

WORDS = [f"word{n}" for n in range(20_000)]


def written(path: Path, count: int, words: int = 100) -> Path:
    """Records that share nothing, and a tenth of them once more with a word changed."""
    chance = random.Random(11)  # noqa: S311 - texts, no secret
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for number in range(count):
            text = " ".join(chance.choices(WORDS, k=words))
            file.write(json.dumps({"text": text}) + "\n")
            if number % 10 == 0:
                file.write(json.dumps({"text": text + " again"}) + "\n")
    return path


class Run:
    """A pod's folder, and its command."""

    def __init__(self, root: Path, registry: FakeRegistry) -> None:
        self.root = root
        self._registry = registry
        (root / "volume").mkdir(parents=True)

    def start(self, **dataset: Any) -> "subprocess.Popen[bytes]":
        document = {
            "owner": {"kind": "Dataset", "namespace": "team", "name": "data", "uid": "1"},
            "data": {
                "dataset": {
                    "sources": [{"uri": "pvc://claim/data.jsonl"}],
                    "task": "Text",
                    "clean": {"deduplicate": {"method": "MinHash"}},
                    **dataset,
                },
                "output": {
                    "repository": f"{self._registry.address}/team/data",
                    "resultTag": "run-1",
                    "plainHttp": True,
                },
            },
        }
        place = self.root / names.RUN_DOCUMENT.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(document))
        environment = {
            **os.environ,
            "TRIMTAB_ROOT": str(self.root),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "trimtab_pipelines", "prepare"]
        with (self.root / "log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stderr=log)

    def ended(self, process: "subprocess.Popen[bytes]") -> int:
        """The exit code; what it said, where it is none that was expected."""
        code = process.wait(timeout=240)
        expected = {0, names.EXIT_USER_ERROR, names.EXIT_RETRYABLE}
        assert code in expected, (self.root / "log").read_text()[-2000:]
        return code

    def result(self) -> PrepareResult:
        message = self.root / names.TERMINATION_MESSAGE_PATH.lstrip("/")
        return PrepareResult.model_validate_json(message.read_bytes())

    def left(self) -> list[Path]:
        return list((self.root / "volume").iterdir())


def reads(run: Run, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the process is at work on its volume."""
    deadline = time.monotonic() + 120
    while not any(
        path.stat().st_size for path in (run.root / "volume").glob("data-*/spool/records")
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_preparation_that_was_killed_is_done_anew_on_the_same_volume(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    run = Run(tmp_path / "killed", registry)
    written(run.root / "claims/claim/data.jsonl", 30_000)
    process = run.start()
    reads(run, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.left()
    assert not any(b"Dataset" in raw for _, raw in registry.manifests.values())
    assert run.ended(run.start()) == 0
    assert run.left() == []
    result = run.result()
    assert result.records is not None
    dropped = {entry.step: entry.count for entry in result.records.dropped}
    assert result.records.read == 33_000
    assert dropped["NearDuplicates"] + dropped["HeldOutNeighbours"] > 2_000
    calm = Run(tmp_path / "calm", registry)
    written(calm.root / "claims/claim/data.jsonl", 30_000)
    assert calm.ended(calm.start()) == 0
    assert calm.result() == result


def test_a_preparation_that_is_stopped_leaves_nothing_on_the_volume(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    run = Run(tmp_path, registry)
    written(run.root / "claims/claim/data.jsonl", 30_000)
    process = run.start()
    reads(run, process)
    process.terminate()
    assert process.wait(timeout=60) == names.EXIT_INTERRUPTED
    assert run.left() == []


def test_a_source_that_is_still_being_written_is_tried_again(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    run = Run(tmp_path, registry)
    source = written(run.root / "claims/claim/data.jsonl", 30_000)
    process = run.start()
    reads(run, process)
    with source.open("a") as file:
        file.write('{"text": "and more"}\n')
    assert run.ended(process) == names.EXIT_RETRYABLE
    failure = run.result().failure
    assert failure is not None
    assert failure.reason == FailureReason.SOURCE_CHANGED
    assert run.ended(run.start()) == 0


def test_memory_does_not_grow_with_the_data(tmp_path: Path, registry: FakeRegistry) -> None:
    peaks = []
    for count in (2_000, 120_000):
        run = Run(tmp_path / str(count), registry)
        written(run.root / "claims/claim/data.jsonl", count)
        process = run.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss >> 10)
    small, large = peaks
    # 60 times the records, 90 MB of them: what lies in files is mapped, a part of it at a time.
    assert large < small + 120, peaks
