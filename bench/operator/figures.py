"""What is measured of one system, each on a control plane that was empty before."""

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.operator import objects
from bench.operator.controlplane import START_SECONDS, ControlPlane, counted
from bench.operator.load import Changes, Convergence, Load
from bench.operator.systems import KOPF, OURS, System

QUIET_SECONDS = 2.0
IDLE_SHARE = 0.05
Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured, and where."""

    objects: int
    changes: int
    rate: float
    restarts: int
    foreign: int
    resync_seconds: int
    system_core: int
    load_core: int


class Bench:
    """One system on one control plane, with the load."""

    def __init__(self, plane: ControlPlane, system: System, load: Load) -> None:
        self.plane = plane
        self.system = system
        self.load = load

    @classmethod
    @asynccontextmanager
    async def of(cls, name: str, size: Size) -> AsyncIterator["Bench"]:
        """Everything fresh; the system runs and has nothing to do."""
        with TemporaryDirectory(prefix="trimtab-bench-") as folder:
            plane = ControlPlane(Path(folder), size.load_core)
            system = System(name, plane, size.system_core)
            with plane.running():
                for namespace in (objects.NAMESPACE, objects.SYSTEM_NAMESPACE):
                    plane.post(objects.NAMESPACES, objects.a_namespace(namespace))
                async with Load.on(plane) as load:
                    bench = cls(plane, system, load)
                    system.start()
                    try:
                        await bench.until_it_works()
                        await bench.settle()
                        yield bench
                    finally:
                        system.stop()

    async def until_it_works(self) -> None:
        """Wait until it has written the status of one object; that one stays, out of all counts."""
        first = Convergence(1)
        async with self.load.watching(objects.CANARY_JOBS, first.seen):
            await self.load.create(objects.CANARY_JOBS, [objects.job(0, objects.SYSTEM_NAMESPACE)])
            await first.wait(START_SECONDS)

    async def settle(self, seconds: float = 120) -> None:
        """Wait until the system has hardly used its core for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.system.process.cpu_seconds()
            await asyncio.sleep(QUIET_SECONDS)
            if self.system.process.cpu_seconds() - before < IDLE_SHARE * QUIET_SECONDS:
                return
        message = f"{self.system.name} did not come to rest in {seconds:g} s"
        raise RuntimeError(message)

    async def creation(self, count: int) -> Figures:
        """All at once: how fast, at what cost, by which writes, in how much memory."""
        idle = self.system.process.resident_mib()
        mark = self.plane.audit.mark()
        convergence = Convergence(count)
        own, plane = self.system.process.cpu_seconds(), self.plane.cpu_seconds()
        async with self.load.watching(objects.JOBS, convergence.seen):
            began = time.perf_counter()
            await self.load.create(objects.JOBS, (objects.job(index) for index in range(count)))
            created = time.perf_counter()
            await convergence.wait(60 + count / 20)
        await self.settle()
        own = self.system.process.cpu_seconds() - own
        plane = self.plane.cpu_seconds() - plane
        await self._check_children(count)
        return {
            "objects": count,
            "objectsPerSecond": count / (convergence.last - began),
            "createdPerSecond": count / (created - began),
            "cpuMsPerObject": own / count * 1000,
            "controlPlaneCpuMsPerObject": plane / count * 1000,
            "writesPerObject": _share(self.plane.audit.counts(mark), count),
            "memoryMiB": {"idle": idle, "after": self.system.process.resident_mib()},
        }

    async def _check_children(self, count: int) -> None:
        """A status without children would be a fast lie."""
        for path in (objects.CONFIG_MAPS, objects.BATCH_JOBS):
            found = await self.load.count(path)
            if found != count:
                message = f"{self.system.name} left {found} of {count} at {path}"
                raise RuntimeError(message)

    async def changes(self, count: int, rate: float, objects_there: int) -> Figures:
        """`suspend` is flipped at an even rate, object after object."""
        mark = self.plane.audit.mark()
        changes = Changes()
        gc.collect()
        gc.disable()  # a pause of this process would look like one of the system
        try:
            async with (
                self.load.watching(objects.JOBS, changes.spec_seen),
                self.load.watching(objects.BATCH_JOBS, changes.child_seen),
                asyncio.TaskGroup() as tasks,
            ):
                began = time.perf_counter()
                for turn in range(count):
                    round_, index = divmod(turn, objects_there)
                    await asyncio.sleep(max(0.0, began + turn / rate - time.perf_counter()))
                    changes.expect(index, round_ % 2 == 0)
                    tasks.create_task(self.load.suspend(index, round_ % 2 == 0))
                await changes.wait(60)
        finally:
            gc.enable()
        await self.settle()
        return {
            "changes": count,
            "seenToChildMs": _quantiles(changes.since_seen()),
            "sentToChildMs": _quantiles(changes.since_sent()),
            "writesPerChange": _share(self.plane.audit.counts(mark), count),
        }

    async def resync(self, seconds: int) -> Figures:
        """Two rounds of looking at everything again, and what is written in them."""
        self.system.stop()
        self.system.start(resync_seconds=seconds)
        await asyncio.sleep(seconds)
        mark = self.plane.audit.mark()
        before = self.system.process.cpu_seconds()
        await asyncio.sleep(2.5 * seconds)
        used = self.system.process.cpu_seconds() - before
        counts = self.plane.audit.counts(mark)
        return {"writes": sum(counts.values()), "byKind": dict(counts), "cpuSeconds": used}

    async def foreign(self, count: int) -> Figures:
        """Secrets and Pods of others: what they add to the memory."""
        before = self.system.process.resident_mib()
        for kind, path in (("Secret", objects.SECRETS), ("Pod", objects.PODS)):
            await self.load.create(path, (objects.foreign(kind, index) for index in range(count)))
        await self.settle()
        return {"ofEach": count, "addedMiB": self.system.process.resident_mib() - before}

    async def restart(self, times: int, objects_there: int) -> Figures:
        """From the start of the system to its acting upon a change that was made while it was down.

        The object is another each time; what is written to any other object is written in vain.
        """
        rows = [await self._restart_once(objects_there - 1 - turn) for turn in range(times)]
        seconds = [row["seconds"] for row in rows]
        ready = [row["ready"] for row in rows if row["ready"] is not None]
        return {
            "seconds": statistics.median(seconds),
            "all": seconds,
            "readySeconds": statistics.median(ready) if ready else None,
            "writesToOthers": sum(row["writes"] for row in rows),
        }

    async def _restart_once(self, index: int) -> Figures:
        self.system.stop()
        mark = self.plane.audit.mark()
        changes = Changes()
        async with self.load.watching(objects.BATCH_JOBS, changes.child_seen):
            changes.expect(index, True)
            await self.load.suspend(index, True)
            began = time.perf_counter()
            self.system.start()
            ready = asyncio.create_task(self._ready_after(began))
            await changes.wait(120)
        await self.settle()
        name = objects.name_of(index)
        others = (w for w in self.plane.audit.since(mark) if not w.name.startswith(name))
        writes = {k: n for k, n in counted(others).items() if "events" not in k}
        return {
            "seconds": changes.moments[0] - began,
            "ready": await ready,
            "writes": sum(writes.values()),
        }

    async def _ready_after(self, began: float) -> float | None:
        url = self.system.ready_url
        if url is None:
            return None
        while not await self.load.answers(url):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)
        return time.perf_counter() - began


async def few(name: str, size: Size, wanted: Collection[str]) -> Figures:
    """The figures at a modest number of objects."""
    async with Bench.of(name, size) as bench:
        found = {"creation": await bench.creation(size.objects)}
        if "changes" in wanted:
            found["changes"] = await bench.changes(size.changes, size.rate, size.objects)
        if "foreign" in wanted and name == OURS:
            found["foreign"] = await bench.foreign(size.foreign)
        if "resync" in wanted and name != KOPF:  # which has none
            found["resync"] = await bench.resync(size.resync_seconds)
        return found


async def many(name: str, size: Size, wanted: Collection[str]) -> Figures:
    """The figures at ten times as many."""
    async with Bench.of(name, size) as bench:
        found = {"manyCreation": await bench.creation(10 * size.objects)}
        if "restart" in wanted:
            found["restart"] = await bench.restart(size.restarts, 10 * size.objects)
        return found


def _share(counts: dict[str, int], count: int) -> dict[str, float]:
    return {key: round(number / count, 3) for key, number in sorted(counts.items())}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "p50": cuts[49] * 1000,
        "p95": cuts[94] * 1000,
        "p99": cuts[98] * 1000,
        "max": max(seconds) * 1000,
    }
