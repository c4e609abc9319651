"""`python -m trimtab_pipelines lineage`: draws what `kubectl get mv NAME -o json` shows."""

import argparse
import sys

from trimtab_pipelines.export.given import NoVersion, read_version
from trimtab_pipelines.lineage.drawing import svg


def main(parsed: argparse.Namespace) -> int:
    """The picture goes to standard output."""
    try:
        version = read_version(parsed.file)
    except NoVersion as fault:
        return _refused(str(fault))
    name = version.metadata.name
    if version.status.lineage is None:
        return _refused(
            f"ModelVersion {name} has no status.lineage yet; wait for the operator to look at it"
        )
    sys.stdout.write(svg(version.status.lineage, f"Lineage of {name}"))
    return 0


def _refused(why: str) -> int:
    print(why, file=sys.stderr)  # noqa: T201 - a command line
    return 1
