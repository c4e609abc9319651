"""Rules of the repository itself that no other tool holds."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from trimtab_local.images import IMAGES, Image

TOP = Path(__file__).resolve().parents[2]
LOCKS = sorted((TOP / "requirements").glob("*.txt"))
PINNED = re.compile(r"^([a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==(\S+)( \\)?$")


def versions(lock: Path) -> dict[str, str]:
    found = (PINNED.match(line) for line in lock.read_text().splitlines())
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_has_a_version_and_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text().replace(" \\\n", " ")
    for line in text.splitlines():
        if not line.startswith("#"):
            assert re.match(r"^\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text


@pytest.mark.parametrize("name", ["operator", "serving", "pipelines", "local", "torch"])
def test_images_hold_what_the_tests_ran_with(name: str) -> None:
    tested = versions(TOP / "requirements/dev.txt")
    shipped = versions(TOP / f"requirements/{name}.txt")
    assert shipped
    assert {k: (v, tested.get(k)) for k, v in shipped.items() if tested.get(k) != v} == {}


def test_the_engine_stands_on_the_same_torch_layer_as_training() -> None:
    layer = versions(TOP / "requirements/torch.txt")
    engine = versions(TOP / "requirements/engine-cpu.txt")
    assert {k: (v, layer[k]) for k, v in engine.items() if layer.get(k, v) != v} == {}


@pytest.mark.parametrize("name", ["operator", "serving"])
def test_no_training_stack_in(name: str) -> None:
    heavy = {"torch", "transformers", "numpy", "triton"}
    assert heavy.isdisjoint(versions(TOP / f"requirements/{name}.txt"))


def test_the_folder_operator_never_becomes_a_package() -> None:
    assert not (TOP / "operator/__init__.py").exists()


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_what_the_dockerfile_copies_is_what_makes_an_image_stale(image: Image) -> None:
    stages = re.split(
        r"^FROM (\S+) AS (\S+)\n", (TOP / "Dockerfile").read_text(), flags=re.MULTILINE
    )
    parents = dict(zip(stages[2::3], stages[1::3], strict=True))
    bodies = dict(zip(stages[2::3], stages[3::3], strict=True))
    stage, copied = image.name, set()
    while stage in bodies:
        for line in re.findall(r"^COPY (.+)$", bodies[stage], flags=re.MULTILINE):
            copied |= set(line.split()[:-1])
        stage = parents[stage]
    assert copied == set(image.inputs)


def test_every_file_with_tests_is_collected() -> None:
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["pytest"]
    patterns = settings["ini_options"]["python_files"]
    overlooked = [
        str(file.relative_to(TOP))
        for file in (TOP / "tests").rglob("*.py")
        if re.search(r"^(async )?def test_", file.read_text(), flags=re.MULTILINE)
        and not any(fnmatch(str(file), f"*/{pattern}") for pattern in patterns)
    ]
    assert overlooked == []
