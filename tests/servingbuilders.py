"""Builders of what is served: versions, services, reports, with sane defaults."""

from datetime import UTC, datetime, timedelta
from typing import Any

from trimtab_api.documents import EvaluationReport
from trimtab_api.v1alpha1 import Decision, FineTuneJob, InferenceService, ModelVersion
from trimtab_operator.domain.conditions import timestamp

NAMESPACE = "ns"
REGISTRY = "registry.internal:5000/trimtab"
CREATED = "2026-01-01T00:00:00Z"


def digest_of(name: str) -> str:
    """A digest that follows from a name."""
    return "sha256:" + (name.encode().hex() * 64)[:64]


def uri_of(name: str) -> str:
    return f"oci://{REGISTRY}/ns/{name}@{digest_of(name)}"


def condition(
    kind: str, status: str = "True", reason: str = "", message: str = ""
) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": message,
        "lastTransitionTime": CREATED,
    }


def metadata_of(name: str, **changes: Any) -> dict[str, Any]:
    """What the API server gives a new object."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "generation": 1,
        "creationTimestamp": CREATED,
        **changes,
    }


def a_version(
    name: str = "bot-1",
    *,
    model: str = "bot",
    kind: str = "Adapter",
    rank: int | None = 8,
    base: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> ModelVersion:
    """An adapter version that nobody has looked at yet."""
    full = kind == "Full"
    spec: dict[str, Any] = {
        "model": model,
        "artifact": {"uri": uri_of(name), "kind": kind} | ({} if full else {"rank": rank}),
        "evaluation": evaluation or {},
    }
    if not full:
        spec["baseModel"] = base or {"uri": uri_of("base")}
    return ModelVersion.model_validate(
        {
            "metadata": metadata_of(name, **metadata),
            "spec": spec,
            "status": status or {},
        }
    )


def ready_status(base: str | None = "base", **changes: Any) -> dict[str, Any]:
    """The status of a version that is verified and evaluated."""
    status: dict[str, Any] = {
        "conditions": [condition(c) for c in ("ArtifactVerified", "Evaluated", "Ready")],
        "evaluation": {"report": uri_of("report"), "examples": 10},
    }
    if base:
        status |= {"baseDigest": digest_of(base), "baseUri": uri_of(base)}
    return status | changes


def a_ready_version(name: str = "bot-1", **more: Any) -> ModelVersion:
    full = more.get("kind") == "Full"
    return a_version(name, **{"status": ready_status(None if full else "base"), **more})


def a_report(name: str = "bot-1", **changes: Any) -> EvaluationReport:
    """A report about an adapter of `base`."""
    return EvaluationReport.model_validate(
        {
            "artifactDigest": digest_of(name),
            "kind": "Adapter",
            "rank": 8,
            "baseDigest": digest_of("base"),
            "examples": 10,
            "metrics": [{"metric": "RougeL", "value": 0.4, "base": 0.1}],
            "fingerprint": {
                "dtype": "float32",
                "tolerance": 0.01,
                "sequences": [{"tokens": [1, 2], "logprobs": [-1.0], "baseLogprobs": [-2.0]}],
            },
            **changes,
        }
    )


def an_artifact(
    kind: str = "Adapter", base: str | None = "base", rank: int | None = 8
) -> dict[str, Any]:
    """The manifest of an artifact, as the registry hands it out."""
    annotations = {"dev.trimtab.kind": kind}
    if base:
        annotations["dev.trimtab.base"] = digest_of(base)
    if rank:
        annotations["dev.trimtab.rank"] = str(rank)
    return {"annotations": annotations, "layers": [{"size": 40}, {"size": 2}]}


def a_service(
    name: str = "chat",
    models: dict[str, dict[str, str]] | None = None,
    *,
    base: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **spec: Any,
) -> InferenceService:
    """A service on one CPU engine; `models` maps public names to version selectors."""
    return InferenceService.model_validate(
        {
            "metadata": metadata_of(name, **(metadata or {})),
            "spec": {
                "baseModel": base or {"name": "tiny", "uri": uri_of("base")},
                "engine": {"gpus": 0, "memory": "2Gi"},
                "gateway": {"replicas": 1},
                "models": [
                    {"name": public, "version": selector}
                    for public, selector in (models or {}).items()
                ],
                **spec,
            },
            "status": status or {},
        }
    )


def a_decision(
    action: str = "Approve", version: str = "bot-1", *, at: int = 0, by: str = "bob", **changes: Any
) -> Decision:
    """A decision about a version of `a_version`, so many seconds after the beginning."""
    name = changes.pop("name", f"{action.lower()}-{version}-{at}")
    spec = {
        "action": action,
        "target": {"kind": "ModelVersion", "name": version, "digest": digest_of(version)},
        "by": by,
        "reason": "because",
    }
    created = timestamp(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at))
    return Decision.model_validate(
        {"metadata": metadata_of(name, creationTimestamp=created), "spec": spec | changes}
    )


def a_job(name: str = "train", base: str | None = None, **status: Any) -> FineTuneJob:
    """A FineTuneJob, as far as versions look at it."""
    return FineTuneJob.model_validate(
        {
            "metadata": metadata_of(name),
            "spec": {
                "baseModel": {"modelVersion": {"name": base}} if base else {"uri": uri_of("base")},
                "dataset": {"inline": {"sources": [{"uri": "configmap://data/train.jsonl"}]}},
                "method": {"lora": {}},
                "output": {"model": "bot"},
            },
            "status": status,
        }
    )
