"""Events: said once per object, generation and reason, whoever says it and how often."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from trimtab_api import names
from trimtab_api.v1alpha1.common import AnyResource, Condition
from trimtab_operator.domain.naming import fitted, short_hash

NORMAL = "Normal"
WARNING = "Warning"


@dataclass(frozen=True)
class Event:
    """A transition worth telling. `occasion` tells apart what may rightly be said twice."""

    kind: str
    namespace: str
    object_name: str
    uid: str
    generation: int
    reason: str
    message: str
    type: str = NORMAL
    occasion: str = ""
    correlation: str = ""

    @property
    def name(self) -> str:
        """Derived, so that saying it again meets the first one."""
        tail = short_hash(self.uid, str(self.generation), self.reason, self.occasion, length=16)
        return f"{fitted(self.object_name, 200)}.{tail}"


def about(
    kind: str,
    resource: AnyResource,
    reason: str,
    message: str,
    *,
    warning: bool = False,
    occasion: str = "",
    correlation: str = "",
) -> Event:
    """An event about one of our objects as it is now; `correlation` is the object's own where it has one."""
    meta = resource.metadata
    return Event(
        kind=kind,
        namespace=meta.namespace,
        object_name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        reason=reason,
        message=message,
        type=WARNING if warning else NORMAL,
        occasion=occasion,
        correlation=correlation or correlation_of(resource),
    )


def correlation_of(resource: AnyResource | None) -> str:
    """What the object is a consequence of; empty where it stands for itself."""
    return resource.metadata.labels.get(names.LABEL_CORRELATION, "") if resource else ""


def transitions(
    kind: str,
    resource: AnyResource,
    after: Sequence[Condition],
    *,
    warnings: Collection[str] = (),
    occasion: str = "",
) -> list[Event]:
    """One event per condition whose status or reason differs from what the object says now.

    `warnings` are the reasons that should worry somebody.
    """
    before = {c.type: (c.status, c.reason) for c in resource.status.conditions}
    return [
        about(
            kind,
            resource,
            each.reason,
            each.message,
            warning=each.reason in warnings,
            occasion=occasion,
        )
        for each in after
        if before.get(each.type) != (each.status, each.reason)
    ]
