"""The reconcile that is going on: what all its log lines and writes have in common.

It travels with the task, so that nobody has to hand it on: `begun` by the queue, looked at by
the log and by whoever writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from trimtab_operator.domain.naming import short_hash

_CURRENT: ContextVar["Visit | None"] = ContextVar("visit", default=None)


@dataclass
class Visit:
    """One reconcile of one key. `since` is when the key came into the queue, by the loop's clock."""

    kind: str
    namespace: str
    name: str
    number: int
    since: float
    has_written: bool = False

    @property
    def fields(self) -> dict[str, str]:
        """What its log lines carry. The key's part of `reconcile` stays the same for as long as the key."""
        key = short_hash(self.kind, self.namespace, self.name)
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "object": self.name,
            "reconcile": f"{key}-{self.number}",
        }


@contextmanager
def begun(visit: Visit) -> Iterator[None]:
    """Everything in this block, and the tasks that it starts, belongs to the visit."""
    token = _CURRENT.set(visit)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Visit | None:
    """The reconcile that this is part of."""
    return _CURRENT.get()
