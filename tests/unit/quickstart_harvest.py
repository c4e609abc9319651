"""The demo's text is the standard library's and nothing of the machine that it is harvested on."""

import os
import subprocess
import sys
from pathlib import Path


def harvested(folder: Path, **environment: str) -> dict[str, str]:
    """Both files, made by a process of its own."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "examples.quickstart.harvest", str(folder)],
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_another_environment_and_another_order_of_sets_give_the_same_text(tmp_path: Path) -> None:
    one = harvested(tmp_path / "one", PYTHONHASHSEED="1", AWS_SECRET_ACCESS_KEY="not-for-models")
    other = harvested(tmp_path / "other", PYTHONHASHSEED="2", HOME="/elsewhere", LANG="C")
    assert one.keys() == {"pairs.jsonl", "text.jsonl"}
    assert one == other
    assert not any("not-for-models" in text for text in one.values())
