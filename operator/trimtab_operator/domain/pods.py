"""Pieces of the pods that the operator starts: all pass Pod Security `restricted`.

A pod runs under whatever user the image or the cluster chooses (group 0), on a read-only root,
without a service account token. Writable are /tmp (HOME and caches) and what is mounted on purpose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1.common import AnyResource, PodOverrides
from trimtab_operator.domain.manifests import Manifest, child_metadata, scraped
from trimtab_operator.domain.naming import image_reference
from trimtab_operator.settings import Settings

# A program that is slow to begin on a busy node is not one that hangs; killed for it, it would never begin.
STARTING_SECONDS: Final = 300
GPU_RESOURCE: Final = "nvidia.com/gpu"
TMP: Final = "/tmp"  # noqa: S108 - inside the pod, where it is a volume of its own
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - torch's workers exchange tensors there


@dataclass(frozen=True)
class Mount:
    """A volume and where one container finds it."""

    volume: Manifest
    mount: Manifest

    @classmethod
    def of(cls, name: str, path: str, source: Manifest, *, read_only: bool = True) -> "Mount":
        """The volume `name` from `source` at `path`."""
        mount: Manifest = {"name": name, "mountPath": path}
        if read_only:
            mount["readOnly"] = True
        return cls(volume={"name": name, **source}, mount=mount)


def scratch_space() -> Mount:
    """The one place for HOME, caches and scratch files that every container has."""
    return Mount.of("tmp", TMP, {"emptyDir": {}}, read_only=False)


def shared_memory() -> Mount:
    """Memory that processes of one container share; the runtime's own is 64 MiB."""
    return Mount.of("shm", SHARED_MEMORY, {"emptyDir": {"medium": "Memory"}}, read_only=False)


def run_document(config_map: str) -> Mount:
    """The pod's task."""
    path = names.RUN_DOCUMENT.rpartition("/")[0]
    return Mount.of("run", path, {"configMap": {"name": config_map}})


def secret(volume: str, path: str, secret_name: str, *, optional: bool = False) -> Mount:
    """A Secret of the user's namespace, which the kubelet mounts and the operator never reads."""
    source: Manifest = {"secretName": secret_name}
    if optional:
        source["optional"] = True
    return Mount.of(volume, path, {"secret": source})


def trusted_signers(config_map: str) -> Mount:
    """Public keys and CA certificates; one that is absent is told by the program that needs it."""
    source = {"configMap": {"name": config_map, "optional": True}}
    return Mount.of("trust", names.TRUST_PATH, source)


def identity_token(volume: str, path: str, audience: str) -> Mount:
    """A token of the pod's service account that is good for one audience, and not for the API server."""
    token = {"path": names.IDENTITY_TOKEN, "audience": audience, "expirationSeconds": 600}
    return Mount.of(volume, path, {"projected": {"sources": [{"serviceAccountToken": token}]}})


def registry_credentials(settings: Settings) -> list[Mount]:
    """The registry's credentials, where the chart names a Secret; a namespace may do without."""
    name = settings.registry.credentials_secret
    if not name:
        return []
    return [secret("registry-credentials", names.REGISTRY_CREDENTIALS_PATH, name, optional=True)]


def model_image(volume: str, path: str, uri: str, settings: Settings) -> Mount:
    """An artifact as a read-only image volume; the kubelet's image store is the model cache."""
    source = {"reference": image_reference(uri), "pullPolicy": settings.image_pull_policy}
    return Mount.of(volume, path, {"image": source})


def claim(volume: str, path: str, claim_name: str, *, read_only: bool = False) -> Mount:
    """A persistent volume claim."""
    source: Manifest = {"claimName": claim_name}
    if read_only:
        source["readOnly"] = True
    return Mount.of(volume, path, {"persistentVolumeClaim": source}, read_only=read_only)


def container_security() -> Manifest:
    """Security context of every container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def pod_security(settings: Settings) -> Manifest:
    """Security context of every pod."""
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **settings.pod_security_context,
    }


def resources(
    gpus: int = 0,
    cpu: str | None = None,
    memory: str | None = None,
    *,
    is_memory_limited: bool = True,
) -> Manifest:
    """Requests and limits: memory and GPUs are both; a CPU limit would only slow things down."""
    requests: Manifest = {}
    limits: Manifest = {}
    if cpu:
        requests["cpu"] = cpu
    if memory:
        requests["memory"] = memory
    if memory and is_memory_limited:
        limits["memory"] = memory
    if gpus:
        requests[GPU_RESOURCE] = limits[GPU_RESOURCE] = str(gpus)
    return {k: v for k, v in (("requests", requests), ("limits", limits)) if v}


def container(  # noqa: PLR0913 - the fields of a container
    name: str,
    image: str,
    command: Sequence[str],
    mounts: Sequence[Mount],
    settings: Settings,
    *,
    env: Sequence[tuple[str, str]] = (),
    ports: Sequence[tuple[str, int]] = (),
    wants: Manifest | None = None,
) -> Manifest:
    """A restricted container; `wants` comes from `resources`."""
    result: Manifest = {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in (("HOME", TMP), *env)],
        "volumeMounts": [dict(m.mount) for m in mounts],
        "securityContext": container_security(),
        "terminationMessagePath": names.TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if ports:
        result["ports"] = [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in ports]
    if wants:
        result["resources"] = wants
    return result


def pod_spec(
    containers: Sequence[Manifest],
    mounts: Sequence[Mount],
    settings: Settings,
    *,
    overrides: PodOverrides | None = None,
    init_containers: Sequence[Manifest] = (),
) -> Manifest:
    """A restricted pod with what the user says about it. Volumes that occur twice are one."""
    spec: Manifest = {
        "containers": list(containers),
        "volumes": list({m.volume["name"]: m.volume for m in mounts}.values()),
        "securityContext": pod_security(settings),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if init_containers:
        spec["initContainers"] = list(init_containers)
    return with_overrides(spec, overrides) if overrides else spec


def with_overrides(spec: Manifest, overrides: PodOverrides) -> Manifest:
    """The pod with the user's scheduling and environment; a variable of ours is never replaced."""
    result = dict(spec)
    if overrides.node_selector:
        result["nodeSelector"] = dict(overrides.node_selector)
    if overrides.tolerations:
        result["tolerations"] = [t.to_wire() for t in overrides.tolerations]
    if overrides.priority_class_name:
        result["priorityClassName"] = overrides.priority_class_name
    if overrides.image_pull_secrets:
        result["imagePullSecrets"] = [{"name": s.name} for s in overrides.image_pull_secrets]
    for part in ("initContainers", "containers"):
        if part in spec:
            result[part] = [_with_env(c, overrides) for c in spec[part]]
    return result


def _with_env(container: Manifest, overrides: PodOverrides) -> Manifest:
    ours = {e["name"] for e in container.get("env", [])}
    theirs = [{"name": e.name, "value": e.value} for e in overrides.env if e.name not in ours]
    return {**container, "env": [*container.get("env", []), *theirs]}


def run_config_map(
    kind: str, owner: AnyResource, component: str, name: str, document: str
) -> Manifest:
    """The ConfigMap with a pod's task; immutable, as the task itself is."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(kind, owner, component, name),
        "immutable": True,
        "data": {names.RUN_DOCUMENT.rpartition("/")[2]: document},
    }


def task_job(  # noqa: PLR0913 - the fields of a Job
    kind: str,
    owner: AnyResource,
    component: str,
    name: str,
    pod: Manifest,
    *,
    backoff_limit: int = 3,
    suspend: bool = False,
    active_deadline_seconds: int | None = None,
    ttl_seconds_after_finished: int | None = None,
    labels: dict[str, str] | None = None,
    metrics_port: int | None = None,
) -> Manifest:
    """A Job around one pod of ours.

    A user error ends it at once; a pod that the cluster took away, or that stopped because it was
    told to, does not count as a failure.
    """
    metadata = child_metadata(kind, owner, component, name)
    metadata["labels"] |= labels or {}
    template = child_metadata(kind, owner, component)
    template["annotations"] |= scraped(metrics_port) if metrics_port else {}
    spec: Manifest = {
        "backoffLimit": backoff_limit,
        "completions": 1,
        "parallelism": 1,
        "suspend": suspend,
        "podReplacementPolicy": "Failed",  # never two pods on one volume
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"operator": "In", "values": [names.EXIT_USER_ERROR]},
                },
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "Ignore",
                    "onExitCodes": {"operator": "In", "values": [names.EXIT_INTERRUPTED]},
                },
            ]
        },
        "template": {
            "metadata": template,
            "spec": {**pod, "restartPolicy": "Never"},
        },
    }
    if active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = active_deadline_seconds
    if ttl_seconds_after_finished is not None:
        spec["ttlSecondsAfterFinished"] = ttl_seconds_after_finished
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
