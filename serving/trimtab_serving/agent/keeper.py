"""Keeps the engine's adapters equal to the routing table.

State lives here: the slots, and what is being worked on. What to do is decided in plan.py; each
piece of work is a task of its own, and when one ends the keeper looks again. It never waits for
work itself, so that a slow load delays neither an unload nor a report.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from trimtab_api.fingerprint import Fingerprint
from trimtab_api.reasons import LoadReason
from trimtab_api.routing import AdapterState, RoutedVersion, RoutingTable
from trimtab_serving.agent.board import Board
from trimtab_serving.agent.engine import EngineRefused, EngineUnavailable
from trimtab_serving.agent.failure import LoadFailure
from trimtab_serving.agent.loader import Loader, Verified
from trimtab_serving.agent.metrics import AgentMetrics
from trimtab_serving.agent.plan import (
    LEAVE_SECONDS,
    Slot,
    SlotState,
    Steps,
    next_steps,
    pause_seconds,
)
from trimtab_serving.agent.use import Use

logger = logging.getLogger(__name__)

SERVING = (SlotState.LOADED, SlotState.LEAVING)


class Keeper:
    """The engine's adapters, by digest."""

    def __init__(
        self,
        loader: Loader,
        board: Board,
        use: Use,
        metrics: AgentMetrics,
        pod: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loader = loader
        self._board = board
        self._use = use
        self._metrics = metrics
        self._pod = pod
        self._clock = clock
        self._table: RoutingTable | None = None
        self._slots: dict[str, Slot] = {}
        self._names: dict[str, str] = {}
        self._references: dict[str, Fingerprint] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._engine_ready = False
        self._engine_message: str | None = "the engine is starting"
        self._engine_life = 0
        self._draining = False
        self._has_joined = False
        # Outside of a pod nobody can name it.
        self._was_named = not pod
        self._wake = asyncio.Event()
        use.on_unused = self._wake.set

    # What others tell.

    def on_table(self, table: RoutingTable) -> None:
        self._table = table
        self._was_named |= any(engine.name == self._pod for engine in table.engines)
        self._wake.set()

    def engine_up(self) -> None:
        self._engine_ready, self._engine_message = True, None
        self._metrics.engine_starts.inc()
        self._wake.set()

    def engine_down(self, message: str, *, lost: bool) -> None:
        """The engine cannot be used; when it was lost, so is everything that it had loaded."""
        self._engine_ready, self._engine_message = False, message
        if lost:
            self._has_joined = False
            self._engine_life += 1
            self._names.clear()
            for digest, slot in self._slots.items():
                if slot.state in (*SERVING, SlotState.LOADING):
                    self._slots[digest] = Slot()
        self._publish()
        self._wake.set()

    def drain(self) -> None:
        """This pod is going away: gateways are told at once, and what runs may end."""
        self._draining = True
        self._publish()

    # What others ask.

    @property
    def unready(self) -> str | None:
        if self._draining:
            return "this engine is going away"
        if not self._engine_ready:
            return self._engine_message or "the engine is not ready"
        if not self._has_joined and (lacking := self._lacking()):
            return lacking
        # Others go as soon as this one is ready, whoever leads or whether anybody does just then.
        return None if self._was_named else "the routing table does not name this engine yet"

    def _lacking(self) -> str | None:
        """What a new engine must have before it counts: others may go as soon as it does.

        One that cannot load a version that has requests is worse than another that has it, and
        better than none.
        """
        if self._table is None:
            return "no routing table was seen yet"
        others = any(engine.name != self._pod for engine in self._table.engines)
        for version in (v for model in self._table.models for v in model.versions if v.weight > 0):
            slot = self._slots.get(version.digest, Slot())
            given_up = slot.state is SlotState.FAILED and not others
            if slot.state not in SERVING and not given_up:
                return f"{version.version} is not loaded: {slot.message or 'not yet'}"
        return None

    @property
    def wanted_digests(self) -> set[str]:
        return set(self._wanted())

    def serves(self, name: str) -> bool:
        """Whether requests may be sent to the engine under this name."""
        return self._engine_ready and name in self._names

    @property
    def engine_names(self) -> set[str]:
        return set(self._names)

    # The work.

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._wake.clear()
                again = self._act(self._next_steps())
                self._publish()
                await self._rest(again)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def recheck(self, every_seconds: float) -> None:
        """Ask again now and then: a load of one adapter has been seen to disturb another."""
        while True:
            await asyncio.sleep(every_seconds)
            for digest, name in [(d, s.engine_name) for d, s in self._slots.items()]:
                reference = self._references.get(digest)
                if name is not None and reference is not None and self.serves(name):
                    await self._recheck(digest, name, reference)

    async def _recheck(self, digest: str, name: str, reference: Fingerprint) -> None:
        try:
            await self._loader.check(name, digest, reference, self._references)
        except LoadFailure as failure:
            logger.error("%s no longer answers as it should: %s", name, failure.message)
            slot = self._slots.get(digest)
            if slot is not None and slot.engine_name == name and digest not in self._busy:
                self._names.pop(name, None)
                self._start(digest, self._discard(digest, name, failure))
                self._publish()
        except (EngineRefused, EngineUnavailable) as fault:
            logger.warning("%s could not be checked again: %s", name, fault)

    async def _rest(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _wanted(self) -> dict[str, RoutedVersion]:
        models = self._table.models if self._table else []
        return {version.digest: version for model in models for version in model.versions}

    def _next_steps(self) -> Steps:
        if self._table is None:
            return Steps()
        free = {digest: slot for digest, slot in self._slots.items() if digest not in self._busy}
        return next_steps(
            [digest for digest in self._wanted() if digest not in self._busy],
            free,
            self._clock(),
            engine_ready=self._engine_ready,
            is_used=self._use.is_used,
        )

    def _act(self, steps: Steps) -> float | None:
        wanted = self._wanted()
        for digest in steps.keep:
            self._slots[digest] = replace(self._slots[digest], state=SlotState.LOADED)
        for digest in steps.leave:
            until = self._clock() + LEAVE_SECONDS
            slot = replace(self._slots[digest], state=SlotState.LEAVING, not_before=until)
            self._slots[digest] = slot
        for digest in steps.drop:
            self._slots.pop(digest)
        for digest in steps.unload:
            self._start(digest, self._unload(digest))
        for digest in steps.begin:
            slot = self._slots.get(digest, Slot())
            if slot.state is not SlotState.FAILED:  # a failure stays visible until it is over
                slot = replace(slot, state=SlotState.LOADING)
            self._slots[digest] = slot
            self._start(digest, self._load(wanted[digest]))
        return steps.again_in_seconds

    def _start(self, digest: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._busy[digest] = task

        def ended(_: asyncio.Task[None]) -> None:
            if self._busy.get(digest) is task:
                del self._busy[digest]
            if not task.cancelled() and (fault := task.exception()) is not None:
                logger.error("work on %s failed", digest, exc_info=fault)
                self._fail(digest, LoadReason.ENGINE_REFUSED, f"unexpected: {fault}")
            self._wake.set()

        task.add_done_callback(ended)

    async def _load(self, version: RoutedVersion) -> None:
        assert self._table is not None  # noqa: S101 - nothing is wanted without a table
        life, began = self._engine_life, self._clock()
        try:
            loaded = await self._loader.load(version, self._table, self._references)
        except LoadFailure as failure:
            logger.warning("%s is not loaded: %s", version.version, failure.message)
            self._metrics.loads.labels(failure.reason).inc()
            self._fail(version.digest, failure.reason, failure.message)
            return
        except EngineUnavailable as fault:
            logger.warning("%s is not loaded: the engine is gone: %s", version.version, fault)
            self._put_off(version.digest, pause_seconds(1))
            return
        if life != self._engine_life:  # what was loaded died with the engine that loaded it
            self._put_off(version.digest, 0.0)
            return
        seconds = self._clock() - began
        self._metrics.loads.labels("Loaded").inc()
        self._metrics.load_seconds.observe(seconds)
        logger.info("%s is loaded as %s after %.3f s", version.version, loaded.engine_name, seconds)
        self._take(version.digest, loaded)

    def _put_off(self, digest: str, seconds: float) -> None:
        """Nothing was learned of the version: a failure that was told before still stands."""
        slot = self._slots.get(digest, Slot())
        if slot.state is not SlotState.FAILED:
            slot = Slot()
        self._slots[digest] = replace(slot, not_before=self._clock() + seconds)

    def _take(self, digest: str, loaded: Verified) -> None:
        reason = message = None
        if loaded.is_indistinguishable:
            reason = LoadReason.INDISTINGUISHABLE
            message = (
                "its base or a sibling would give the same answers to the fingerprint's probes"
            )
        self._slots[digest] = Slot(SlotState.LOADED, loaded.engine_name, reason, message)
        self._names[loaded.engine_name] = digest
        if loaded.reference is not None:
            self._references[digest] = loaded.reference
        self._publish()

    def _fail(self, digest: str, reason: str, message: str) -> None:
        failures = self._slots.get(digest, Slot()).failures + 1
        self._slots[digest] = Slot(
            SlotState.FAILED,
            reason=str(reason),
            message=message,
            failures=failures,
            not_before=self._clock() + pause_seconds(failures),
        )
        self._publish()

    async def _unload(self, digest: str) -> None:
        name = self._slots[digest].engine_name
        try:
            if name is not None and name in self._names:
                del self._names[name]
                await self._loader.unload(name, digest)
        except (EngineRefused, EngineUnavailable) as fault:
            logger.warning("%s could not be unloaded: %s", name, fault)
        self._references.pop(digest, None)
        self._slots.pop(digest, None)

    async def _discard(self, digest: str, name: str, failure: LoadFailure) -> None:
        """Take a version out that answers wrongly; it comes back under another name."""
        self._fail(digest, failure.reason, failure.message)
        try:
            await self._loader.unload(name, digest)
        except (EngineRefused, EngineUnavailable) as fault:
            logger.warning("%s could not be unloaded: %s", name, fault)

    # The report.

    def _publish(self) -> None:
        states = self._states()
        self._metrics.set_adapters(dict(Counter(state.state for state in states)))
        ready = self._engine_ready and not self._draining
        self._has_joined = self._has_joined or (ready and self._lacking() is None)
        joins = ready and self._has_joined
        message = None if ready else self.unready
        self._board.publish(states, ready=ready, joins=joins, message=message)

    def _states(self) -> list[AdapterState]:
        models = self._table.models if self._table else []
        found: dict[tuple[str, str], AdapterState] = {}
        for version in (version for model in models for version in model.versions):
            slot = self._slots.get(version.digest, Slot())
            leaving = slot.state is SlotState.LEAVING
            found[(version.version, version.digest)] = AdapterState(
                version=version.version,
                digest=version.digest,
                state=SlotState.LOADED if leaving else slot.state,
                engine_name=slot.engine_name,
                reason=slot.reason,
                message=slot.message,
            )
        return list(found.values())
