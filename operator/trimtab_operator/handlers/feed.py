"""kopf feeds our three kinds: each event goes into the store, and the store wakes whom it concerns.

kopf writes nothing: there are only event handlers (no annotations, no finalizers), and its Events
are off. What its watch may miss (objects that vanished while it was away) the resync finds.

It has a thread and a loop of its own. At the first answer that it did not expect (an error in the
middle of a watch, a page of a list that has expired) it gives up, and cancels on its way out every
task of its loop that is younger than itself; on our loop those would be reconciles.
"""

import asyncio
import itertools
import logging
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import kopf

from trimtab_operator.adapters.kinds import OURS, Kind
from trimtab_operator.adapters.reflector import trimmed
from trimtab_operator.adapters.store import Store, key_of, version_of

log = logging.getLogger(__name__)
PAGE: Final = 500
BEGUN_AGAIN_AFTER_SECONDS: Final = 1.0
ENDED_BY_ITSELF_WITHIN_SECONDS: Final = 2.0
ENDED_WITHIN_SECONDS: Final = 5.0


async def run(store: Store, listed: Callable[[], None], namespaces: Sequence[str]) -> None:
    """Feed until cancelled, beginning anew whenever kopf gives up.

    `listed` is told of each object that comes from a list. Without namespaces it is all of them.
    """
    loop = asyncio.get_running_loop()

    def tell(happened: Callable[[], object]) -> None:
        loop.call_soon_threadsafe(happened)

    while True:
        async with _loop_of_its_own() as other:
            feeding = _until_it_gives_up(registry(store, listed, tell), namespaces)
            try:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(feeding, other))
            except Exception as error:  # noqa: BLE001 - whatever it is, the feed goes on
                said = f"{type(error).__name__}: {error}"
                log.warning("the feed is begun anew", extra={"error": said})
        await asyncio.sleep(BEGUN_AGAIN_AFTER_SECONDS)


async def _until_it_gives_up(handlers: kopf.OperatorRegistry, namespaces: Sequence[str]) -> None:
    """kopf's own way to wait for its tasks may never end: one that lost its session waits for ever."""
    tasks = await kopf.spawn_tasks(
        registry=handlers,
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDED_BY_ITSELF_WITHIN_SECONDS)
    for task in done:
        task.result()


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


def registry(
    store: Store, listed: Callable[[], None], tell: Callable[[Callable[[], object]], None]
) -> kopf.OperatorRegistry:
    """The handlers for our kinds; `tell` carries out on the store's own thread what it is given."""
    result = kopf.OperatorRegistry()
    kopf.on.login(registry=result)(_login)
    for kind in OURS:
        group, _, version = kind.api_version.partition("/")
        handler = _handler(kind, store, listed, tell)
        kopf.on.event(group, version, kind.plural, registry=result, id=kind.plural)(handler)
    return result


def quiet() -> None:
    """It logs every event of every object; its warnings are enough."""
    for name in ("kopf", "kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # That it does not hear signals on its thread is as it should be, and no news.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _handler(
    kind: Kind,
    store: Store,
    listed: Callable[[], None],
    tell: Callable[[Callable[[], object]], None],
) -> Any:  # noqa: ANN401 - kopf's type
    async def seen(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 - kopf passes much more
        item: dict[str, Any] = dict(event["object"])
        if event["type"] is None:
            tell(listed)
        if event["type"] == "DELETED":
            tell(partial(store.remove, kind.name, key_of(item), version_of(item)))
        else:
            tell(partial(store.put, kind.name, trimmed(kind.name, item)))

    return seen


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - kopf's own arguments
    """In a pod by its service account, else by kubeconfig: as the other client does."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


@asynccontextmanager
async def _loop_of_its_own() -> AsyncIterator[asyncio.AbstractEventLoop]:
    """A loop on another thread; when the block ends, so does everything on it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=_serve, args=(loop,), name="feed", daemon=True).start()
    try:
        yield loop
    finally:
        ending = asyncio.run_coroutine_threadsafe(_end_others(), loop)
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDED_WITHIN_SECONDS):
                await asyncio.wrap_future(ending)
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _end_others() -> None:
    # kopf has been told, and closes its connections on the way out.
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        _, late = await asyncio.wait(others, timeout=ENDED_BY_ITSELF_WITHIN_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
