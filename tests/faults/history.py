"""States that are to be equal although they were reached by other ways.

What has a history by design is left out here, with its reason, and nowhere else.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from tests.builders import Manifest
from tests.faults import oracles
from tests.faults.expectations import Family, World, obstacles
from tests.faults.oracles import State

from trimtab_api import names

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|-[0-9a-f]{8}\b(?!-[0-9a-f]{4}-)")
# A generation and an attempt: each preparation leaves its result under another name.
_PREPARATION: Final = re.compile(r"(run-[0-9a-f-]{36}-prepare)-\d+-\d+\b")
_ENGINE: Final = "-engine"


Strip = Callable[[Manifest], Manifest | None]  # None where nothing of an object is to be compared


def comparable(family: Family, world: World, namespace: str, registry: str) -> State:
    """The family without its name and without its history."""
    name = family.owner["metadata"]["name"]
    text = json.dumps([family.owner, *family.children]).replace(name, "TOKEN")
    if family.owner["kind"] in {"FineTuneJob", "Dataset"}:
        # Another job's artifacts are other artifacts: their digests follow from its name.
        text = _DIGEST.sub("-DIGEST", text)
    if family.owner["kind"] == "Dataset":
        text = _PREPARATION.sub(r"\1-N", text)
    strip = _HISTORIES[family.owner["kind"]](family, world)
    kept = [stripped for each in json.loads(text) if (stripped := strip(each)) is not None]
    return oracles.state_of(kept, namespace, registry)


def of_service(family: Family, world: World) -> Strip:
    """What of a service's objects depends on what it was before."""
    is_refused = family.says("Ready")[1] == "ChildRefused"
    is_ready = not (is_refused or list(obstacles(family.spec, world)))
    is_stuck = is_refused or bool(list(obstacles({**family.spec, "models": []}, world)))

    def strip(each: Manifest) -> Manifest | None:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind == "ConfigMap" and names.ROUTING_TABLE_KEY in each.get("data", {}):
            return {**each, "data": _without_ways_back(each["data"], family, is_stuck=is_stuck)}
        labels = each["metadata"].get("labels", {})
        if labels.get(names.LABEL_COMPONENT) in {"drift", "evidence"}:
            # What was learned of live traffic.
            return None
        if kind == "InferenceService":
            return {
                **each,
                "status": _settled(each.get("status", {}), is_ready=is_ready, is_stuck=is_stuck),
            }
        if kind == "Deployment" and is_refused and name.endswith(_ENGINE):
            # What the API server refuses leaves the engines as they were, if there were any.
            return None
        if kind == "Deployment" and not is_ready:
            # Pods that cannot be replaced go on: how many there are depends on how many there were.
            return {**each, "status": {}}
        return each

    return strip


def of_job(family: Family, world: World) -> Strip:
    """What of a job's objects depends on what it was before."""

    def strip(each: Manifest) -> Manifest:
        if each["kind"] == "Job" and each.get("status", {}).get("conditions"):
            # A deadline means nothing to what is over: it is that of the spec by then.
            spec = {k: v for k, v in each["spec"].items() if k != "activeDeadlineSeconds"}
            return {**each, "spec": spec}
        if each["kind"] != "FineTuneJob":
            return each
        status = dict(each.get("status", {}))
        # How far it is, is no consequence of the spec.
        for passing in ("progress", "startTime", "completionTime"):
            status.pop(passing, None)
        status["conditions"] = [_resumed(c) for c in status.get("conditions", [])]
        return {**each, "status": status}

    return strip


def of_dataset(family: Family, world: World) -> Strip:
    """What of a Dataset's objects depends on what it was before."""
    is_ready = family.says("Ready")[0] == "True"

    def strip(each: Manifest) -> Manifest:
        if each["kind"] != "Dataset":
            return each
        # Nothing is what there was before anything was written, too.
        status = {k: v for k, v in each.get("status", {}).items() if v != []}
        return {**each, "status": status if is_ready else _without_earlier_data(status)}

    return strip


def of_version(family: Family, world: World) -> Strip:
    """A version has no history: its spec never changes."""
    return lambda each: each


_HISTORIES: Final = {
    "Dataset": of_dataset,
    "FineTuneJob": of_job,
    "InferenceService": of_service,
    "ModelVersion": of_version,
}


def _without_earlier_data(status: Manifest) -> Manifest:
    made = {"digest", "artifact", "report", "task", "records", "image", "imageDigest"}
    conditions = [{**c, "message": ""} for c in status.get("conditions", [])]
    kept = {k: v for k, v in status.items() if k not in made}
    return {**kept, "conditions": conditions}


def _resumed(condition: Manifest) -> Manifest:
    # Whoever was suspended says that it goes on from a checkpoint.
    if condition["type"] == "Suspended" and condition["status"] == "False":
        return {"type": "Suspended", "status": "False"}
    return condition


def _settled(status: Manifest, *, is_ready: bool, is_stuck: bool) -> Manifest:
    models = [
        _unanswered(m) if m.get("reason") or is_stuck else m for m in status.get("models", [])
    ]
    if is_ready:
        return {**status, "models": models}
    # Counts of pods that are still there, and what is said of them.
    counted = {"conditions", "replicas"}
    return {k: v for k, v in status.items() if k not in counted} | {"models": models}


def _unanswered(model: Manifest) -> Manifest:
    # Who asks for what cannot be served, or of whom, keeps what served before.
    return {"name": model["name"]}


def _without_ways_back(data: Manifest, family: Family, *, is_stuck: bool) -> Manifest:
    table: dict[str, Any] = json.loads(data[names.ROUTING_TABLE_KEY])
    status = family.owner.get("status", {}).get("models", [])
    unanswered = {m["name"] for m in status if m.get("reason") or is_stuck}
    for model in table["models"]:
        versions = [] if model["name"] in unanswered else model["versions"]
        # The version before stays loaded, as the way back.
        model["versions"] = [v for v in versions if v["weight"]]
    table.pop("engines", None)  # pods, under names that the cluster draws
    return {names.ROUTING_TABLE_KEY: table}
