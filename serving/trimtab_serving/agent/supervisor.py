"""Watches the engine's life: starting, warmed, working, lost, and starting again.

A container that restarts keeps its address, so an engine that is new is told from one that only
was slow by what it still knows: a new one has forgotten its adapters.
"""

import asyncio
import logging

from trimtab_serving.agent.engine import EngineClient, EngineRefused, EngineUnavailable
from trimtab_serving.agent.keeper import Keeper

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
START_LOOK_SECONDS = 0.5
# One lost answer may be a busy moment; a refused health check is the engine's own word.
MOST_MISSES = 3
# What the engine has registered is asked for once in so many looks.
LOOKS_PER_INVENTORY = 5


class Supervisor:
    """Brings the engine into use and takes it out of use again."""

    def __init__(self, engine: EngineClient, keeper: Keeper, base_name: str) -> None:
        self._engine = engine
        self._keeper = keeper
        self._base_name = base_name
        self._doubt = asyncio.Event()

    def doubt(self) -> None:
        """A request has met something odd: look at once."""
        self._doubt.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._bring_up()
            logger.info("the engine is ready")
            self._keeper.engine_up()
            message = await self._until_lost()
            logger.error("the engine is lost: %s", message)
            self._keeper.engine_down(message, lost=True)

    async def _bring_up(self) -> None:
        while True:
            try:
                await self._engine.check_health()
                await self._tidy()
                self._keeper.engine_down("the engine is warming up", lost=False)
                await self._engine.warm_up(self._base_name)
            except (EngineUnavailable, EngineRefused) as fault:
                self._keeper.engine_down(_starting(fault), lost=False)
                await asyncio.sleep(START_LOOK_SECONDS)
            else:
                return

    async def _tidy(self) -> None:
        """An earlier process of this agent may have left adapters; nobody can vouch for them now."""
        names = await self._engine.names()
        if self._base_name not in names:
            known = ", ".join(sorted(names)) or "nothing"
            raise EngineRefused(200, f"it serves {known}, not the base as {self._base_name}")
        for name in names.keys() - {self._base_name}:
            await self._engine.unload(name)

    async def _until_lost(self) -> str:
        misses = looks = 0
        while True:
            doubted = await self._pause()
            looks += 1
            try:
                await self._engine.check_health()
                if (doubted or looks % LOOKS_PER_INVENTORY == 0) and await self._has_forgotten():
                    return "the engine was restarted"
                misses = 0
            except EngineRefused as refusal:
                return f"its health check says {refusal.status}: {refusal.message}"
            except EngineUnavailable as fault:
                misses += 1
                if misses >= MOST_MISSES or isinstance(fault.__cause__, ConnectionError):
                    return str(fault)

    async def _pause(self) -> bool:
        """Until it is time to look again, or somebody doubts; tells which."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._doubt.wait()
        except TimeoutError:
            return False
        self._doubt.clear()
        return True

    async def _has_forgotten(self) -> bool:
        before = self._keeper.engine_names
        known = await self._engine.names()
        return bool((before & self._keeper.engine_names) - known.keys())


def _starting(fault: EngineUnavailable | EngineRefused) -> str:
    if isinstance(fault, EngineRefused):
        return f"the engine does not work: {fault.message}"
    return "the engine is starting"
