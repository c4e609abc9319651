"""The engine Deployment: vLLM, and the agent that keeps its adapters equal to the routing table.

vLLM runs as a sidecar (an init container that is never over), because of how pods end: the kubelet
tells the agent first, which lets begun answers finish, and stops sidecars only after it is gone.

An operator upgrade changes no running engine. The pod template is therefore kept as it was first
made, beside a hash of what it was made from (the user's wishes, the base, the release): only when
that hash changes is it made anew.
"""

import json
from dataclasses import dataclass
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.engine import Dtype, Engine
from trimtab_api.v1alpha1.inferenceservice import FrozenRelease
from trimtab_api.v1alpha1.signing import SignedParts
from trimtab_operator.domain import pods
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.routes import Base
from trimtab_operator.domain.manifests import Manifest, get
from trimtab_operator.domain.naming import short_hash
from trimtab_operator.settings import Settings

ANNOTATION_INPUTS: Final = f"{names.GROUP}/engine-inputs"
ANNOTATION_TEMPLATE: Final = f"{names.GROUP}/engine-template"

ADAPTER_DIRECTORY: Final = "/adapters"
TOKEN_DIRECTORY: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
# vLLM has kernels for these ranks alone; an adapter of a lower rank fits into the next.
VLLM_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
DTYPES: Final = {
    Dtype.AUTO: "auto",
    Dtype.FLOAT32: "float32",
    Dtype.FLOAT16: "float16",
    Dtype.BFLOAT16: "bfloat16",
}
# Some of vLLM's functions are compiled by torch even in eager mode. On a CPU that takes a C++ compiler,
# which no image of ours has, and the engine would die on its first request.
CPU_ENVIRONMENT: Final = {"TORCHDYNAMO_DISABLE": "1"}
# The first process of a container does not hear a signal that it has no handler for, and vLLM imports
# for most of a minute before it has one; told while it starts its engine core, it waits five minutes
# for that one's answer. An engine that was deleted while it started would stay for the whole grace
# period. A shell goes first: what does not listen yet answers nobody, and is killed; what listens is
# handed the signal. The signal ends the shell's wait, too, so it waits until the process has gone, and
# asks once more: what it was told in between may be the code of the signal. Called with the port as
# /proc/net/tcp writes it, where 0A is LISTEN, then the command.
FIRST_PROCESS: Final = """\
port=$1 asked= pid=
shift
end() {
  how=KILL
  if grep -q ":$port [0-9A-F:]* 0A " /proc/net/tcp; then how=TERM; fi
  kill -"$how" "$pid"
}
trap 'asked=yes; [ -z "$pid" ] || end' TERM
"$@" &
pid=$!
[ -z "$asked" ] || end
while wait "$pid"; code=$?; kill -0 "$pid" 2>/dev/null; do :; done
if [ -n "$asked" ]; then wait "$pid"; last=$?; [ "$last" -eq 127 ] || code=$last; fi
exit "$code"
"""
# Half an hour for large weights from a cold disk; an engine that hangs for as long is started anew.
HUNG_PERIOD_SECONDS: Final = 20
HUNG_TRIES: Final = 90
# The routing table and the gateways learn of a new engine within moments; an old one stays until then.
JOINED_SECONDS: Final = 2
# Begun answers may finish for this long; then the pod still has a moment to end.
FINISH_SECONDS: Final = 300
GRACE_SECONDS: Final = FINISH_SECONDS + 30


@dataclass(frozen=True)
class EnginePlan:
    """What an engine is made from."""

    service: InferenceService
    base: Base
    release: FrozenRelease
    settings: Settings
    pool: str = names.ENGINE
    table_key: str = names.ROUTING_TABLE_KEY

    @property
    def labels(self) -> dict[str, str]:
        """What tells its pods from those of other bases. The first engines have no such label."""
        return {} if self.pool == names.ENGINE else {names.LABEL_POOL: self.pool}


def release(service: InferenceService, settings: Settings) -> FrozenRelease:
    """The images that the engines run: those of the first day, until a move is asked for."""
    frozen = service.status.release
    asked = service.metadata.annotations.get(names.ANNOTATION_ENGINE_RELEASE)
    if frozen is not None and (asked is None or asked == frozen.requested):
        return frozen
    return FrozenRelease(
        engine_image=settings.images.engine, agent_image=settings.images.serving, requested=asked
    )


def deployment(plan: EnginePlan, present: Manifest | None) -> Manifest:
    """The Deployment that the service should have, with the template it already runs if it may."""
    inputs = _inputs(plan)
    template = _kept_template(present, inputs) or _template(plan)
    service = plan.service
    metadata = children.metadata(service, names.ENGINE, children.name(service, plan.pool))
    metadata["labels"] |= plan.labels
    metadata["annotations"] |= {
        ANNOTATION_INPUTS: inputs,
        ANNOTATION_TEMPLATE: json.dumps(template, separators=(",", ":"), sort_keys=True),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas(service),
            "selector": {"matchLabels": children.selector(service, names.ENGINE) | plan.labels},
            "strategy": strategy(service.spec.engine, replicas(service)),
            "minReadySeconds": JOINED_SECONDS,
            "progressDeadlineSeconds": HUNG_PERIOD_SECONDS * HUNG_TRIES,
            "revisionHistoryLimit": 2,
            "template": template,
        },
    }


def disruption_budget(service: InferenceService, pool: str) -> Manifest:
    """Of each base one at a time: an eviction is refused for a pod that two budgets speak of."""
    selector = children.pool_selector(service, pool)
    made = children.disruption_budget(service, names.ENGINE, pool, selector)
    made["metadata"]["labels"] |= {} if pool == names.ENGINE else {names.LABEL_POOL: pool}
    return made


def replicas(service: InferenceService) -> int:
    """Engines that are wanted."""
    return 1 if service.spec.replicas is None else service.spec.replicas


def strategy(engine: Engine, count: int) -> Manifest:
    """How engines are replaced.

    On CPUs a new one comes before an old one goes. With GPUs that would wait for ever on a full
    cluster, so that of several engines one goes first and lends its GPUs to the next. A single
    engine never goes first: the service would be down. It waits for spare GPUs, and says so.
    """
    spare_needed = engine.gpus == 0 or count <= 1
    surge, unavailable = (1, 0) if spare_needed else (0, 1)
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def arguments(plan: EnginePlan) -> list[str]:
    """The command line of vLLM; what the settings add comes last, and wins."""
    engine = plan.service.spec.engine
    result = [
        "vllm",
        "serve",
        names.BASE_MODEL_PATH,
        f"--served-model-name={plan.service.spec.base_model.name}",
        "--host=127.0.0.1",
        f"--port={names.PORT_ENGINE}",
        f"--dtype={DTYPES[engine.dtype]}",
        "--load-format=safetensors",
        "--uvicorn-log-level=warning",
        "--enable-lora",
        f"--max-loras={engine.adapters.slots}",
        f"--max-cpu-loras={max(engine.adapters.resident, engine.adapters.slots)}",
        f"--max-lora-rank={supported_rank(engine.adapters.max_rank)}",
    ]
    if engine.max_model_length is not None:
        result.append(f"--max-model-len={engine.max_model_length}")
    if engine.tensor_parallel > 1:
        result.append(f"--tensor-parallel-size={engine.tensor_parallel}")
    return result + plan.settings.engine.extra_arguments


def supported_rank(rank: int) -> int:
    """The lowest rank of vLLM's that an adapter of this rank fits into."""
    return next(r for r in VLLM_RANKS if r >= rank)


def _inputs(plan: EnginePlan) -> str:
    """A hash of what would have to change for engines to start anew.

    Defaults are left out: a field that a later release adds must not make another hash of a spec
    that says nothing about it.
    """
    spec = plan.service.spec
    parts = (spec.engine, spec.pod, plan.release, *([spec.signatures] if spec.signatures else []))
    return short_hash(
        spec.base_model.name,
        plan.base.digest,
        *(p.model_dump_json(exclude_defaults=True) for p in parts),
        length=16,
    )


def _kept_template(present: Manifest | None, inputs: str) -> Manifest | None:
    annotations = get(present, "metadata", "annotations", default={})
    if annotations.get(ANNOTATION_INPUTS) != inputs:
        return None
    try:
        template = json.loads(annotations.get(ANNOTATION_TEMPLATE, ""))
    except ValueError:
        return None
    return template if isinstance(template, dict) else None


def _template(plan: EnginePlan) -> Manifest:
    service = plan.service
    adapters: Manifest = {"emptyDir": {}}
    shared = pods.Mount.of("adapters", ADAPTER_DIRECTORY, adapters)
    owned = pods.Mount.of("adapters", ADAPTER_DIRECTORY, adapters, read_only=False)
    base = pods.model_image("base", names.BASE_MODEL_PATH, plan.base.uri, plan.settings)
    token = pods.Mount.of("api-token", TOKEN_DIRECTORY, children.api_token())
    credentials = pods.registry_credentials(plan.settings)
    # Each container has a /tmp of its own: vLLM's cache is no business of the agent's.
    engine_tmp = pods.Mount.of("engine-tmp", "/tmp", {"emptyDir": {}}, read_only=False)  # noqa: S108
    # vLLM's processes pass 160 MiB and more through shared memory, even a single one on a CPU.
    engine_mounts = [engine_tmp, base, shared, pods.shared_memory()]
    policy = service.spec.signatures
    trust = [pods.trusted_signers(policy.trust.name)] if policy else []
    if policy and policy.covers is SignedParts.ADAPTERS_AND_BASE:
        trust.append(base)
    agent_mounts = [pods.scratch_space(), owned, token, *credentials, *trust]
    spec = pods.pod_spec(
        [_agent(plan, agent_mounts)],
        [*engine_mounts, *agent_mounts],
        plan.settings,
        overrides=service.spec.pod,
        init_containers=[_engine(plan, engine_mounts)],
    )
    spec["serviceAccountName"] = children.name(service, names.ENGINE)
    spec["terminationGracePeriodSeconds"] = GRACE_SECONDS
    metadata = children.pod_metadata(service, names.ENGINE, names.PORT_AGENT)
    metadata["labels"] |= plan.labels
    return {"metadata": metadata, "spec": spec}


def _engine(plan: EnginePlan, mounts: list[pods.Mount]) -> Manifest:
    engine = plan.service.spec.engine
    environment = {
        "HF_HUB_OFFLINE": "1",
        "USER": "trimtab",  # torch asks for a name, and an arbitrary UID has none
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
        "VLLM_NO_USAGE_STATS": "1",
        "XDG_CACHE_HOME": "/tmp/.cache",  # noqa: S108 - inside the pod
        **({} if engine.gpus else CPU_ENVIRONMENT),
        **plan.settings.engine.environment,
    }
    container = pods.container(
        "engine",
        plan.release.engine_image,
        ["sh", "-c", FIRST_PROCESS, "engine", f"{names.PORT_ENGINE:04X}", *arguments(plan)],
        mounts,
        plan.settings,
        env=tuple(environment.items()),
        wants=pods.resources(engine.gpus, engine.cpu, engine.memory),
    )
    # vLLM listens on the pod's own loopback, where the kubelet cannot ask: the agent answers for it.
    # No startup probe: the agent, which would have to answer it, is started after the sidecar.
    container["livenessProbe"] = _asked("/readyz", period=HUNG_PERIOD_SECONDS, tries=HUNG_TRIES)
    container["restartPolicy"] = "Always"
    return container


def _agent(plan: EnginePlan, mounts: list[pods.Mount]) -> Manifest:
    service = plan.service
    container = pods.container(
        "agent",
        plan.release.agent_image,
        ["python", "-m", "trimtab_serving", "agent"],
        mounts,
        plan.settings,
        env=(
            ("TRIMTAB_NAMESPACE", service.metadata.namespace),
            ("TRIMTAB_SERVICE", service.metadata.name),
            ("TRIMTAB_ROUTING_CONFIGMAP", children.name(service, children.ROUTING)),
            ("TRIMTAB_ENGINE_URL", f"http://127.0.0.1:{names.PORT_ENGINE}"),
            ("TRIMTAB_BASE_NAME", service.spec.base_model.name),
            ("TRIMTAB_ADAPTER_DIRECTORY", ADAPTER_DIRECTORY),
            ("TRIMTAB_REGISTRY_CREDENTIALS", names.REGISTRY_CREDENTIALS_PATH),
            ("TRIMTAB_STOP_FINISH_SECONDS", str(FINISH_SECONDS)),
            *([("TRIMTAB_ROUTING_KEY", plan.table_key)] if plan.labels else []),
            *_trust(service),
        ),
        ports=(("agent", names.PORT_AGENT),),
        wants={"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
    )
    container["env"].append(pod_name())
    container["startupProbe"] = _asked("/healthz", period=1, tries=pods.STARTING_SECONDS)
    container["readinessProbe"] = _asked("/readyz", period=1, tries=3)
    container["livenessProbe"] = _asked("/healthz", period=10, tries=3)
    return container


def _trust(service: InferenceService) -> list[tuple[str, str]]:
    """Whom the agent is to believe."""
    policy = service.spec.signatures
    if policy is None:
        return []
    subjects = json.dumps(policy.certificate_subjects)
    named = [("TRIMTAB_TRUSTED_SUBJECTS", subjects)] if policy.certificate_subjects else []
    is_base_signed = policy.covers is SignedParts.ADAPTERS_AND_BASE
    base = [("TRIMTAB_SIGNED_BASE", names.BASE_MODEL_PATH)] if is_base_signed else []
    return [("TRIMTAB_TRUST", names.TRUST_PATH), *named, *base]


def pod_name() -> Manifest:
    """The pod's own name, as an environment variable."""
    return {"name": "TRIMTAB_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def _asked(path: str, *, period: int, tries: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.PORT_AGENT},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": tries,
    }
