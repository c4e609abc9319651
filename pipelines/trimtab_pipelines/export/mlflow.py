"""A version in an MLflow registry: a run with settings, data and figures, and a registered model's version.

MLflow's REST API is asked directly; its client would bring more than it does here. Repeating an
export changes what has changed and makes nothing twice: run and version are found again by the
version's uid.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import requests

from trimtab_api.v1alpha1 import ModelVersion

API: Final = "api/2.0/mlflow"
ARTIFACTS: Final = "api/2.0/mlflow-artifacts/artifacts"
UID: Final = "trimtab.uid"
TIMEOUT_SECONDS: Final = 30
# The server answers once its store has all of a file.
UPLOAD_SECONDS: Final = 3600
# What MLflow takes in one batch.
_PAIRS_AT_MOST = 100
_PARAM_LENGTH, _TAG_LENGTH = 500, 5000

Answer = dict[str, Any]


class ExportFailed(Exception):
    """The registry did not take it, and why, in a sentence for people."""


@dataclass(frozen=True)
class Exported:
    """Where it is now."""

    model: str
    version: str
    run: str


class MlflowServer:
    """The server behind an address; a session that knows the credentials."""

    def __init__(self, address: str, session: requests.Session) -> None:
        self._root = address.rstrip("/")
        self._session = session

    def get(self, path: str, **query: str) -> Answer:
        return self._ask("GET", f"{API}/{path}", params=query)

    def post(self, path: str, **body: object) -> Answer:
        return self._ask("POST", f"{API}/{path}", json=body)

    def files(self, folder: str) -> dict[str, int]:
        """The files in a folder of the artifact store, with their sizes."""
        found = self._ask("GET", ARTIFACTS, params={"path": folder}).get("files", [])
        return {f["path"]: int(f.get("file_size", 0)) for f in found if not f.get("is_dir")}

    def upload(self, place: str, file: Path) -> None:
        """One file into the artifact store, as it is read; what comes back says nothing."""
        with file.open("rb") as content:
            self._ask("PUT", f"{ARTIFACTS}/{place}", seconds=UPLOAD_SECONDS, data=content)

    def _ask(
        self, method: str, path: str, seconds: float = TIMEOUT_SECONDS, **parts: Any
    ) -> Answer:
        url = f"{self._root}/{path}"
        limits = (TIMEOUT_SECONDS, seconds)
        try:
            answer = self._session.request(method, url, timeout=limits, **parts)
        except requests.RequestException as error:
            raise ExportFailed(f"{self._root} does not answer: {error}") from error
        if answer.status_code in {401, 403}:
            raise ExportFailed(
                f"{self._root} refuses the credentials ({answer.status_code}); set MLFLOW_TRACKING_TOKEN, or "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if answer.ok and method == "PUT":
            return {}
        try:
            content = answer.json()
        except requests.JSONDecodeError as error:
            raise ExportFailed(
                f"{url} answers {answer.status_code} and no JSON; is {self._root} an MLflow server?"
            ) from error
        if not answer.ok:
            raise _Refused(str(content.get("error_code")), str(content.get("message")), url)
        return dict(content)


class _Refused(ExportFailed):
    """MLflow's own word."""

    def __init__(self, code: str, message: str, url: str) -> None:
        super().__init__(f"{url}: {code}: {message[:500]}")
        self.code = code


def export(
    version: ModelVersion, server: MlflowServer, experiment: str, model: str, now: datetime
) -> Exported:
    """Run first, then the registered version that points to it."""
    run = _run(version, server, _experiment(server, experiment), now)
    _model(server, model)
    return Exported(model, _version(version, server, model, run), run)


def _experiment(server: MlflowServer, name: str) -> str:
    try:
        found = server.get("experiments/get-by-name", experiment_name=name)["experiment"]
    except _Refused as refused:
        if refused.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return str(server.post("experiments/create", name=name)["experiment_id"])
    if found.get("lifecycle_stage") == "deleted":
        raise ExportFailed(
            f"the experiment {name} is deleted in MLflow; restore it, or name another with --experiment"
        )
    return str(found["experiment_id"])


def _run(version: ModelVersion, server: MlflowServer, experiment: str, now: datetime) -> str:
    """The version's run, with what is not in it yet."""
    uid = version.metadata.uid
    found = server.post(
        "runs/search",
        experiment_ids=[experiment],
        filter=f"tags.`{UID}` = '{uid}'",
        max_results=1,
    ).get("runs", [])
    tags = _pairs(_run_tags(version))
    if found:
        run = found[0]
    else:
        begun = _milliseconds(_created(version) or now)
        name = version.metadata.name
        made = server.post(
            "runs/create", experiment_id=experiment, run_name=name, start_time=begun, tags=tags
        )
        run = made["run"]
    identity, data = str(run["info"]["run_id"]), run.get("data", {})
    there = {m["key"]: m["value"] for m in data.get("metrics", [])}
    known = {p["key"] for p in data.get("params", [])}
    when = _milliseconds(now)
    server.post(
        "runs/log-batch",
        run_id=identity,
        metrics=[
            {"key": key, "value": value, "timestamp": when, "step": 0}
            for key, value in _figures(version)
            if there.get(key) != value
        ],
        params=_pairs(
            {k: v for k, v in _settings(version).items() if k not in known}, _PARAM_LENGTH
        ),
        tags=tags,
    )
    dataset = version.spec.lineage.dataset
    if dataset is not None:
        about = {
            "name": dataset.name or "inline",
            "digest": dataset.digest.removeprefix("sha256:")[:36],
            "source_type": "oci",
            "source": dataset.uri or dataset.digest,
        }
        context = [{"key": "mlflow.data.context", "value": "training"}]
        server.post(
            "runs/log-inputs", run_id=identity, datasets=[{"tags": context, "dataset": about}]
        )
    server.post("runs/update", run_id=identity, status="FINISHED", end_time=when)
    return identity


def _model(server: MlflowServer, name: str) -> None:
    try:
        server.post("registered-models/create", name=name)
    except _Refused as refused:
        if refused.code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(version: ModelVersion, server: MlflowServer, model: str, run: str) -> str:
    """The registered version; its tags say how the version stands now."""
    tags = _version_tags(version)
    quoted = model.replace("'", "\\'")
    found = server.get("model-versions/search", filter=f"name = '{quoted}' AND run_id = '{run}'")
    known = found.get("model_versions", [])
    if not known:
        made = server.post(
            "model-versions/create",
            name=model,
            source=version.spec.artifact.uri,
            run_id=run,
            tags=_pairs(tags),
            description=_description(version),
        )
        return str(made["model_version"]["version"])
    number = str(known[0]["version"])
    there = {t["key"]: t["value"] for t in known[0].get("tags", [])}
    for tag in _pairs({k: v for k, v in tags.items() if there.get(k) != v}):
        server.post("model-versions/set-tag", name=model, version=number, **tag)
    return number


def _description(version: ModelVersion) -> str:
    spec = version.spec
    return (
        f"Trimtab's ModelVersion {version.metadata.name} of namespace {version.metadata.namespace}: "
        f"{spec.artifact.kind.value} {spec.artifact.digest}."
    )


def _run_tags(version: ModelVersion) -> dict[str, str]:
    producers = ", ".join(p.fine_tune_job for p in version.status.producers)
    image = version.spec.lineage.image_digest or version.spec.lineage.image
    return {
        UID: version.metadata.uid,
        "trimtab.namespace": version.metadata.namespace,
        "trimtab.modelVersion": version.metadata.name,
        **({"trimtab.producers": producers} if producers else {}),
        **({"trimtab.image": image} if image else {}),
        **_graph(version),
    }


def _graph(version: ModelVersion) -> dict[str, str]:
    """The lineage in one tag where it fits; half of a graph would be a wrong one."""
    text = (
        version.status.lineage.model_dump_json(exclude_none=True) if version.status.lineage else ""
    )
    return {"trimtab.lineage": text} if 0 < len(text) <= _TAG_LENGTH else {}


def _version_tags(version: ModelVersion) -> dict[str, str]:
    status = version.status
    told = {f"trimtab.{c.type}": str(c.status.value) for c in status.conditions}
    signer = {"trimtab.signer": status.signature.signer} if status.signature else {}
    report = status.evaluation.report if status.evaluation else None
    gates = status.evaluation.gates if status.evaluation else []
    passed = f"{sum(g.passed for g in gates)} of {len(gates)}"
    return {
        "trimtab.digest": version.spec.artifact.digest,
        "trimtab.kind": version.spec.artifact.kind.value,
        **({"trimtab.baseDigest": status.base_digest} if status.base_digest else {}),
        **({"trimtab.report": report} if report else {}),
        **({"trimtab.gatesPassed": passed} if gates else {}),
        **signer,
        **told,
    }


def _settings(version: ModelVersion) -> dict[str, str]:
    known = version.spec.lineage
    more = {
        "objective": known.objective,
        "method": known.method,
        "seed": known.seed,
        "parent": known.parent,
        "dataset": known.dataset.digest if known.dataset else None,
        "base": version.status.base_digest,
    }
    return {**known.hyperparameters, **{k: str(v) for k, v in more.items() if v is not None}}


def _figures(version: ModelVersion) -> Iterable[tuple[str, float]]:
    evaluation = version.status.evaluation
    for each in evaluation.metrics if evaluation else []:
        parts = {"": each.value, ".low": each.low, ".high": each.high, ".base": each.base}
        for suffix, value in parts.items():
            if value is not None:
                yield f"{each.metric.value}{suffix}", float(value)


def _pairs(values: Mapping[str, str], longest: int = _TAG_LENGTH) -> list[dict[str, str]]:
    """As MLflow writes maps, within what it takes."""
    return [{"key": k, "value": v[:longest]} for k, v in sorted(values.items())][:_PAIRS_AT_MOST]


def _created(version: ModelVersion) -> datetime | None:
    text = version.metadata.creation_timestamp
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
