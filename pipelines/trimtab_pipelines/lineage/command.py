"""`python -m trimtab_pipelines lineage [FILE]`: draws what `kubectl get mv NAME -o json` shows."""

import argparse
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_pipelines.lineage.drawing import svg


class NoVersion(Exception):
    """What was given is no ModelVersion."""


def main(parsed: argparse.Namespace) -> int:
    """The picture goes to standard output."""
    try:
        version = read_version(parsed.file)
    except NoVersion as fault:
        print(fault, file=sys.stderr)  # noqa: T201 - a command line
        return 1
    if version.status.lineage is None:
        print(  # noqa: T201
            f"ModelVersion {version.metadata.name} has no status.lineage yet; wait for the operator to look at it",
            file=sys.stderr,
        )
        return 1
    sys.stdout.write(svg(version.status.lineage, f"Lineage of {version.metadata.name}"))
    return 0


def read_version(file: str) -> ModelVersion:
    """A ModelVersion as the API server hands it out, from a file or from standard input (-)."""
    hint = "give what kubectl get mv NAME -o json prints, one object and no list"
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        kind = json.loads(text).get("kind")
        if kind != "ModelVersion":
            raise NoVersion(f"this is no ModelVersion but {kind or 'something else'}; {hint}")
        return ModelVersion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NoVersion(f"this is no ModelVersion: {where}: {first['msg']}; {hint}") from error
    except (ValueError, AttributeError) as error:
        raise NoVersion(f"this is no JSON object ({error}); {hint}") from error
    except OSError as error:
        raise NoVersion(f"{file} cannot be read: {error}") from error
