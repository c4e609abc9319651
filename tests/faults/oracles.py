"""What has to hold when everything has come to rest, whatever went wrong before."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tests.builders import Manifest
from tests.faults.proxy import RETRY_AFTER_SECONDS, Call

from trimtab_api import names
from trimtab_operator.adapters.kinds import CHILDREN, OURS
from trimtab_operator.domain.naming import ANNOTATION_APPLIED

# Pods are the cluster's own work, under names that it draws.
COMPARED: Final = tuple(kind for kind in (*OURS, *CHILDREN) if kind.name != "Pod")
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# A child that follows from its owner's uid has a hash of it in its name.
_SAME: Final = (
    (re.compile(_UUID), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b127\.83\.\d+\.\d+\b"), "ADDRESS"),
    (re.compile(r"-(prepare|train|evaluate|sign|storage)-[0-9a-f]{8}\b"), r"-\1-HASH"),
    (re.compile(r"-(engine|gateway)-[0-9a-f]{8,10}-[a-z0-9]{5}\b"), r"-\1-POD"),
)
# What the API server or a controller counts in its own way.
_UNCOMPARED: Final = frozenset(
    {
        "managedFields",
        "resourceVersion",
        "uid",
        "generation",
        "observedGeneration",
        "preparedGeneration",
        "clusterIP",
        "clusterIPs",
        "revision",
        "deployment.kubernetes.io/revision",
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
        ANNOTATION_APPLIED,
        "resourceClaim",
    }
)
_OUR_KINDS: Final = frozenset(kind.name for kind in OURS)
# The rest of a child's status is the business of whoever writes it.
_COUNTED: Final = ("succeeded", "failed", "replicas", "readyReplicas")
Right = tuple[str, str, str]  # verb, group, resource
_OPERATORS: Final = "-operator"
_EXACTLY: Final = {"uid", "resourceVersion"}
State = dict[str, list[Any]]  # by kind and name; several where names differ only in a hash


def state_of(objects: Iterable[Manifest], namespace: str, registry: str) -> State:
    """The objects by kind and name, without what differs between two runs that are alike."""
    found: State = {}
    for each in objects:
        name = _same(f"{each['kind']}/{each['metadata']['name']}")
        reduced = _reduced(_without_foreign_status(each), namespace, registry)
        found.setdefault(name, []).append(reduced)
    return {name: sorted(alike, key=json.dumps) for name, alike in found.items()}


def differences(calm: State, shaken: State) -> list[str]:
    """Where the shaken run ended elsewhere."""
    found = []
    for name in sorted(calm.keys() | shaken.keys()):
        wanted, there = calm.get(name, []), shaken.get(name, [])
        if len(wanted) != len(there):
            found.append(f"{name}: {len(there)} of them, not {len(wanted)}")
            continue
        for calm_one, shaken_one in zip(wanted, there, strict=True):
            found += [f"{name}{line}" for line in _unlike(calm_one, shaken_one)]
    return found


def untrue_conditions(objects: Iterable[Manifest]) -> list[str]:
    """What at rest speaks of an older generation, or of work that is not done and is said to be."""
    found = []
    for each in (o for o in objects if o["kind"] in _OUR_KINDS):
        generation = each["metadata"]["generation"]
        status = each.get("status", {})
        said = {"status": status.get("observedGeneration")} | {
            c["type"]: c.get("observedGeneration") for c in status.get("conditions", [])
        }
        found += [
            f"{each['kind']} {each['metadata']['name']}: {what} is about generation {about}, "
            f"the spec is generation {generation}"
            for what, about in said.items()
            if about != generation
        ]
        percent = status.get("progress", {}).get("percent")
        if percent not in {None, 100} and _is_complete(status):
            found.append(f"{each['metadata']['name']} is Complete at {percent} %")
    return found


def _is_complete(status: Manifest) -> bool:
    conditions = status.get("conditions", [])
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def made_twice(calls: Sequence[Call], living: Iterable[str]) -> list[str]:
    """Children of a living owner that were created again though nobody had deleted them."""
    alive = set(living)
    made: Counter[str] = Counter()
    for call in calls:
        if call.verb == "delete" and call.status < 400:
            made[call.key] -= 1
        if call.has_created:
            owners = {o["uid"] for o in call.answer["metadata"].get("ownerReferences", [])}
            if not owners or owners & alive:
                made[call.key] += 1
    return [f"{key} was created {count} times" for key, count in made.items() if count > 1]


def said_twice(calls: Sequence[Call]) -> list[str]:
    """Events that say the same of the same object more often than it has changed or was tried."""
    occasions: dict[str, int] = {}
    said: Counter[tuple[str, str, str]] = Counter()
    for call in calls:
        metadata, status = call.answer.get("metadata", {}), call.answer.get("status", {})
        if call.answer.get("kind") in _OUR_KINDS:
            seen = metadata["generation"] + status.get("attempt", 0)
            occasions[metadata["uid"]] = max(seen, occasions.get(metadata["uid"], 1))
        if call.resource == "events" and call.has_created:
            uid = call.body["involvedObject"]["uid"]
            said[uid, call.body["reason"], call.body["message"]] += 1
    return [
        f"{reason} was said {count} times: {message}"
        for (uid, reason, message), count in said.items()
        if count > occasions.get(uid, 1)
    ]


def asked_too_soon(calls: Sequence[Call]) -> list[str]:
    """Requests that were made again before the time that the server had asked for was over."""
    refused: dict[tuple[str, str], float] = {}
    found = []
    for call in sorted(calls, key=lambda c: c.asked_at):
        what = (call.verb, call.key)
        waited = call.asked_at - refused.pop(what, -RETRY_AFTER_SECONDS)
        if waited < RETRY_AFTER_SECONDS:
            found.append(f"{call} came back after {waited:.2f} s")
        if call.spoiled_by == "too-many-requests":
            refused[what] = call.asked_at
    return found


def unguarded(calls: Sequence[Call]) -> list[str]:
    """Changes of what is there that do not say which version of it they were decided on."""
    changes = (c for c in calls if 0 < c.status < 400 and not c.has_created)
    return [
        f"{call} would have undone what came in between: {json.dumps(call.body)[:500]}"
        for call in changes
        if (call.verb == "delete" and not call.body.get("preconditions", {}).keys() >= _EXACTLY)
        or (call.verb == "patch" and call.group == names.GROUP and not _is_against(call.body))
    ]


def went_back(calls: Sequence[Call]) -> list[str]:
    """Jobs that said they are less far than they had said in the same attempt."""
    answers = (c.answer for c in calls if c.resource == "finetunejobs/status" and c.status == 200)
    furthest: dict[tuple[str, int], float] = {}
    found = []
    for job in sorted(answers, key=lambda job: int(job["metadata"]["resourceVersion"])):
        which = (job["metadata"]["uid"], job["status"].get("attempt", 0))
        percent = job["status"].get("progress", {}).get("percent", 0)
        if percent < furthest.get(which, 0):
            found.append(f"{job['metadata']['name']} went from {furthest[which]} to {percent} %")
        furthest[which] = max(percent, furthest.get(which, 0))
    return found


def deletions(calls: Sequence[Call]) -> set[str]:
    """What the operator has deleted."""
    return {_same(c.key) for c in calls if c.verb == "delete" and c.status < 400}


def not_allowed(calls: Sequence[Call]) -> list[str]:
    """What authorisation, and no fault of ours, has refused."""
    return [
        f"{call}: {call.answer.get('message')}"
        for call in calls
        if call.status == 403
        and not call.spoiled_by
        and 'User "system:serviceaccount:' in str(call.answer.get("message"))
    ]


def granted(chart: Iterable[Manifest]) -> set[Right]:
    """What the chart's roles let the operator do."""
    roles = [
        m
        for m in chart
        if m["kind"] in {"ClusterRole", "Role"} and m["metadata"]["name"].endswith(_OPERATORS)
    ]
    return {
        (verb, group, resource)
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def rights_used(calls: Iterable[Call]) -> set[Right]:
    """What authorisation was asked for and has granted."""
    used = {(c.verb, c.group, c.resource) for c in calls if 0 < c.status < 400}
    # An apply of what is not there is a creation, too.
    return used | {("create", c.group, c.resource) for c in calls if c.has_created}


def complaints(log: Sequence[Manifest]) -> list[str]:
    """Lines of a log that no fault excuses."""
    return [
        str(line.get("exception") or line.get("text") or line["message"])
        for line in log
        if "text" in line or "exception" in line or line["level"] in {"error", "critical"}
        if not _is_expected(line)
    ]


def _is_against(body: Manifest) -> bool:
    return bool(body.get("metadata", {}).get("resourceVersion"))


def _is_expected(line: Manifest) -> bool:
    return "leadership lost" in str(line.get("message", ""))


def _without_foreign_status(each: Manifest) -> Manifest:
    if each["kind"] in _OUR_KINDS:
        return each
    status = each.get("status", {})
    return {**each, "status": {k: status[k] for k in _COUNTED if k in status}}


def _reduced(value: Any, namespace: str, registry: str) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _UNCOMPARED}
        return {_same(k): _reduced(v, namespace, registry) for k, v in sorted(kept.items())}
    if isinstance(value, list):
        return [_reduced(v, namespace, registry) for v in value]
    if isinstance(value, str):
        return _same(value.replace(namespace, "NAMESPACE").replace(registry, "REGISTRY"))
    return value


def _same(text: str) -> str:
    for pattern, instead in _SAME:
        text = pattern.sub(instead, text)
    return text


def _unlike(calm: Any, shaken: Any, place: str = "") -> list[str]:
    if isinstance(calm, dict) and isinstance(shaken, dict):
        keys = sorted(calm.keys() | shaken.keys())
        return [
            line
            for key in keys
            for line in _unlike(calm.get(key), shaken.get(key), f"{place}.{key}")
        ]
    if isinstance(calm, list) and isinstance(shaken, list) and len(calm) == len(shaken):
        pairs = zip(calm, shaken, strict=True)
        return [line for n, (a, b) in enumerate(pairs) for line in _unlike(a, b, f"{place}[{n}]")]
    return [] if calm == shaken else [f"{place}: {calm!r} became {shaken!r}"]
