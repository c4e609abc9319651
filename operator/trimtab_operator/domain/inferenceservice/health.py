"""How engines and gateways are, from their Deployments and pods, in the cluster's own words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from trimtab_api.reasons import FailureReason, ServiceReason
from trimtab_operator.domain.conditions import moment_of
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of
from trimtab_operator.domain.observation import lost_node, obstacle

# A sandbox comes a moment after scheduling; one that does not waits for its volumes.
SANDBOX_EXPECTED_WITHIN: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Part:
    """One Deployment and its pods. `noun` names one replica; `told` is what a pod says of itself."""

    noun: str
    ready_reason: str
    wanted: int
    deployment: Manifest | None
    pods: tuple[Manifest, ...]
    mounted_secret: str | None = None
    told: Mapping[str, Finding] = field(default_factory=dict)


def is_ready(pod: Manifest) -> bool:
    """Whether requests may be sent to it."""
    return (
        not is_deleting(pod)
        and bool(get(pod, "status", "podIP"))
        and _condition(pod, "Ready") == "True"
    )


def health(part: Part, now: datetime) -> Answer:
    """Whether all wanted replicas of the present template, and no others, are there."""
    if part.wanted == 0:
        return Answer(
            False, ServiceReason.SCALED_TO_ZERO, f"no {part.noun} is wanted: replicas is 0"
        )
    status = get(part.deployment, "status", default={})
    ready = int(status.get("readyReplicas", 0))
    count = f"{ready} of {part.wanted} {part.noun}s are ready"
    if part.deployment is not None and _is_rolled_out(part, status):
        return Answer(True, part.ready_reason, count)
    found = trouble(part, now)
    if found is not None:
        return Answer(False, found.reason, f"{count}; {found.message}")
    updated = int(status.get("updatedReplicas", 0))
    if ready >= part.wanted and updated < int(status.get("replicas", 0)):
        return Answer(
            False, ServiceReason.ROLLING_OUT, f"{count}, {updated} of them of the new kind"
        )
    return Answer(False, ServiceReason.STARTING, count)


def trouble(part: Part, now: datetime) -> Finding | None:
    """The first pod, youngest first, that something is wrong with."""
    living = [p for p in part.pods if not is_deleting(p) and not is_ready(p)]
    living.sort(key=_age, reverse=True)
    found = (_pod_trouble(p, part, now) for p in living)
    return next((f for f in found if f is not None), None)


def _is_rolled_out(part: Part, status: Manifest) -> bool:
    seen = int(status.get("observedGeneration", 0))
    generation = int(get(part.deployment, "metadata", "generation", default=0))
    counts = [int(status.get(f, 0)) for f in ("replicas", "updatedReplicas", "readyReplicas")]
    return seen >= generation and counts == [part.wanted] * 3


def _pod_trouble(pod: Manifest, part: Part, now: datetime) -> Finding | None:
    # Of a node that does not answer, nothing else is known.
    if lost_node(pod) is not None:
        return _obstacle(pod, now)
    found = _crash(pod) or _obstacle(pod, now) or _volumes_missing(pod, part, now)
    return found or part.told.get(name_of(pod))


def _obstacle(pod: Manifest, now: datetime) -> Finding | None:
    found = obstacle([pod], now)
    return Finding(found.reason, found.message) if found else None


def _crash(pod: Manifest) -> Finding | None:
    """A container that ended before the pod was ready: it waits to be started again, or was."""
    parts = ("initContainerStatuses", "containerStatuses")  # the engine is a sidecar
    for status in (s for part in parts for s in get(pod, "status", part, default=[])):
        state = get(status, "state", default={})
        last = get(state, "terminated") or get(status, "lastState", "terminated")
        if not last:
            continue
        name, code = status.get("name"), last.get("exitCode")
        if last.get("reason") == "OOMKilled":
            return Finding(
                FailureReason.OUT_OF_MEMORY,
                f"container {name} of {name_of(pod)} was killed because it used more memory than "
                "its limit: raise spec.engine.memory",
            )
        lines = str(last.get("message", "")).strip().splitlines()
        said = f": {lines[-1][:512]}" if lines else ""
        restarts = status.get("restartCount", 0)
        return Finding(
            ServiceReason.CRASHING,
            f"container {name} of {name_of(pod)} ended with exit code {code} and was restarted "
            f"{restarts} times{said}",
        )
    return None


def _volumes_missing(pod: Manifest, part: Part, now: datetime) -> Finding | None:
    """The operator sees no Secrets, but it sees a pod that waits for one."""
    scheduled = _transition(pod, "PodScheduled")
    if scheduled is None or _condition(pod, "PodReadyToStartContainers") != "False":
        return None
    if now - scheduled < SANDBOX_EXPECTED_WITHIN or part.mounted_secret is None:
        return None
    return Finding(
        ServiceReason.VOLUMES_MISSING,
        f"{name_of(pod)} waits for its volumes: is there a Secret {part.mounted_secret} in this "
        "namespace?",
    )


def waits_for_sandbox(pods: Sequence[Manifest]) -> bool:
    """Whether to look again soon although nothing may change by then."""
    return any(
        not is_deleting(p)
        and _condition(p, "PodScheduled") == "True"
        and _condition(p, "PodReadyToStartContainers") == "False"
        for p in pods
    )


def _condition(pod: Manifest, kind: str) -> str | None:
    found = (c for c in get(pod, "status", "conditions", default=[]) if c.get("type") == kind)
    return next((c.get("status") for c in found), None)


def _transition(pod: Manifest, kind: str) -> datetime | None:
    found = (c for c in get(pod, "status", "conditions", default=[]) if c.get("type") == kind)
    return next((moment_of(c.get("lastTransitionTime")) for c in found), None)


def _age(pod: Manifest) -> tuple[str, str]:
    return (get(pod, "metadata", "creationTimestamp", default=""), name_of(pod))
