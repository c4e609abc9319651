"""The CRDs as they were released: one folder for each release that can be upgraded from.

    crds/released/<version>/<plural>.yaml   as generated then
    crds/released/allowed.yaml              changes that would be refused and are meant all the same

Written once, at a release, and never changed.
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from generation.compatibility import breaks
from generation.manifests import KINDS, crd, crd_file
from generation.schema import Schema

FOLDER: Final = Path("crds/released")
ALLOWED: Final = FOLDER / "allowed.yaml"


class ReleasedAlreadyError(Exception):
    """The CRDs of this version are in the tree, and are others."""


def copies(root: Path) -> dict[Path, str]:
    """What a release of this tree keeps; refused where that version was released differently."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folder = FOLDER / version["project"]["version"]
    files = {folder / f"{kind.definition.plural}.yaml": crd_file(kind) for kind in KINDS}
    for path, wanted in files.items():
        there = root / path
        if there.exists() and there.read_text(encoding="utf-8") != wanted:
            raise ReleasedAlreadyError(
                f"{path} was released and is different now: raise the version in pyproject.toml"
            )
    return files


def complaints(root: Path) -> list[str]:
    """What upgrades from any release that is kept would break, and what is allowed for nothing."""
    current = _by_name(crd(kind) for kind in KINDS)
    allowed = _allowed(root)
    found = {
        fault.name: f"{fault} (released in {release})"
        for release, definitions in _releases(root)
        for fault in breaks(definitions, current)
    }
    unused = [f"{ALLOWED}: nothing does this: {name}" for name in allowed - found.keys()]
    return [text for name, text in found.items() if name not in allowed] + unused


def _releases(root: Path) -> Iterator[tuple[str, dict[str, Schema]]]:
    for folder in sorted((root / FOLDER).glob("*/")):
        files = sorted(folder.glob("*.yaml"))
        yield folder.name, _by_name(_read(path) for path in files)


def _allowed(root: Path) -> set[str]:
    path = root / ALLOWED
    entries = (_read(path) if path.exists() else None) or []
    for entry in entries:
        if not entry.get("reason"):
            raise ValueError(f"{path}: no reason is given for {entry['change']}")
    return {entry["change"] for entry in entries}


def _by_name(definitions: Iterable[Schema]) -> dict[str, Schema]:
    return {definition["metadata"]["name"]: definition for definition in definitions}


def _read(path: Path) -> Any:  # noqa: ANN401 - YAML
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe
