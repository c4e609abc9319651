"""Rules of the repository itself that no other tool holds."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
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


# Modules that are a published part of another package that a program lists.
PARTS = {
    "botocore": "boto3",
    "httptools": "uvicorn",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "uvloop": "uvicorn",
    "yarl": "aiohttp",
}


def listed(*extras: str) -> set[str]:
    """Names of the packages in these extras, and in the extras of ours that they list."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found: set[str] = set()
    for line in lines:
        name, *more = re.split(r"[^\w-]+", line.partition("]")[0])
        found |= listed(*more) if name == project["name"] else {name}
    return found


def spelt(package: str) -> str:
    """A package's name as we write it."""
    return package.lower().replace("_", "-")


def imported(folder: Path) -> set[str]:
    """Top-level modules that run-time code below the folder imports."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in _at_run_time(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    return found


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _at_run_time(child)


@pytest.mark.parametrize(
    ("folder", "extra"),
    [
        ("operator/trimtab_operator", "operator"),
        ("serving/trimtab_serving", "serving"),
        ("pipelines/trimtab_pipelines", "pipelines"),
        ("local/trimtab_local", "local"),
        ("examples", "local"),
    ],
)
def test_what_a_program_imports_is_listed_and_does_not_just_come_along(
    folder: str, extra: str
) -> None:
    ours = {path.name for path in TOP.glob("*/trimtab_*")} | {"examples"}
    foreign = imported(TOP / folder) - ours - sys.stdlib_module_names
    packages, allowed = packages_distributions(), listed(extra)
    missing = {m for m in foreign if not allowed & {PARTS.get(m, ""), *map(spelt, packages[m])}}
    assert missing == set()


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
