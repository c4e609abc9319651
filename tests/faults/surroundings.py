"""What surrounds the operator in one run: the proxy in front of it and the node behind everything."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, TypeVar

from tests.builders import Manifest
from tests.faults.controlplane import ControlPlane
from tests.faults.kubelet import Kubelet
from tests.faults.oracles import COMPARED
from tests.faults.proxy import Proxy
from tests.registries import free_port

from trimtab_operator.adapters.api import MERGE, Api
from trimtab_operator.adapters.kinds import BY_NAME
from trimtab_operator.domain.errors import ClusterError

T = TypeVar("T")


class Background:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        """The work's result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def close(self) -> None:
        """End everything that still runs there."""
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Surroundings:
    """All of it, from the main thread's point of view."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.proxy = Proxy(plane.address, plane.authority)
        self.kubelet: Kubelet
        self.address = f"http://127.0.0.1:{free_port()}"
        self.namespace = namespace
        self._plane = plane
        self._api: Api
        self._background = Background()
        self._stack = AsyncExitStack()

    def begin(self) -> None:
        """From now on there is an API server and a node."""
        self._background.call(self._begin())

    def end(self) -> None:
        """Nothing is left of it."""
        self._background.call(self._stack.aclose())
        self._background.close()

    def objects(self) -> list[Manifest]:
        """Our objects in the namespace and their children, as they are now.

        Children of an owner that is gone are not among them: that they go too is the garbage
        collector's work, and it takes its time.
        """
        found = self._background.call(self._objects())
        alive = {each["metadata"]["uid"] for each in found}
        owners = [each["metadata"].get("ownerReferences", []) for each in found]
        return [
            each
            for each, held in zip(found, owners, strict=True)
            if not held or any(owner["uid"] in alive for owner in held)
        ]

    def let_go(self) -> None:
        """Take the finalizers off our objects: a namespace that cannot end is a load for all later runs."""
        self._background.call(self._let_go())

    async def _begin(self) -> None:
        self._api = await Api.connect(str(self._plane.kubeconfig))
        self._stack.push_async_callback(self._api.close)
        port = int(self.address.rpartition(":")[2])
        await self._stack.enter_async_context(self.proxy.running(port))
        self.kubelet = Kubelet(self._api, self.namespace)
        living = asyncio.create_task(self.kubelet.run())
        self._stack.push_async_callback(_ended, living)

    async def _objects(self) -> list[Manifest]:
        found = []
        for kind in COMPARED:
            answer = await self._api.request("GET", kind.path(self.namespace))
            found += [{**item, "kind": kind.name} for item in answer["items"]]
        return [each for each in found if each["metadata"]["name"] not in GIVEN]

    async def _let_go(self) -> None:
        free = {"metadata": {"finalizers": None}}
        for each in await self._objects():
            if each["metadata"].get("finalizers"):
                path = BY_NAME[each["kind"]].path(self.namespace, each["metadata"]["name"])
                with suppress(ClusterError):  # it has just ended by itself
                    await self._api.request("PATCH", path, body=free, content_type=MERGE)


# What every namespace has.
GIVEN = frozenset({"default", "kube-root-ca.crt"})


@contextmanager
def surroundings(plane: ControlPlane, namespace: str) -> Iterator[Surroundings]:
    """Up, until the block ends."""
    made = Surroundings(plane, namespace)
    made.begin()
    try:
        yield made
    finally:
        made.end()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
