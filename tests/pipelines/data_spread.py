"""A preparation whose work real workers of Ray do: nobody can tell it from one that this process did alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ociserver import FakeRegistry
from tests.pods import Pod, jsonl
from tests.registries import free_port

from trimtab_api.reasons import FailureReason

URI = "pvc://claim/in.jsonl"
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
]
CLEAN: dict[str, Any] = {
    "characters": {"min": 30},
    "languages": {"allow": ["en"]},
    "secrets": {"action": "Redact"},
    "pii": {"action": "Redact"},
    "deduplicate": {"method": "MinHash"},
}
GERMAN = (
    "Der Ausschuss hat am Dienstag beschlossen, dass die neue Regel vom Herbst an für alle gilt."
)
COUNT = 3000


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of two processors; sockets below a long folder could not be opened."""
    folder = tempfile.mkdtemp(prefix="ray-")
    address = f"127.0.0.1:{free_port()}"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--num-cpus=2", "--object-store-memory=200000000", "--include-dashboard=false"),
        *(f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}", "--disable-usage-stats"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as running:
        yield address
        running.terminate()
        running.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def rows() -> list[dict[str, Any]]:
    """Texts with something in many of them for each step to find."""
    chance = random.Random(5)  # noqa: S311 - texts, no secret
    found: list[dict[str, Any]] = []
    for number in range(COUNT):
        text = " ".join(chance.choices(WORDS, k=chance.randint(3, 60)))
        kind = number % 10
        if kind == 1:
            text += f" Write to person{number}@example.org about it."
        elif kind == 2:
            text += " The key is AKIAIOSFODNN7EXAMPLE."
        elif kind == 3:
            text = f"{GERMAN} {number}"
        elif kind == 4:
            text = found[number - 2]["text"] + " again"
        elif kind == 5:
            text = found[number - 5]["text"]
        found.append({"text": text})
    return found


def prepared(pod: Pod, records: list[dict[str, Any]], *, is_spread: bool) -> Any:
    pod.file("claims/claim/in.jsonl", jsonl(*records))
    return pod.prepare(URI, task="Text", clean=CLEAN, is_spread=is_spread)


@pytest.fixture(scope="module")
def alone(registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What comes out where this process does everything."""
    with pytest.MonkeyPatch.context() as environment:
        pod = Pod(tmp_path_factory.mktemp("alone"), registry, environment)
        return prepared(pod, rows(), is_spread=False)


def test_spread_or_not_the_same_comes_out(
    pod: Pod, cluster: str, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    spread = prepared(pod, rows(), is_spread=True)
    assert pod.exit_code == 0, spread
    dropped = {each.step: each.count for each in alone.records.dropped}
    assert min(dropped[s] for s in ("Characters", "Languages", "ExactDuplicates")) > 50, dropped
    assert spread == alone, "the data, its report and every count"


def test_a_worker_that_is_lost_is_replaced(
    pod: Pod, cluster: str, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    lost: list[int] = []
    killer = threading.Thread(target=_kill_a_worker, args=(lost,))
    killer.start()
    spread = prepared(pod, rows(), is_spread=True)
    killer.join()
    assert lost, "no worker was seen at work"
    assert spread == alone


def _kill_a_worker(lost: list[int]) -> None:
    end = time.monotonic() + 60
    while not lost and time.monotonic() < end:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if place.read_bytes().startswith(b"ray::look"):
                    os.kill(int(place.parent.name), signal.SIGKILL)
                    lost.append(int(place.parent.name))
                    return
            except OSError:  # it has ended by itself
                continue
        time.sleep(0.02)


def test_a_row_that_cannot_be_used_is_named_as_ever(
    pod: Pod, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = rows()
    broken[1700] = {"other": "a"}
    broken[2500] = {"another": "b"}
    here = prepared(pod, broken, is_spread=False)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    there = prepared(pod, broken, is_spread=True)
    assert there.failure == here.failure
    assert there.failure.reason == FailureReason.COLUMN_MISSING
    assert "1701" in there.failure.message


def test_what_comes_before_a_line_that_cannot_be_read_is_looked_at_first(
    pod: Pod, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps(row) for row in rows()]
    lines[2000] = "{"
    lines[1990] = json.dumps({"other": "a"})
    pod.file("claims/claim/in.jsonl", "\n".join(lines))
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    found = pod.prepare(URI, task="Text", clean=CLEAN, is_spread=True)
    assert found.failure is not None
    assert found.failure.reason == FailureReason.COLUMN_MISSING
