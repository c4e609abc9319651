"""Where things lie in a pod, and where tests put them instead.

All paths of the contract are absolute. `TRIMTAB_ROOT` puts a folder in front of them, so that a
stage runs unchanged on a developer's machine.
"""

import os
from pathlib import Path

from trimtab_api import names


def inside(path: str) -> Path:
    """The place of an absolute path of the contract on this machine."""
    return Path(os.environ.get("TRIMTAB_ROOT", "") + path)


def run_document() -> Path:
    return inside(names.RUN_DOCUMENT)


def volume() -> Path:
    return inside(names.VOLUME_PATH)


def data() -> Path:
    return volume() / "data"


def checkpoints() -> Path:
    return volume() / "checkpoints"


def output() -> Path:
    return volume() / "output"


def credentials(name: str) -> Path:
    """The folder of a mounted Secret: `registry`, `base` or `source-<n>`."""
    return inside(names.CREDENTIALS_PATH) / name
