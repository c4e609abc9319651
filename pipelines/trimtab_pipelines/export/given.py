"""A ModelVersion as people hand it over: what `kubectl get mv NAME -o json` prints."""

import json
import sys
from pathlib import Path

from pydantic import ValidationError

from trimtab_api.v1alpha1 import ModelVersion

_HINT = "give what kubectl get mv NAME -o json prints, one object and no list"


class NoVersion(Exception):
    """What was given is no ModelVersion."""


def read_version(file: str) -> ModelVersion:
    """From a file, or from standard input (-)."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        kind = json.loads(text).get("kind")
        if kind != "ModelVersion":
            raise NoVersion(f"this is no ModelVersion but {kind or 'something else'}; {_HINT}")
        return ModelVersion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NoVersion(f"this is no ModelVersion: {where}: {first['msg']}; {_HINT}") from error
    except (ValueError, AttributeError) as error:
        raise NoVersion(f"this is no JSON object ({error}); {_HINT}") from error
    except OSError as error:
        raise NoVersion(f"{file} cannot be read: {error}") from error
