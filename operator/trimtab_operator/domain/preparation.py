"""The pod that prepares data, for whichever kind asks: what it finds where, and what it has to tell."""

from collections.abc import Sequence
from typing import Final

from trimtab_api import names
from trimtab_api.documents import PrepareResult
from trimtab_api.reasons import FailureReason, JobReason
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_api.v1alpha1.data import DataDescription
from trimtab_operator.domain import pods
from trimtab_operator.domain.events import Event, about
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.naming import child_name

PROGRAM: Final = ("python", "-m", "trimtab_pipelines", names.PREPARE)
# What comes back by itself is waited for, however long it takes; anything else is a verdict.
OUTAGES: Final = frozenset(
    {
        FailureReason.REGISTRY_UNREACHABLE,
        FailureReason.SOURCE_UNREACHABLE,
        FailureReason.ENDPOINT_UNREACHABLE,
    }
)
# An Event holds 1,024 characters.
_REMARKS_AT_MOST: Final = 8
_MESSAGE_AT_MOST: Final = 1000


def scratch_claim(size: str, class_name: str | None) -> pods.Mount:
    """A volume that the cluster makes for this pod alone and takes away with it."""
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if class_name:
        spec["storageClassName"] = class_name
    source = {"ephemeral": {"volumeClaimTemplate": {"spec": spec}}}
    return pods.Mount.of("volume", names.VOLUME_PATH, source, read_only=False)


def scratch_folder(size: str) -> pods.Mount:
    """Room on the node itself."""
    source = {"emptyDir": {"sizeLimit": size}}
    return pods.Mount.of("volume", names.VOLUME_PATH, source, read_only=False)


def inputs(data: DataDescription) -> list[pods.Mount]:
    """Secrets, claims and ConfigMaps that the description names, where `prepare` looks for them."""
    secrets = [
        pods.secret(
            f"source-{index}-credentials",
            f"{names.CREDENTIALS_PATH}/source-{index}",
            source.credentials.secret_name,
        )
        for index, source in enumerate(data.sources)
        if source.credentials
    ]
    listed = [*data.clean.word_lists, *(data.clean.pii.names if data.clean.pii else ())]
    lists = [f"configmap://{each.config_map.name}/" for each in listed]
    return secrets + mounted([*(source.uri for source in data.sources), *lists])


def mounted(uris: Sequence[str]) -> list[pods.Mount]:
    """The claims and ConfigMaps among the addresses, and claims of what gateways keep, each once."""
    found: dict[str, pods.Mount] = {}
    for uri in uris:
        scheme, _, rest = uri.partition("://")
        owner = rest.partition("/")[0]
        if scheme == "pvc":
            volume = child_name(owner, "claim", owner)
            found[volume] = pods.claim(volume, f"/claims/{owner}", owner, read_only=True)
        elif scheme == "configmap":
            volume = child_name(owner, "config", owner)
            source = {"configMap": {"name": owner}}
            found[volume] = pods.Mount.of(volume, f"/configmaps/{owner}", source)
        elif scheme == names.CAPTURE:
            claim = child_name(owner, names.CAPTURE)
            volume = child_name(owner, names.CAPTURE, owner)
            found[volume] = pods.claim(volume, f"/captures/{owner}", claim, read_only=True)
    return list(found.values())


def remarks(
    kind: str, resource: AnyResource, prepared: PrepareResult, *, occasion: str = ""
) -> tuple[Event, ...]:
    """What the preparation noticed about data that is good enough to go on with."""
    if not prepared.warnings:
        return ()
    shown = prepared.warnings[:_REMARKS_AT_MOST]
    rest = len(prepared.warnings) - len(shown)
    message = "; ".join([*shown, *([f"and {rest} more, in the pod's log"] if rest else [])])
    text = message[:_MESSAGE_AT_MOST]
    return (about(kind, resource, JobReason.DATA_REMARKS, text, warning=True, occasion=occasion),)
