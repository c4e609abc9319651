"""What has to be there when an object is at rest, from its spec alone: no builder of the operator's is asked.

Each function returns what is wrong, in sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.builders import Manifest
from tests.faults.mirror import Answering, answering, digest_routed
from tests.faults.podexpectations import amount, pod_faults, resource_faults, unlike

PRIORITIES: Final = ("", "system-cluster-critical", "system-node-critical")
ODD: Final = ("nodeSelector", "tolerations", "env", "priorityClassName", "imagePullSecrets")


@dataclass(frozen=True)
class World:
    """What the lanes find in the namespace and share."""

    base: str
    base_uri: str
    ranks: Mapping[str, int]  # of the adapters that are Ready, on that base
    latest: Mapping[str, str]  # by model
    artifacts: Sequence[Mapping[str, Any]] = ()  # those that the registry has
    digests: Mapping[str, str] = field(default_factory=dict)  # by version, where they may change


@dataclass(frozen=True)
class Family:
    """One of our objects and what was made for it."""

    owner: Manifest
    children: Sequence[Manifest] = field(default_factory=tuple)

    @property
    def spec(self) -> Manifest:
        return dict(self.owner["spec"])

    def find(self, kind: str, part: str) -> Manifest | None:
        """The child that is called <owner>-<part>."""
        name = f"{self.owner['metadata']['name']}-{part}"
        found = (c for c in self.children if c["kind"] == kind and c["metadata"]["name"] == name)
        return next(found, None)

    def of_component(self, kind: str, component: str) -> Manifest | None:
        """The child that carries this label."""
        return next(
            (
                c
                for c in self.children
                if c["kind"] == kind
                and c["metadata"].get("labels", {}).get("app.kubernetes.io/component") == component
            ),
            None,
        )

    def says(self, condition: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        conditions = self.owner.get("status", {}).get("conditions", [])
        nothing: Manifest = {}
        found = next((c for c in conditions if c["type"] == condition), nothing)
        return found.get("status", "absent"), found.get("reason", ""), found.get("message", "")


def observed(family: Family) -> list[str]:
    """Status speaks of the spec as it is."""
    generation = family.owner["metadata"]["generation"]
    status = family.owner.get("status", {})
    about = {"status": status.get("observedGeneration")} | {
        c["type"]: c.get("observedGeneration") for c in status.get("conditions", [])
    }
    return [
        f"{what} is about generation {seen}, the spec is generation {generation}"
        for what, seen in about.items()
        if seen != generation
    ]


# --- InferenceService ---


def service_faults(family: Family, world: World) -> list[str]:
    """What is wrong with a service at rest."""
    status, reason, message = family.says("Ready")
    blocked = list(obstacles(family.spec, world))
    is_refused = reason == "ChildRefused"
    found = observed(family)
    if is_refused and not is_odd(family.spec["pod"]):
        found.append(f"a child was refused though nothing odd was asked for: {message}")
    if status == "True" and blocked:
        found.append(f"Ready is True, but {'; '.join(blocked)}")
    if status != "True" and not (blocked or is_refused):
        found.append(f"Ready is {status} ({reason}: {message}), but nothing is in the way")
    if not _has_base(family.spec, world):
        return found
    if not is_refused:
        found += _engine(family)
    if family.of_component("ConfigMap", "drift") and not any(
        map(is_watched, family.spec["models"])
    ):
        found.append("what was learned of traffic is kept though nothing is watched")
    return [*found, *_gateway(family), *_routing(family, world, is_stuck=bool(is_refused))]


def is_watched(model: Manifest) -> bool:
    """Whether drift is looked for."""
    return model.get("drift") is not None


def obstacles(spec: Manifest, world: World) -> Iterator[str]:
    """Why a service with this spec must not say that it is Ready."""
    if not _has_base(spec, world):
        yield "there is no such base"
    if spec.get("replicas") == 0:
        yield "no engine is wanted"
    if spec["pod"].get("priorityClassName", "") not in PRIORITIES:
        yield "there is no such priority class"
    for model in spec.get("models", []):
        if fulfilled(model, spec, world) is None:
            yield f"{model['name']} asks for what is not there"


def fulfilled(model: Manifest, spec: Manifest, world: World) -> str | None:
    """The version that has to answer; None where the spec asks for what cannot be served."""
    version = model["version"]
    name = version.get("name") or world.latest.get(version.get("latestOf", ""), "")
    rank = world.ranks.get(name)
    is_on_base = _is_shared_base(spec["baseModel"], world)
    return name if is_on_base and rank and rank <= spec["engine"]["adapters"]["maxRank"] else None


def is_odd(pod: Manifest) -> bool:
    """Whether the API server may find something in it that no schema of ours can know."""
    return any(pod.get(name) for name in ODD)


def went_dark(before: Answering, tables: Sequence[Answering]) -> list[str]:
    """Models that are still wanted, were answered, and then had nobody."""
    return [
        f"{name} was answered by {version} and then by nobody"
        for name, version in before.items()
        if version and any(name in table and table[name] is None for table in tables)
    ]


def _has_base(spec: Manifest, world: World) -> bool:
    named = spec["baseModel"].get("modelVersion", {}).get("name")
    return named is None or named == world.base


def _is_shared_base(base: Manifest, world: World) -> bool:
    named = base.get("modelVersion", {}).get("name")
    return named == world.base or base.get("uri") == world.base_uri


def _engine(family: Family) -> list[str]:
    spec, deployment = family.spec, family.find("Deployment", "engine")
    if deployment is None:
        return ["there is no engine Deployment"]
    engine, pod = spec["engine"], deployment["spec"]["template"]["spec"]
    vllm = next(c for c in pod["initContainers"] if c["name"] == "engine")
    gpus = str(engine["gpus"]) if engine["gpus"] else None
    wanted = {
        "--dtype=": engine["dtype"].lower(),
        "--max-loras=": str(engine["adapters"]["slots"]),
        "--max-cpu-loras=": str(engine["adapters"]["resident"]),
        "--max-model-len=": _text(engine.get("maxModelLength")),
        "--tensor-parallel-size=": _text(engine["tensorParallel"], but=1),
        "--served-model-name=": spec["baseModel"]["name"],
    }
    rank = int(_argument(vllm["command"], "--max-lora-rank=") or 0)
    return [
        *unlike("engines", deployment["spec"]["replicas"], spec.get("replicas", 1)),
        *(
            line
            for flag, value in wanted.items()
            for line in unlike(flag, _argument(vllm["command"], flag), value)
        ),
        *([] if rank >= engine["adapters"]["maxRank"] else [f"--max-lora-rank={rank} is too low"]),
        *resource_faults(vllm, engine.get("cpu"), engine.get("memory"), gpus),
        *pod_faults(pod, spec["pod"]),
        *unlike("whom agents trust", _trusted(pod), spec.get("signatures", {}).get("trust")),
        # None is what there was before anything was written.
        *unlike("status.replicas", _status(family, "replicas") or 0, _counted(deployment)),
    ]


def _trusted(pod: Manifest) -> Manifest | None:
    maps = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    return {"name": maps[0]} if maps else None


def _gateway(family: Family) -> list[str]:
    spec, deployment = family.spec, family.find("Deployment", "gateway")
    if deployment is None:
        return ["there is no gateway Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    secrets = [v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v]
    gateway = spec["gateway"]
    mounted = [gateway.get("apiKeys"), gateway.get("feedback", {}).get("secret")]
    return [
        *unlike("gateways", deployment["spec"]["replicas"], spec["gateway"]["replicas"]),
        *unlike("the gateways' keys", secrets, [each["secretName"] for each in mounted if each]),
    ]


def _routing(family: Family, world: World, *, is_stuck: bool) -> list[str]:
    spec, config_map = family.spec, family.find("ConfigMap", "routing")
    if config_map is None:
        return ["there is no routing table"]
    table = answering(config_map)
    models = spec.get("models", [])
    called = sorted([spec["baseModel"]["name"], *(m["name"] for m in models)])
    told = {m["name"]: m.get("activeVersion") for m in _status(family, "models") or []}
    found = [
        *unlike("the routed names", sorted(table), called),
        *unlike("status.models", told, table),
    ]
    if is_stuck or spec.get("replicas") == 0 or spec["pod"].get("priorityClassName"):
        return found  # who answers depends on the engines that are still there
    for model in models:
        wanted = fulfilled(model, spec, world)
        if wanted and table.get(model["name"]) != wanted:
            found.append(f"{model['name']} is answered by {table.get(model['name'])}, not {wanted}")
        elif wanted and wanted in world.digests:
            behind = digest_routed(config_map, model["name"])
            found += unlike(f"the digest of {wanted}", behind, world.digests[wanted])
    return found


# --- FineTuneJob ---


def job_faults(family: Family, world: World, *, is_held: bool) -> list[str]:
    """What is wrong with a job at rest; one that is held trains on."""
    spec = family.spec
    verdicts = {name: family.says(name) for name in ("Started", "Complete", "Failed", "Suspended")}
    ends = {name for name in ("Complete", "Failed") if verdicts[name][0] == "True"}
    found = observed(family)
    if verdicts["Suspended"][0] == "True" and not spec["suspend"]:
        found.append("Suspended is True, but spec.suspend is false")
    if len(ends) == 2:
        found.append("it is Complete and Failed")
    if "Failed" in ends and not _may_fail(spec, world):
        found.append(f"it failed: {verdicts['Failed'][2]}")
    if not ends:
        found += _unended(spec, verdicts, world, is_held=is_held)
    return [*found, *_stages(family, is_over=bool(ends)), *_made(family, world)]


def is_over(job: Manifest) -> bool:
    """Whether there is a verdict."""
    family = Family(job)
    return any(family.says(name)[0] == "True" for name in ("Complete", "Failed"))


def _unended(
    spec: Manifest, verdicts: Mapping[str, tuple[str, str, str]], world: World, *, is_held: bool
) -> list[str]:
    status, reason, message = verdicts["Started"]
    if spec["suspend"]:
        said = verdicts["Suspended"][0]
        return [] if said == "True" else [f"Suspended is {said}, but spec.suspend is true"]
    named = spec["baseModel"].get("modelVersion", {}).get("name", world.base)
    is_short = named != world.base or "name" in spec.get("dataset", {})  # no Dataset is there
    if is_short or spec["pod"].get("priorityClassName", "") not in PRIORITIES:
        return [] if status != "True" else ["Started is True, but what it needs is not there"]
    is_excused = is_odd(spec["pod"]) or _is_odd_claim(spec["storage"])
    if reason == "Refused" and is_excused:
        return []
    if is_held and status == "True":
        return []
    return [f"Started is {status} ({reason}: {message}), but nothing is in the way"]


def _made(family: Family, world: World) -> list[str]:
    """What came out of it is judged like any other version."""
    name = _status(family, "modelVersion")
    made = [c for c in family.children if c["kind"] == "ModelVersion"]
    return [
        f"{name}: {line}"
        for version in made
        if version["metadata"]["name"] == name
        for line in version_faults(Family(version), world)
    ]


def _is_odd_claim(storage: Manifest) -> bool:
    return bool(storage.get("className")) or not amount(storage["size"])


def _may_fail(spec: Manifest, world: World) -> bool:
    named = spec["baseModel"].get("modelVersion", {}).get("name")
    return named in world.ranks or spec.get("activeDeadlineSeconds", 60) < 60


def _stages(family: Family, *, is_over: bool) -> list[str]:
    spec = family.spec
    found: list[str] = []
    for stage in ("prepare", "train"):
        job = family.of_component("Job", stage)
        if job is None:
            continue
        pod = job["spec"]["template"]["spec"]
        gpus = spec["resources"]["gpus"] if stage == "train" else 0
        wants = spec["resources"]
        found += [
            *unlike(f"{stage}: backoffLimit", job["spec"]["backoffLimit"], spec["backoffLimit"]),
            *pod_faults(pod, spec["pod"]),
            *resource_faults(
                pod["containers"][0], wants.get("cpu"), wants.get("memory"), _text(gpus, but=0)
            ),
        ]
        if not (is_over or job.get("status", {}).get("conditions")):
            deadline = spec.get("activeDeadlineSeconds")
            found += unlike(f"{stage}: suspend", job["spec"]["suspend"], spec["suspend"])
            found += unlike(
                f"{stage}: deadline", job["spec"].get("activeDeadlineSeconds"), deadline
            )
    return found


# --- ModelVersion ---


def version_faults(family: Family, world: World) -> list[str]:
    """What is wrong with a version at rest."""
    spec, found = family.spec, observed(family)
    status, reason, message = family.says("Ready")
    evaluation = spec["evaluation"]
    judged = _status(family, "evaluation") or {}
    values = {m["metric"]: m["value"] for m in judged.get("metrics", [])}
    missed = [g for g in evaluation.get("gates", []) if not _passes(g, values)]
    if status == "True" and missed:
        found.append(f"Ready is True, but gates are missed: {missed}")
    if status == "True" and evaluation.get("report") and spec["artifact"] not in world.artifacts:
        found.append("Ready is True, but there is no such artifact")
    if status == "True" and spec.get("signing") and family.says("Signed")[0] != "True":
        found.append("Ready is True, but it is to be signed and is not")
    if status == "Unknown" and reason in {"", "Evaluating", "Signing"} and not _waits(spec, world):
        found.append(f"it is still not evaluated: {reason}: {message}")
    return found


def _passes(gate: Manifest, values: Mapping[str, float]) -> bool:
    value = values.get(gate["metric"])
    if value is None:
        return False
    return bool(gate.get("atLeast", value) <= value <= gate.get("atMost", value))


def _waits(spec: Manifest, world: World) -> bool:
    named = spec.get("baseModel", {}).get("modelVersion", {}).get("name", world.base)
    pod = spec["evaluation"]["pod"]
    return named != world.base or pod.get("priorityClassName", "") not in PRIORITIES


def _argument(command: Sequence[str], flag: str) -> str | None:
    return next((a.removeprefix(flag) for a in command if a.startswith(flag)), None)


def _text(value: object, but: object = None) -> str | None:
    return None if value in {None, but} else str(value)


def _status(family: Family, name: str) -> Any:
    return family.owner.get("status", {}).get(name)


def _counted(deployment: Manifest) -> int:
    return int(deployment.get("status", {}).get("replicas", 0))
