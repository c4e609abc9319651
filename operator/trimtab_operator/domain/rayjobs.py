"""A RayJob of KubeRay: the same program as driver of a Ray cluster that is made for it and goes with it.

KubeRay puts its own commands into the containers and sends the entrypoint to the head; the pods stay
for a moment after the end, so that their logs can still be read.
"""

from dataclasses import dataclass
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_operator.domain.manifests import Manifest, child_metadata, get
from trimtab_operator.domain.observation import JobState

KIND: Final = "RayJob"
_SUCCEEDED: Final = "SUCCEEDED"
_OVER: Final = frozenset({"Complete", "Failed", "ValidationFailed"})
_KEPT_SECONDS: Final = 60
# Where each node of Ray tells how it is. KubeRay's own probes ask by a program that our images lack.
_HEALTH: Final[Manifest] = {"path": "/api/local_raylet_healthz", "port": 52365}


@dataclass(frozen=True)
class RayJobState(JobState):
    """A RayJob, reduced to what decisions need."""

    @property
    def outlives_its_pods(self) -> bool:
        return False

    @property
    def is_complete(self) -> bool:
        return self._phase == "Complete" and self._job == _SUCCEEDED

    @property
    def failure(self) -> tuple[str, str] | None:
        """KubeRay's reason and message, once it has given up."""
        if self._phase not in _OVER or self.is_complete:
            return None
        reason = get(self.manifest, "status", "reason") or self._job or self._phase
        return str(reason), str(get(self.manifest, "status", "message", default=""))

    @property
    def ended_at(self) -> str | None:
        ended: str | None = get(self.manifest, "status", "endTime")
        return ended

    @property
    def failed_at(self) -> str | None:
        return self.ended_at if self.failure else None

    def image(self, container: str) -> str:
        """The image of the head, which runs the program."""
        template = get(self.manifest, "spec", "rayClusterSpec", "headGroupSpec", default={})
        containers = get(template, "template", "spec", "containers", default=[])
        return next((str(c["image"]) for c in containers if c["name"] == container), "")

    @property
    def _phase(self) -> str:
        return str(get(self.manifest, "status", "jobDeploymentStatus") or "")

    @property
    def _job(self) -> str:
        return str(get(self.manifest, "status", "jobStatus") or "")


def ray_job(  # noqa: PLR0913 - the fields of a RayJob
    kind: str,
    owner: AnyResource,
    component: str,
    name: str,
    entrypoint: str,
    *,
    head: Manifest,
    worker: Manifest,
    workers: int,
    active_deadline_seconds: int | None,
) -> Manifest:
    """A RayJob around two pods of ours. Whether it is tried again is decided by who made it."""
    spec: Manifest = {
        "entrypoint": entrypoint,
        "submissionMode": "HTTPMode",
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEPT_SECONDS,
        "rayClusterSpec": {
            "headGroupSpec": {
                # The driver needs the head for itself.
                "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
                "template": _template(kind, owner, component, name, head),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": workers,
                    "minReplicas": workers,
                    "maxReplicas": workers,
                    "rayStartParams": {},
                    "template": _template(kind, owner, component, name, worker),
                }
            ],
        },
    }
    if active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = active_deadline_seconds
    metadata = child_metadata(kind, owner, component, name)
    return {"apiVersion": "ray.io/v1", "kind": KIND, "metadata": metadata, "spec": spec}


def _template(kind: str, owner: AnyResource, component: str, name: str, pod: Manifest) -> Manifest:
    containers = [_node(each) for each in pod["containers"]]
    metadata = child_metadata(kind, owner, component)
    metadata["labels"] |= {names.LABEL_RAY_JOB: name}
    return {
        "metadata": metadata,
        "spec": {**pod, "containers": containers},
    }


def _node(container: Manifest) -> Manifest:
    """A container that KubeRay starts a node of Ray in."""
    ours = {key: value for key, value in container.items() if key != "command"}
    probes = {
        "startupProbe": {"httpGet": _HEALTH, "periodSeconds": 5, "failureThreshold": 60},
        "livenessProbe": {"httpGet": _HEALTH, "periodSeconds": 20, "failureThreshold": 15},
        "readinessProbe": {"httpGet": _HEALTH, "periodSeconds": 5, "failureThreshold": 3},
    }
    return {**ours, **probes}
