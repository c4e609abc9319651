"""What the chart tells the operator: one document, read once at the start."""

from enum import StrEnum
from typing import Any, Final, Self

from pydantic import Field, model_validator

from trimtab_api.model import ApiModel

SETTINGS_PATH: Final = "/etc/trimtab/operator.json"


class Images(ApiModel):
    """Images of the pods that the operator starts."""

    pipelines: str
    serving: str
    engine: str


class RegistrySettings(ApiModel):
    """The OCI registry that holds artifacts.

    `prefix` is host[:port]/path. The Secret is looked up in the user's namespace by the kubelet;
    where it is absent the pod goes without. The operator's own copy is a mounted file.
    """

    prefix: str
    plain_http: bool = False
    credentials_secret: str = ""


class EngineSettings(ApiModel):
    """What engines get beside what the InferenceService says."""

    extra_arguments: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)


class ExposureKind(StrEnum):
    """How a service is reached from outside the cluster."""

    NONE = "None"
    INGRESS = "Ingress"
    HTTP_ROUTE = "HTTPRoute"
    ROUTE = "Route"


class Exposure(ApiModel):
    """Outside address of services; `{name}` and `{namespace}` are filled in."""

    kind: ExposureKind = ExposureKind.NONE
    host: str = "{name}.{namespace}.example.com"
    tls_secret: str = ""
    class_name: str = ""
    parent_ref: str = ""


class NetworkSettings(ApiModel):
    """Who may reach engines and gateways' admin ports, where the cluster enforces NetworkPolicies.

    Without the operator's own namespace no policy is written: it would shut the operator out.
    Prometheus may be elsewhere; without its namespace it cannot scrape engines.
    """

    operator_namespace: str = ""
    prometheus_namespace: str = ""


class PrometheusSettings(ApiModel):
    """Where the figures of rollouts come from; without a url nothing is promoted by figures.

    `url` is http(s)://host[:port][/path], below which /api/v1/query is. `token_file` holds a bearer
    token for it, `ca_file` the certificates that its own is held against; both are read again when
    they change. A token goes by TLS or not at all.
    """

    url: str = ""
    token_file: str = ""
    ca_file: str = ""

    @model_validator(mode="after")
    def _token_goes_by_tls(self) -> Self:
        if self.token_file and self.url and not self.url.startswith("https://"):
            raise ValueError("prometheus.tokenFile is sent by https alone; change prometheus.url")
        return self


class RaySettings(ApiModel):
    """Whether KubeRay is in the cluster, so that its RayJobs can be made and followed."""

    enabled: bool = False


class Retention(ApiModel):
    """How long after its retirement a version's artifact is deleted; 0 is never."""

    delete_retired_after_seconds: int = Field(default=0, ge=0)


class LeaderElection(ApiModel):
    """The Lease that decides which replica works.

    Without it there must never be two operators for the same namespaces, not even for a moment.
    """

    enabled: bool = True
    namespace: str = ""
    lease: str = "trimtab-operator"


class Settings(ApiModel):
    """The operator's settings; an unknown field is a newer chart's and is left alone.

    `pod_security_context` is merged over that of every pod: a fixed user or fsGroup where a
    cluster does not choose them by itself. After `resync_seconds` everything is listed and looked
    at again, whatever the watches have said. `profiling` opens /debug/profile beside /metrics.
    `account` is the user name under which the API server knows the operator: it signs its Decisions.
    """

    images: Images
    image_pull_policy: str = "IfNotPresent"
    registry: RegistrySettings
    engine: EngineSettings = EngineSettings()
    exposure: Exposure = Exposure()
    network: NetworkSettings = NetworkSettings()
    retention: Retention = Retention()
    prometheus: PrometheusSettings = PrometheusSettings()
    ray: RaySettings = RaySettings()
    leader_election: LeaderElection = LeaderElection()
    resync_seconds: int = Field(default=600, ge=1)
    profiling: bool = False
    account: str = "system:serviceaccount:trimtab-system:trimtab-operator"
    watch_namespaces: list[str] = Field(default_factory=list)
    pod_security_context: dict[str, Any] = Field(default_factory=dict)
