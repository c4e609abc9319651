"""Writes crds/*.yaml, the chart's copies and the reference pages; `--check` only compares.

The types are the source. Whoever changes one runs this, and `make check` fails until it has run,
or while the change would break what is stored under a CRD that was released. `--release` keeps the
CRDs of this version for that comparison.
"""

import argparse
import difflib
import sys
from pathlib import Path

from generation.manifests import KINDS, crd_file, for_chart
from generation.reference import api_page, reasons_page
from generation.released import ALLOWED, ReleasedAlreadyError, complaints, copies

ROOT = Path(__file__).resolve().parent.parent


def generated() -> dict[Path, str]:
    """What every generated file should hold."""
    files = {Path("docs/api.md"): api_page(), Path("docs/reasons.md"): reasons_page()}
    for kind in KINDS:
        name = f"{kind.definition.plural}.yaml"
        files[Path("crds") / name] = crd_file(kind)
        files[Path("charts/trimtab/templates/crds") / name] = for_chart(kind)
    return files


def difference(path: Path, wanted: str, root: Path) -> str:
    """How a file differs from what it should hold."""
    there = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
    if there == wanted:
        return ""
    lines = difflib.unified_diff(
        there.splitlines(keepends=True),
        wanted.splitlines(keepends=True),
        f"{path} (there)",
        f"{path} (wanted)",
    )
    return "".join(lines)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write, or compare; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--check", action="store_true", help="write nothing; fail when a file differs or breaks"
    )
    how.add_argument("--release", action="store_true", help="keep the CRDs as this version's")
    asked = parser.parse_args(arguments)
    if asked.check:
        return _check(root)
    files = generated()
    if asked.release:
        try:
            files |= copies(root)
        except ReleasedAlreadyError as refusal:
            print(refusal, file=sys.stderr)
            return 1
    for path, wanted in _stale(files, root).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(wanted, encoding="utf-8")
        print(f"wrote {path}")
    return 0


def _check(root: Path) -> int:
    stale = _stale(generated(), root)
    for path, wanted in stale.items():
        print(difference(path, wanted, root), end="")
    if stale:
        print("run: make generate", file=sys.stderr)
    broken = complaints(root)
    print(*broken, sep="\n", end="\n" if broken else "")
    if broken:
        print(f"a change that is meant is listed in {ALLOWED}", file=sys.stderr)
    return 1 if stale or broken else 0


def _stale(files: dict[Path, str], root: Path) -> dict[Path, str]:
    return {path: wanted for path, wanted in files.items() if difference(path, wanted, root)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
