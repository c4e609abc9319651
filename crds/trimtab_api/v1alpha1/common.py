"""Types that several kinds share."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from trimtab_api.definition import Definition
from trimtab_api.model import MAP_BY_NAME, TIMESTAMP, ApiModel, Rule

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
OCI_DIGEST_URI_PATTERN = r"^oci://[^@\s]+@sha256:[0-9a-f]{64}$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, max_length=71)]
ImageDigest = Annotated[
    str,
    Field(
        max_length=71,
        description="What a node has found under the image's name: the digest of the manifest that it has pulled, "
        "or of the configuration where the image was loaded into the node.",
    ),
]
ObjectName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
# Public model names become parts of object names and label values, so they stay short labels.
ModelName = Annotated[str, Field(min_length=1, max_length=50, pattern=NAME_PATTERN)]
Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Quantity = Annotated[
    str, Field(max_length=16, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
]

# Seconds; 68 years. A Job counts its deadline in nanoseconds, in 64 bits: one of 300 years has passed already.
LONGEST_SPAN = 2**31 - 1

ONE_GPU = Rule(
    "self.gpus <= 1",
    "resources.gpus must be 0 or 1, because nothing is trained or evaluated on several GPUs yet; set gpus: 1",
    at=".gpus",
)


class ConditionStatus(StrEnum):
    """The three answers that a condition can give."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One observation about the object, in the form of metav1.Condition."""

    type: Annotated[str, Field(max_length=316, description="What is observed.")]
    status: Annotated[
        ConditionStatus, Field(description="Whether it holds; Unknown when it was not measured.")
    ]
    reason: Annotated[str, Field(max_length=128, description="Machine-readable cause, CamelCase.")]
    message: Annotated[str, Field(max_length=2048, description="One sentence for people.")] = ""
    last_transition_time: Annotated[
        str,
        Field(
            max_length=32,
            description="When the status last changed (RFC 3339).",
            json_schema_extra=TIMESTAMP,
        ),
    ]
    observed_generation: Annotated[
        int, Field(ge=0, description="The metadata.generation that this observation is about.")
    ] = 0


class NamedReference(ApiModel):
    """An object in the same namespace, by name."""

    name: Annotated[ObjectName, Field(description="Name of the object, in the same namespace.")]


class SecretReference(ApiModel):
    """A Secret in the same namespace, mounted into the pod that needs it and read by nobody else."""

    secret_name: Annotated[
        ObjectName, Field(description="Name of the Secret, in the same namespace.")
    ]


class ObjectMeta(ApiModel):
    """The parts of metadata that Trimtab reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


Spec = TypeVar("Spec", bound=ApiModel)
Status = TypeVar("Status", bound=ApiModel)


class Resource(ApiModel, Generic[Spec, Status]):
    """A custom resource as the API server hands it out."""

    definition: ClassVar[Definition]

    metadata: ObjectMeta
    spec: Spec
    status: Status

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.metadata.namespace, self.metadata.name)


class PodToleration(ApiModel):
    """A taint that the pod tolerates, as in core/v1."""

    key: Annotated[
        str | None, Field(max_length=316, description="Key of the taint; empty matches all.")
    ] = None
    operator: Annotated[
        Literal["Exists", "Equal"] | None, Field(description="Exists or Equal; empty means Equal.")
    ] = None
    value: Annotated[str | None, Field(max_length=63, description="Value of the taint.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="NoSchedule, PreferNoSchedule or NoExecute; empty matches all."),
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(description="How long NoExecute is tolerated.")
    ] = None


LabelKey = Annotated[str, Field(min_length=1, max_length=316)]
LabelValue = Annotated[str, Field(max_length=63, description="Value of the label.")]


class EnvVar(ApiModel):
    """A plain environment variable; secrets go through credentials, never here."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Name of the variable.",
        ),
    ]
    value: Annotated[str, Field(max_length=4096, description="Value of the variable.")] = ""


class PodOverrides(ApiModel):
    """What a user may say about the pods that are made for them."""

    node_selector: Annotated[
        dict[LabelKey, LabelValue],
        Field(max_length=32, description="Labels that the node must have."),
    ] = Field(default_factory=dict)
    tolerations: Annotated[
        list[PodToleration], Field(max_length=32, description="Taints that are tolerated.")
    ] = Field(default_factory=list)
    priority_class_name: Annotated[
        str | None, Field(max_length=253, description="Priority class of the pods.")
    ] = None
    image_pull_secrets: Annotated[
        list[NamedReference],
        Field(
            max_length=8,
            description="Secrets to pull images and image volumes with.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=64,
            description="Further environment variables, HTTPS_PROXY for example.",
            json_schema_extra=MAP_BY_NAME,
        ),
    ] = Field(default_factory=list)


AnyResource = Resource[Any, Any]
