"""Writes crds/*.yaml, the chart's copies and the reference pages; `--check` only compares.

The types are the source. Whoever changes one runs this, and `make check` fails until it has run.
"""

import argparse
import difflib
import sys
from pathlib import Path

from generation.manifests import KINDS, as_yaml, crd, for_chart
from generation.reference import api_page, reasons_page

ROOT = Path(__file__).resolve().parent.parent


def generated() -> dict[Path, str]:
    """What every generated file should hold."""
    files = {Path("docs/api.md"): api_page(), Path("docs/reasons.md"): reasons_page()}
    for kind in KINDS:
        name = f"{kind.definition.plural}.yaml"
        files[Path("crds") / name] = as_yaml(crd(kind))
        files[Path("charts/trimtab/templates/crds") / name] = for_chart(kind)
    return files


def difference(path: Path, wanted: str, root: Path) -> str:
    """How a file differs from what it should hold."""
    there = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
    lines = difflib.unified_diff(
        there.splitlines(keepends=True),
        wanted.splitlines(keepends=True),
        f"{path} (there)",
        f"{path} (wanted)",
    )
    return "".join(lines)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write, or compare; 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a file differs"
    )
    only_check = parser.parse_args(arguments).check
    stale = {path: wanted for path, wanted in generated().items() if difference(path, wanted, root)}
    for path, wanted in stale.items():
        if only_check:
            print(difference(path, wanted, root), end="")
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted, encoding="utf-8")
            print(f"wrote {path}")
    if stale and only_check:
        print("run: make generate", file=sys.stderr)
    return 1 if stale and only_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
