"""Golden manifests: what builders make, reviewed as a diff.

`TRIMTAB_REWRITE_GOLDEN=1 make unit` writes them anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "golden"


def check(name: str, manifests: Sequence[dict[str, Any]]) -> None:
    """Compare with the reviewed file, or write it where that was asked for."""
    path = FOLDER / f"{name}.yaml"
    text = yaml.safe_dump_all(manifests, sort_keys=False, width=120)
    if os.environ.get("TRIMTAB_REWRITE_GOLDEN"):
        path.write_text(text)
    assert path.exists(), f"{path.name} does not exist; write it with TRIMTAB_REWRITE_GOLDEN=1"
    assert list(yaml.safe_load_all(path.read_text())) == list(yaml.safe_load_all(text))
