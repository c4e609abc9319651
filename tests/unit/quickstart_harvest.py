"""The demo's text is the standard library's and nothing of the machine that it is harvested on."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def harvested(
    folder: Path, python: Path | str = sys.executable, **environment: str
) -> dict[str, str]:
    """Both files, made by a process of its own."""
    folder.mkdir()
    subprocess.run(
        [python, "-m", "examples.quickstart.harvest", str(folder)],
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


def test_another_place_of_python_and_other_packages_give_the_same_text(tmp_path: Path) -> None:
    """With setuptools `distutils` is another module than without."""
    venv.create(tmp_path / "bare", with_pip=False)
    bare = harvested(tmp_path / "other", tmp_path / "bare" / "bin" / "python")
    assert harvested(tmp_path / "one") == bare
