"""The peer as kopf's documentation shows an operator: create and update handlers, official client.

Run by `kopf run`. It makes the same children and the same conditions as Trimtab's operator.
"""

import copy
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf
from kubernetes import client, config

TEMPLATES = json.loads(Path(os.environ["BENCH_CHILDREN"]).read_text())
GROUP, VERSION, PLURAL = "trimtab.dev", "v1alpha1", "finetunejobs"


@kopf.on.startup()
def connect(**_: Any) -> None:  # noqa: ANN401 - kopf passes much more
    """The official client, by the same kubeconfig as kopf's own."""
    config.load_kube_config()


@kopf.on.create(GROUP, VERSION, PLURAL)
def created(body: kopf.Body, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:  # noqa: ANN401
    """Children, then status."""
    name, uid, namespace = (
        body["metadata"]["name"],
        body["metadata"]["uid"],
        body["metadata"]["namespace"],
    )
    task = _child(TEMPLATES["configMap"], name, uid)
    batch_job = _child(TEMPLATES["job"], name, uid)
    batch_job["spec"]["suspend"] = bool(spec.get("suspend"))
    _name_volume(batch_job, task["metadata"]["name"])
    for child in (task, batch_job):
        kopf.adopt(child, owner=body)
    _unless_there(lambda: client.CoreV1Api().create_namespaced_config_map(namespace, task))
    _unless_there(lambda: client.BatchV1Api().create_namespaced_job(namespace, batch_job))
    _tell(body, patch, suspended=bool(spec.get("suspend")))


@kopf.on.update(GROUP, VERSION, PLURAL, field="spec.suspend")
def changed(body: kopf.Body, new: Any, patch: kopf.Patch, **_: Any) -> None:  # noqa: ANN401
    """The Job follows, then status."""
    metadata = body["metadata"]
    client.BatchV1Api().patch_namespaced_job(
        _child_name(metadata["name"]), metadata["namespace"], {"spec": {"suspend": bool(new)}}
    )
    _tell(body, patch, suspended=bool(new))


def _child_name(owner: str) -> str:
    return f"{owner}-prepare"


def _child(template: Any, name: str, uid: str) -> Any:  # noqa: ANN401 - JSON
    child = copy.deepcopy(template)
    metadatas = [child["metadata"]]
    if child["kind"] == "Job":
        metadatas.append(child["spec"]["template"]["metadata"])
    for part in (m[p] for m in metadatas for p in ("labels", "annotations")):
        part |= {key: value.replace(TEMPLATES["name"], name) for key, value in part.items()}
    for key, text in child.get("data", {}).items():
        child["data"][key] = text.replace(TEMPLATES["name"], name).replace(TEMPLATES["uid"], uid)
    child["metadata"]["name"] = _child_name(name)
    del child["metadata"]["namespace"]  # kopf puts in the owner's
    return child


def _name_volume(batch_job: Any, config_map: str) -> None:  # noqa: ANN401 - JSON
    for volume in batch_job["spec"]["template"]["spec"]["volumes"]:
        if volume["name"] == "run":
            volume["configMap"]["name"] = config_map


def _unless_there(create: Any) -> None:  # noqa: ANN401 - any call
    try:
        create()
    except client.ApiException as error:
        if error.status != 409:
            raise


def _tell(body: kopf.Body, patch: kopf.Patch, *, suspended: bool) -> None:
    reason, message = "Preparing", "data and base model are being resolved"
    if suspended:
        reason, message = "SuspendedOnRequest", "spec.suspend is true"
    verdicts = (
        ("Complete", "False", "InProgress", "not finished"),
        ("Failed", "False", "NotFailed", "has not failed"),
        ("Suspended", str(suspended), reason if suspended else "NotSuspended", "spec.suspend"),
        ("Started", "False", reason, message),
    )
    generation = body["metadata"]["generation"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch.status["observedGeneration"] = generation
    patch.status["conditions"] = [
        {
            "type": kind,
            "status": status,
            "reason": why,
            "message": what,
            "lastTransitionTime": now,
            "observedGeneration": generation,
        }
        for kind, status, why, what in verdicts
    ]
    kopf.event(body, type="Normal", reason=reason, message=message)
