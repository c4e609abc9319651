"""What was seen of an InferenceService and its surroundings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab_api.routing import AgentReport
from trimtab_api.v1alpha1 import Decision, InferenceService, ModelVersion
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_operator.domain.inferenceservice.base import Preparation
from trimtab_operator.domain.inferenceservice.looks import Heard
from trimtab_operator.domain.inferenceservice.pools import pool_name
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.policy import NO_RULES, NamespacePolicy


@dataclass(frozen=True)
class Pods:
    """What runs: Deployments and pods of engines and gateways, and what keeps drains from taking all."""

    engine_deployments: tuple[Manifest, ...] = ()
    engine_budgets: tuple[Manifest, ...] = ()
    gateway_deployment: Manifest | None = None
    engines: tuple[Manifest, ...] = ()
    gateways: tuple[Manifest, ...] = ()

    def engines_of(self, pool: str) -> Manifest | None:
        """The Deployment of a pool."""
        return next((d for d in self.engine_deployments if pool_name(d) == pool), None)


@dataclass(frozen=True)
class Observed:
    """Everything that the first decision rests on."""

    service: InferenceService
    versions: Mapping[str, ModelVersion] = field(default_factory=dict)
    base: ModelVersion | None = None
    preparation: Preparation = field(default_factory=Preparation)
    routing: Manifest | None = None
    pods: Pods = field(default_factory=Pods)
    reports: Mapping[str, AgentReport | None] = field(default_factory=dict)
    exposures: tuple[Manifest, ...] = ()
    policy: NamespacePolicy = NO_RULES
    # About names of this service; and the last Quarantine or LiftQuarantine of each digest.
    decisions: tuple[Decision, ...] = ()
    isolations: Mapping[str, Ruling] = field(default_factory=dict)
    # What was noted of rollouts, a ConfigMap for each model.
    evidence: tuple[Manifest, ...] = ()
    heard: Mapping[str, Heard] = field(default_factory=dict)
