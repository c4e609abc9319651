"""`python -m trimtab_pipelines STAGE`: the commands of the training image.

Modules are imported by name when their stage is asked for: a fetch should not wait for torch.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from trimtab_pipelines.runtime import execute

# Each module has a `STAGE`.
STAGES = {
    "prepare": "trimtab_pipelines.prepare",
    "fetch": "trimtab_pipelines.fetch",
    "train": "trimtab_pipelines.training",
    "evaluate": "trimtab_pipelines.evaluate",
    "sign": "trimtab_pipelines.sign",
    "delete": "trimtab_pipelines.deletion",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if parsed.stage == "push":
        push = importlib.import_module("trimtab_pipelines.push")
        return int(push.main(parsed))
    if parsed.stage in {"pull", "attach"}:
        commands = importlib.import_module("trimtab_pipelines.signing.commands")
        return int(getattr(commands, parsed.stage)(parsed))
    if parsed.stage == "lineage":
        lineage = importlib.import_module("trimtab_pipelines.lineage.command")
        return int(lineage.main(parsed))
    return execute(importlib.import_module(STAGES[parsed.stage]).STAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab_pipelines", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name in STAGES:
        stages.add_parser(name, help=f"run the {name} stage on the mounted document")
    push = stages.add_parser("push", help="push a model or adapter on disk to a registry")
    push.add_argument("directory", help="folder with safetensors, configuration and tokenizer")
    push.add_argument("repository", help="oci://registry/repository[:tag]")
    push.add_argument("--base", help="digest of the base model of an adapter: sha256:...")
    pull = stages.add_parser("pull", help="bring a version's files, to sign them elsewhere")
    pull.add_argument("artifact", help="oci://registry/repository@sha256:...")
    pull.add_argument("directory", help="folder for the files; it must be empty")
    pull.add_argument(
        "--report", help="oci://...@sha256:... of the evaluation report, to sign it too"
    )
    attach = stages.add_parser("attach", help="attach a signature that was made elsewhere")
    attach.add_argument("artifact", help="oci://registry/repository@sha256:...")
    attach.add_argument("bundle", help="the file that model_signing wrote")
    lineage = stages.add_parser("lineage", help="draw where a version comes from, as SVG")
    lineage.add_argument(
        "file", nargs="?", default="-", help="what kubectl get mv NAME -o json prints; - reads it"
    )
    for each in (push, pull, attach):
        each.add_argument("--plain-http", action="store_true", help="the registry speaks no TLS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
