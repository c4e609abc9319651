"""InferenceService: a base model on vLLM engines, adapters over it, and a gateway in front."""

from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.definition import AGE, Column, Definition, Scale, message_of, reason_of, status_of
from trimtab_api.model import MAP_BY_ACTION, MAP_BY_NAME, MAP_BY_TYPE, ApiModel, Rule
from trimtab_api.rules import OWNER_NAME_LENGTH, exactly_one, model_address, short_name
from trimtab_api.v1alpha1.common import (
    Condition,
    ModelName,
    NamedReference,
    ObjectName,
    PodOverrides,
    Resource,
    SecretReference,
    Uri,
)
from trimtab_api.v1alpha1.drift import Drift, DriftStatus, Retrain
from trimtab_api.v1alpha1.engine import Engine
from trimtab_api.v1alpha1.gateway import Gateway
from trimtab_api.v1alpha1.pools import BaseChange, EnginePool
from trimtab_api.v1alpha1.rollout import (
    BaseRollout,
    ModelRuling,
    RollbackStatus,
    Rollout,
    RolloutStatus,
)
from trimtab_api.v1alpha1.signing import SignaturePolicy
from trimtab_api.v1alpha1.traffic import MOST_UNUSUAL_KEYS, UnusualKey


class ServedBase(ApiModel):
    """The model that the engines hold; exactly one of uri and modelVersion. Served under its name too."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "uri", "modelVersion", what="baseModel", remedy="keep one and remove the other"
        ),
        *model_address("baseModel"),
        Rule(
            "!has(self.rollout) || has(self.modelVersion)",
            "baseModel.rollout is about changes of baseModel.modelVersion, and a uri cannot be changed; name a "
            "modelVersion, or remove rollout",
            at=".rollout",
        ),
    )

    name: Annotated[ModelName, Field(description="Its public name in the OpenAI API.")]
    uri: Annotated[
        Uri | None, Field(description="Address: hf://org/name, oci://, s3:// or pvc://claim/path.")
    ] = None
    revision: Annotated[
        str | None, Field(max_length=128, description="For hf:// only: the commit.")
    ] = None
    credentials: Annotated[
        SecretReference | None, Field(description="Secret that the address asks for.")
    ] = None
    model_version: Annotated[
        NamedReference | None, Field(description="A full ModelVersion of this namespace.")
    ] = None
    rollout: Annotated[
        BaseRollout | None,
        Field(
            description="How another modelVersion takes over; without it, with all requests as soon as its engines are "
            "there."
        ),
    ] = None


class VersionSelector(ApiModel):
    """Which version is served; exactly one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "name",
            "latestOf",
            what="models.version",
            remedy="name a ModelVersion, or follow a model with latestOf",
        ),
    )

    name: Annotated[ObjectName | None, Field(description="This ModelVersion.")] = None
    latest_of: Annotated[
        ModelName | None, Field(description="The newest Ready version of this model.")
    ] = None


_MAKES_JOBS = "has(self.drift) && self.drift.onDrift in ['Propose', 'Retrain']"


class ServedModel(ApiModel):
    """A public model name and what stands behind it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!({_MAKES_JOBS}) || has(self.retrain)",
            "drift.onDrift Propose and Retrain need retrain.template, from which a FineTuneJob is made; add it, or set "
            "onDrift: Alert",
            at=".retrain",
        ),
        Rule(
            "!has(self.drift) || self.drift.onDrift != 'Retrain' || has(self.version.latestOf)",
            "drift.onDrift Retrain is of use only where the new version is served by itself; set version.latestOf, or "
            "onDrift: Propose",
            at=".drift.onDrift",
        ),
        Rule(
            f"!has(self.retrain) || ({_MAKES_JOBS})",
            "retrain is for drift.onDrift Propose or Retrain; set one of them, or remove retrain",
            at=".retrain",
        ),
    )

    name: Annotated[ModelName, Field(description="Public name in the OpenAI API.")]
    version: Annotated[VersionSelector, Field(description="Which version is served.")]
    rollout: Annotated[
        Rollout | None,
        Field(
            description="How a new version gets its requests; without it all of them as soon as it is loaded."
        ),
    ] = None
    drift: Annotated[
        Drift | None,
        Field(description="Whether its traffic is watched, and what follows when it has moved."),
    ] = None
    retrain: Annotated[
        Retrain | None, Field(description="How a successor is trained; for drift.onDrift.")
    ] = None


class InferenceServiceSpec(ApiModel):
    """What is served and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.baseModel.name == oldSelf.baseModel.name",
            "spec.baseModel.name cannot be changed, because callers know the base by it; create a new InferenceService",
            at=".baseModel.name",
        ),
        Rule(
            "has(self.baseModel.modelVersion) || self.baseModel == oldSelf.baseModel",
            "spec.baseModel can be changed to another modelVersion only, because what takes over has to be evaluated; "
            "create a ModelVersion of kind Full and name it in spec.baseModel.modelVersion",
            at=".baseModel",
        ),
        Rule(
            "!has(self.models) || !self.models.exists(m, m.name == self.baseModel.name)",
            "models.name must not be baseModel.name, under which the base itself is served; rename one of them",
            at=".models",
        ),
        Rule(
            "!has(self.signatures) || self.signatures.covers != 'AdaptersAndBase' || has(self.baseModel.modelVersion)",
            "signatures.covers AdaptersAndBase needs a base that can be signed; register it as a ModelVersion with "
            "spec.signing and name it in baseModel.modelVersion, or set covers: Adapters",
            at=".signatures.covers",
        ),
        Rule(
            "has(self.gateway) && has(self.gateway.feedback) || !has(self.models) || !self.models.exists(m, has(m.drift) "
            "&& has(m.drift.signals) && m.drift.signals.exists(s, s == 'NegativeFeedback'))",
            "drift.signals NegativeFeedback needs feedback to count; set gateway.feedback, or remove the signal",
            at=".models",
        ),
    )

    base_model: Annotated[
        ServedBase,
        Field(description="What the engines hold; only to another modelVersion can it be changed."),
    ]
    replicas: Annotated[int | None, Field(ge=0, le=1000, description="Engines; empty means 1.")] = (
        None
    )
    engine: Annotated[Engine, Field(description="One engine.")] = Engine()
    models: Annotated[
        list[ServedModel],
        Field(
            max_length=256, description="Adapters by public name.", json_schema_extra=MAP_BY_NAME
        ),
    ] = Field(default_factory=list)
    gateway: Annotated[Gateway, Field(description="The front.")] = Gateway()
    signatures: Annotated[
        SignaturePolicy | None,
        Field(
            description="Engines load only what is signed by somebody trusted, and start anew when this changes. "
            "Without it signatures are not looked at."
        ),
    ] = None
    pod: Annotated[
        PodOverrides, Field(description="Scheduling and environment of the engine pods.")
    ] = PodOverrides()


class ServedModelStatus(ApiModel):
    """What stands behind one public name now."""

    name: Annotated[str, Field(max_length=50, description="Public name.")]
    active_version: Annotated[
        str | None, Field(max_length=253, description="ModelVersion that answers.")
    ] = None
    candidate_version: Annotated[
        str | None,
        Field(max_length=253, description="ModelVersion that is being loaded, or rolled out."),
    ] = None
    weight: Annotated[
        int | None,
        Field(ge=0, le=100, description="The candidate's share of the requests, per cent."),
    ] = None
    rollout: Annotated[
        RolloutStatus | None,
        Field(description="The rollout under way, or the promoted version that is guarded."),
    ] = None
    last_rollback: Annotated[
        RollbackStatus | None, Field(description="The last version that lost its requests.")
    ] = None
    decisions: Annotated[
        list[ModelRuling],
        Field(
            max_length=8,
            description="The last Decision of each action on this name, whether or not it is still there.",
            json_schema_extra=MAP_BY_ACTION,
        ),
    ] = Field(default_factory=list)
    drift: Annotated[DriftStatus | None, Field(description="Its traffic, beside what it was.")] = (
        None
    )
    reason: Annotated[
        str | None,
        Field(max_length=128, description="Machine-readable cause, where something is in the way."),
    ] = None
    message: Annotated[
        str | None,
        Field(
            max_length=512,
            description="The same in one sentence, or what else is to be said of the version.",
        ),
    ] = None


class FrozenRelease(ApiModel):
    """Images that the engines run; they move to a new release only when asked."""

    engine_image: Annotated[str, Field(max_length=1024, description="vLLM.")]
    agent_image: Annotated[str, Field(max_length=1024, description="The agent beside it.")]
    requested: Annotated[
        str | None, Field(max_length=253, description="The last request to move that was served.")
    ] = None


class InferenceServiceStatus(ApiModel):
    """What is served now."""

    observed_generation: Annotated[
        int, Field(ge=0, description="The generation that status is about.")
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="EngineReady, AdaptersReady, GatewayReady, Ready, RolloutProgressing, RolledBack, "
            "DriftDetected, AbuseDetected.",
            json_schema_extra=MAP_BY_TYPE,
        ),
    ] = Field(default_factory=list)
    url: Annotated[str | None, Field(max_length=1024, description="Where the OpenAI API is.")] = (
        None
    )
    replicas: Annotated[int, Field(ge=0, description="Engines that exist.")] = 0
    selector: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Label selector of the engines of the base that answers, for autoscalers.",
        ),
    ] = None
    base_uri: Annotated[
        str | None, Field(max_length=1024, description="The base in the registry, by digest.")
    ] = None
    base_digest: Annotated[str | None, Field(max_length=71, description="Digest of the base.")] = (
        None
    )
    release: Annotated[FrozenRelease | None, Field(description="Images of the engines.")] = None
    unusual_keys: Annotated[
        list[UnusualKey],
        Field(
            max_length=MOST_UNUSUAL_KEYS,
            description="Keys that are unusual now; for gateway.abuse.",
        ),
    ] = Field(default_factory=list)
    engine_pools: Annotated[
        list[EnginePool],
        Field(
            max_length=4,
            description="The engines of each base; empty while there were never others than those of the first.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)
    base_change: Annotated[
        BaseChange | None,
        Field(description="What was decided about a base that there was no room for."),
    ] = None
    models: Annotated[
        list[ServedModelStatus],
        Field(
            max_length=257,
            description="What stands behind each name.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)


class InferenceService(Resource[InferenceServiceSpec, InferenceServiceStatus]):
    """A base model on vLLM engines, adapters over it, and a gateway in front."""

    rules: ClassVar[tuple[Rule, ...]] = short_name(
        "InferenceService", OWNER_NAME_LENGTH, starts_with_letter=True
    )
    definition: ClassVar[Definition] = Definition(
        kind="InferenceService",
        plural="inferenceservices",
        short_name="tis",
        columns=(
            Column("Base", ".spec.baseModel.name", description="Public name of the base."),
            Column("Engines", ".status.replicas", "integer", description="Engines that exist."),
            Column("Ready", status_of("Ready"), description="Whether every model answers."),
            Column("Reason", reason_of("Ready"), description="Why it is Ready or not."),
            Column("URL", ".status.url", description="Where the OpenAI API is."),
            AGE,
            Column(
                "Rollout",
                reason_of("RolloutProgressing"),
                priority=1,
                description="How a rollout is.",
            ),
            Column(
                "Drift",
                status_of("DriftDetected"),
                priority=1,
                description="Whether its traffic has moved.",
            ),
            Column(
                "Engine-Ready", status_of("EngineReady"), priority=1, description="Engines answer."
            ),
            Column(
                "Adapters-Ready",
                status_of("AdaptersReady"),
                priority=1,
                description="Adapters are loaded.",
            ),
            Column(
                "Gateway-Ready",
                status_of("GatewayReady"),
                priority=1,
                description="Gateways answer.",
            ),
            Column(
                "Message",
                message_of("Ready"),
                priority=1,
                description="What is wrong, in one sentence.",
            ),
        ),
        scale=Scale(),
    )

    status: InferenceServiceStatus = InferenceServiceStatus()
