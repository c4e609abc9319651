"""What has to be there when a Dataset is at rest, from its spec alone: no builder of the operator's is asked."""

from tests.builders import Manifest
from tests.faults.expectations import PRIORITIES, Family, World, is_odd, observed
from tests.faults.podexpectations import amount, pod_faults, resource_faults, unlike

MADE = ("digest", "artifact", "records", "task")


def dataset_faults(family: Family, world: World) -> list[str]:
    """What is wrong with a Dataset at rest; no other one is there that it could name."""
    del world
    spec, status = family.spec, family.owner.get("status", {})
    ready, reason, message = family.says("Ready")
    found = [*observed(family), *_stage(family)]
    if ready == "True":
        found += [f"Ready is True, but there is no {part}" for part in MADE if not status.get(part)]
        found += unlike("task", status.get("task"), spec["task"])
        generation = family.owner["metadata"]["generation"]
        found += unlike("preparedGeneration", status.get("preparedGeneration"), generation)
    if ready == "True" and _names_others(spec):
        found.append("Ready is True, but what leakage.against names is not there")
    if ready == "False" and spec.get("activeDeadlineSeconds", 60) >= 60:
        found.append(f"it failed: {reason}: {message}")
    if ready not in {"True", "False"} and not _is_hindered(spec, reason):
        found.append(f"Ready is {ready} ({reason}: {message}), but nothing is in the way")
    return found


def _names_others(spec: Manifest) -> bool:
    return any("dataset" in each for each in spec.get("leakage", {}).get("against", []))


def _is_hindered(spec: Manifest, reason: str) -> bool:
    if _names_others(spec) or spec["pod"].get("priorityClassName", "") not in PRIORITIES:
        return True
    storage = spec["storage"]
    is_odd_claim = bool(storage.get("className")) or not amount(storage["size"])
    return reason == "Refused" and (is_odd_claim or is_odd(spec["pod"]))


def _stage(family: Family) -> list[str]:
    job = family.of_component("Job", "prepare")
    if job is None:
        return []
    spec, pod = family.spec, job["spec"]["template"]["spec"]
    wants = spec["resources"]
    deadline = spec.get("activeDeadlineSeconds")
    return [
        *pod_faults(pod, spec["pod"]),
        *resource_faults(pod["containers"][0], wants.get("cpu"), wants.get("memory"), None),
        *unlike("deadline", job["spec"].get("activeDeadlineSeconds"), deadline),
    ]
