"""The command `push`: a model or an adapter on someone's disk becomes an artifact.

It is checked as strictly as what we make ourselves, and put into the same form, so that an
imported version is evaluated and served like any other.
"""

import argparse
import asyncio
import json
import logging
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.common import DIGEST_PATTERN
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import ANNOTATION_BASE, ANNOTATION_RANK, Reference, RegistryError
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.runtime import RunError, failure_of
from trimtab_pipelines.safety import check_model_directory, is_model_file
from trimtab_pipelines.training.output import write_json

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0
_ADAPTER_CONFIG = "adapter_config.json"


def main(arguments: argparse.Namespace) -> int:
    """Push and print the address by digest: it is what a ModelVersion names."""
    try:
        reference = push(
            Path(arguments.directory),
            Reference.parse(arguments.repository),
            base=arguments.base,
            plain_http=arguments.plain_http,
        )
    except (RunError, RegistryError, OSError) as error:
        failure = failure_of(error)
        sys.stderr.write(f"{failure.reason}: {failure.message}\n")
        return 1
    sys.stdout.write(f"{reference.at(str(reference.digest))}\n")
    return 0


def push(
    directory: Path, target: Reference, base: str | None = None, *, plain_http: bool = False
) -> Reference:
    """The address by digest of what was pushed."""
    with tempfile.TemporaryDirectory(prefix="push-") as folder:
        staged = Path(folder)
        annotations = stage_files(directory, staged, base)
        kind = ArtifactKind.ADAPTER if annotations else ArtifactKind.FULL

        async def attempt() -> Reference:
            async with open_registry(plain_http=plain_http) as registry:
                return await registry.push_directory(
                    staged, target, kind=kind, annotations=annotations, tag=target.tag
                )

        return asyncio.run(again_while_unreachable(attempt, _PATIENCE_SECONDS))


def stage_files(directory: Path, staged: Path, base: str | None) -> dict[str, str]:
    """Put what makes the model into one folder; the annotations of an adapter come back."""
    if not directory.is_dir():
        raise RunError(FailureReason.SOURCE_NOT_FOUND, f"{directory} is no folder")
    for path in sorted(directory.iterdir()):
        if path.is_file() and is_model_file(path.name):
            shutil.copyfile(path, staged / path.name)
        else:
            log.warning("%s is no part of a model and is left out", path.name)
    check_model_directory(staged)
    if not any(staged.glob("*.safetensors")):
        raise RunError(FailureReason.UNSUPPORTED_MODEL, f"{directory} holds no *.safetensors")
    config_file = staged / _ADAPTER_CONFIG
    if not config_file.exists():
        return {}
    config = normalised(json.loads(config_file.read_bytes()), base)
    write_json(config_file, config)
    return {ANNOTATION_BASE: config["base_model_name_or_path"], ANNOTATION_RANK: str(config["r"])}


def normalised(config: dict[str, Any], base: str | None) -> dict[str, Any]:
    """An adapter's configuration as our own training writes it: bound to its base by digest."""
    digest = base or str(config.get("base_model_name_or_path"))
    if not re.match(DIGEST_PATTERN, digest):
        raise RunError(
            FailureReason.BASE_MISMATCH,
            "An adapter is bound to its base by digest; give --base sha256:...",
        )
    if config.get("use_dora") or config.get("modules_to_save"):
        raise RunError(
            FailureReason.UNSUPPORTED_ADAPTER,
            "vLLM serves neither DoRA nor modules_to_save; train the adapter without them.",
        )
    if not isinstance(config.get("r"), int):
        raise RunError(FailureReason.UNSUPPORTED_ADAPTER, f"{_ADAPTER_CONFIG} names no rank (r)")
    targets = config.get("target_modules")
    return config | {
        "base_model_name_or_path": digest,
        "inference_mode": True,
        "revision": None,
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
    }
