"""What a CustomResourceDefinition says beyond its schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; priority 1 is shown with -o wide only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Scale:
    """Paths of the scale subresource."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ".status.selector"


@dataclass(frozen=True)
class Definition:
    """Names, columns and subresources of a kind."""

    kind: str
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scale: Scale | None = None
    selectable: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        """The kind in lower case."""
        return self.kind.lower()


def status_of(condition: str) -> str:
    """Path to a condition's status."""
    return f'.status.conditions[?(@.type=="{condition}")].status'


def reason_of(condition: str) -> str:
    """Path to a condition's reason."""
    return f'.status.conditions[?(@.type=="{condition}")].reason'


def message_of(condition: str) -> str:
    """Path to a condition's message."""
    return f'.status.conditions[?(@.type=="{condition}")].message'


AGE = Column("Age", ".metadata.creationTimestamp", "date", description="Time since creation.")
