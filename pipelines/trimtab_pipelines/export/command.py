"""`python -m trimtab_pipelines mlflow ADDRESS`: hands a version on to an MLflow registry."""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import requests

from trimtab_pipelines.export.given import NoVersion, read_version
from trimtab_pipelines.export.mlflow import ExportFailed, MlflowServer, export
from trimtab_pipelines.export.weights import upload


def main(parsed: argparse.Namespace) -> int:
    """One line says where the version is; what went wrong stands on standard error."""
    try:
        print(_exported(parsed))  # noqa: T201 - a command line
    except (NoVersion, ExportFailed) as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _exported(parsed: argparse.Namespace) -> str:
    version = read_version(parsed.file)
    if not parsed.address.startswith(("http://", "https://")):
        raise ExportFailed(f"{parsed.address} is no address of an MLflow server; give http(s)://…")
    model = parsed.model or version.spec.model
    experiment = parsed.experiment or f"trimtab-{version.metadata.namespace}"
    now = datetime.fromtimestamp(time.time(), UTC)
    with _session(os.environ) as session:
        server = MlflowServer(parsed.address, session)
        made = export(version, server, experiment, model, now)
        if parsed.weights:
            upload(version, server, made.run, plain_http=parsed.plain_http)
    return f"{version.metadata.name} is version {made.version} of {made.model}, run {made.run}"


def _session(environment: Mapping[str, str]) -> requests.Session:
    """With the credentials that MLflow's own client reads; none of them is ever printed."""
    session = requests.Session()
    token, user = (
        environment.get("MLFLOW_TRACKING_TOKEN"),
        environment.get("MLFLOW_TRACKING_USERNAME"),
    )
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        session.auth = (user, environment.get("MLFLOW_TRACKING_PASSWORD", ""))
    return session
