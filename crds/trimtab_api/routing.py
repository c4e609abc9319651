"""The routing table: what engines load and where gateways send requests.

One ConfigMap per InferenceService, written by the operator, watched by its agents and gateways.
"""

from pydantic import Field

from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind


class EngineAddress(ApiModel):
    """One engine pod; `address` is host:port of its agent."""

    name: str
    address: str


class RoutedVersion(ApiModel):
    """A version that engines hold.

    The base itself stands in the table as a version of kind Full, which needs no load. `weight` is
    the share of the public name's requests; 0 keeps a version loaded without traffic. `base` is the
    digest of the base that an adapter was trained over.
    """

    version: str
    digest: str
    kind: ArtifactKind
    uri: str | None = None
    report: str | None = None
    signature: str | None = None
    rank: int | None = None
    base: str | None = None
    weight: int = 0


class RoutedModel(ApiModel):
    """A public model name and the versions behind it.

    `salt` changes with every rollout: who falls to the new version is drawn anew, and stays while
    its weight grows.
    """

    name: str
    versions: list[RoutedVersion]
    salt: str | None = None


class RoutingTable(ApiModel):
    """Everything that the data plane needs to know; it lives on with the last one it saw."""

    namespace: str
    service: str
    base_digest: str
    plain_http: bool = False
    engines: list[EngineAddress] = Field(default_factory=list)
    models: list[RoutedModel] = Field(default_factory=list)


class AdapterState(ApiModel):
    """What an agent says about one version in its engine.

    `engine_name` is the name under which vLLM knows it; a name is never used twice in one engine.
    `state` is Pending, Loading, Loaded or Failed; `reason` and `message` explain Failed, and
    Loaded with reason Indistinguishable.
    """

    version: str
    digest: str
    state: str
    engine_name: str | None = None
    reason: str | None = None
    message: str | None = None


class AgentReport(ApiModel):
    """Answer of GET /adapters on an agent.

    `sequence` grows with every change. `GET /adapters?after=N&wait=S` answers as soon as sequence
    is above N, or after S seconds with the same one. `verifies_signatures`: nothing is loaded here
    whose signature does not verify; `verifies_base`: nor over a base whose own does not.
    `knows_pools`: it follows the table of its own engines, where there are others with another base.
    `joins` says that the engine has every version that has requests: the operator names it in the
    table, and only then it is ready.
    """

    sequence: int
    verifies_signatures: bool = False
    verifies_base: bool = False
    knows_pools: bool = False
    engine_ready: bool
    joins: bool = False
    engine_message: str | None = None
    adapters: list[AdapterState] = Field(default_factory=list)


class ProbeAnswer(ApiModel):
    """Answer of GET /probe/{model} on a gateway's admin port: a real request went through."""

    model: str
    version: str | None = None
    ok: bool
    message: str | None = None
