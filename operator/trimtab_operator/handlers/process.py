"""kopf's side: it logs in, begins the operator, hears that it should end, and ends it in order.

No event of a watch passes through kopf. Its work for each (a task per object, a comparison with
annotations that ours do not have) was half of all that an operator did, and it gave its watches
up at the first answer that it did not expect. The reflectors of the standby feed the leader, too.
"""

import asyncio
import itertools
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _as_if_absent(package: str) -> Iterator[None]:
    """Imports of a package that nobody has imported yet fail in this block."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # documented, and not in the type
    try:
        yield
    finally:
        del sys.modules[package]


# kopf takes objects of the official client where that is installed. Nobody hands it any, and the
# import costs 300 modules: 10 MiB, and a third of the time until we are there.
with _as_if_absent("kubernetes"):
    import kopf

Step = Callable[[], Awaitable[None]]


async def run(begin: Step, end: Step, over: asyncio.Event) -> None:
    """Begin, wait for a signal or for `over`, and end; raises what made it impossible to begin.

    `begin` must not wait for the world: a signal is heard only after it.
    """
    await kopf.operator(
        registry=_registry(begin, end),
        settings=_settings(),
        standalone=True,
        clusterwide=True,
        stop_flag=over,
    )


def quiet() -> None:
    """Its warnings are enough."""
    logging.getLogger("kopf").setLevel(logging.WARNING)


def _registry(begin: Step, end: Step) -> kopf.OperatorRegistry:
    result = kopf.OperatorRegistry()
    once = kopf.ErrorsMode.PERMANENT
    kopf.on.login(registry=result)(_login)
    kopf.on.startup(registry=result, id="begin", errors=once)(_activity(begin))
    kopf.on.cleanup(registry=result, id="end", errors=once)(_activity(end))
    return result


def _activity(step: Step) -> Any:  # noqa: ANN401 - kopf's type
    async def activity(**_: object) -> None:
        await step()

    return activity


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - kopf's own arguments
    """In a pod by its service account, else by kubeconfig: as the other client does."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _settings() -> kopf.OperatorSettings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        result = kopf.OperatorSettings()
    result.posting.enabled = False
    # Watching CRDs and namespaces would need rights that nothing else needs.
    result.scanning.disabled = True
    result.networking.error_backoffs = _Patience()
    return result


class _Patience:
    """Pauses between attempts, without end: an API server that is away is no reason to end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5), itertools.repeat(8))
