"""kopf feeds our three kinds: each event goes into the store, and the store wakes whom it concerns.

kopf writes nothing: there are only event handlers (no annotations, no finalizers), and its Events
are off. What its watch may miss (objects that vanished while it was away) the resync finds.
"""

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import kopf

from trimtab_operator.adapters.kinds import OURS, Kind
from trimtab_operator.adapters.reflector import trimmed
from trimtab_operator.adapters.store import Store, key_of, version_of

PAGE: Final = 500


class Patience:
    """Pauses between attempts, without end: kopf gives up its watches when they run out."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5), itertools.repeat(8))


def settings() -> kopf.OperatorSettings:
    """A feeder and nothing more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.peering.standalone = True
    # The kinds are known; watching CRDs and namespaces would need rights that nothing else needs.
    result.scanning.disabled = True
    result.watching.chunk_size = PAGE
    result.networking.error_backoffs = Patience()
    result.queueing.idle_timeout = 1.0
    result.persistence.consistency_timeout = 0
    return result


def registry(store: Store, listed: Callable[[], None]) -> kopf.OperatorRegistry:
    """The handlers for our kinds; `listed` is told of each object that comes from a list."""
    result = kopf.OperatorRegistry()
    kopf.on.login(registry=result)(_login)
    for kind in OURS:
        group, _, version = kind.api_version.partition("/")
        handler = _handler(kind, store, listed)
        kopf.on.event(group, version, kind.plural, registry=result, id=kind.plural)(handler)
    return result


def quiet() -> None:
    """It logs every event of every object; its warnings are enough."""
    for name in ("kopf", "kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _handler(kind: Kind, store: Store, listed: Callable[[], None]) -> Any:  # noqa: ANN401 - kopf's type
    async def seen(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 - kopf passes much more
        item: dict[str, Any] = dict(event["object"])
        if event["type"] is None:
            listed()
        if event["type"] == "DELETED":
            store.remove(kind.name, key_of(item), version_of(item))
        else:
            store.put(kind.name, trimmed(kind.name, item))

    return seen


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - kopf's own arguments
    """In a pod by its service account, else by kubeconfig: as the other client does."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
