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
# For people, and with arguments.
COMMANDS = {
    "push": ("trimtab_pipelines.push", "main"),
    "export": ("trimtab_pipelines.handout", "main"),
    "pull": ("trimtab_pipelines.signing.commands", "pull"),
    "attach": ("trimtab_pipelines.signing.commands", "attach"),
    "lineage": ("trimtab_pipelines.lineage.command", "main"),
    "mlflow": ("trimtab_pipelines.export.command", "main"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if parsed.stage in COMMANDS:
        module, function = COMMANDS[parsed.stage]
        return int(getattr(importlib.import_module(module), function)(parsed))
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
    export = stages.add_parser("export", help="prepared data as a file for a labelling tool")
    export.add_argument("artifact", help="oci://registry/repository@sha256:... of a Dataset")
    export.add_argument("file", help="the JSON file to write")
    export.add_argument("--format", required=True, choices=["Argilla", "LabelStudio"])
    export.add_argument(
        "--split", action="append", choices=["train", "validation", "test"], help="all unless named"
    )
    export.add_argument("--most", type=int, help="at most so many records, the first ones")
    lineage = stages.add_parser("lineage", help="draw where a version comes from, as SVG")
    mlflow = stages.add_parser("mlflow", help="hand a version on to an MLflow registry")
    mlflow.add_argument("address", help="of the MLflow server: https://mlflow.example.com")
    mlflow.add_argument("--model", help="registered model; the version's own unless stated")
    mlflow.add_argument("--experiment", help="trimtab-<namespace> unless stated")
    mlflow.add_argument(
        "--weights", action="store_true", help="copy the version's files into the run, too"
    )
    for each in (lineage, mlflow):
        each.add_argument(
            "--file",
            default="-",
            help="what kubectl get mv NAME -o json has printed; standard input unless stated",
        )
    for each in (push, pull, attach, export, mlflow):
        each.add_argument("--plain-http", action="store_true", help="the registry speaks no TLS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
