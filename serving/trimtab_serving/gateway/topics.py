"""The topics of each version, as its reference profile has them, asked of the engines' agents.

Asked for when the first conversation of a version opens, and kept for as many versions as are talked
to: a profile is a quarter of a megabyte once it is unpacked.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.features import FEATURES_VERSION, TopicModel

logger = logging.getLogger(__name__)

MOST_VERSIONS: Final = 32
# A version without a profile may get one: its report is made anew with the next evaluation.
ABSENT_SECONDS: Final = 600.0
FAILED_SECONDS: Final = 15.0


class ProfileUnavailable(Exception):
    """Nobody could say now whether there is a profile."""


Ask = Callable[[str], Awaitable[ReferenceProfile | None]]


class TopicModels:
    """Topic models by the digest of their version."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._models: OrderedDict[str, TopicModel | None] = OrderedDict()
        self._again_at: dict[str, float] = {}
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._wake = asyncio.Event()

    def of(self, digest: str) -> TopicModel | None:
        """The model if it is here; it is asked for otherwise, and nobody waits for it."""
        model = self._models.get(digest)
        if model is not None:
            self._models.move_to_end(digest)
        elif self._again_at.get(digest, 0.0) <= self._clock() and len(self._wanted) < MOST_VERSIONS:
            self._wanted[digest] = None
            self._wake.set()
        return model

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                digest, _ = self._wanted.popitem(last=False)
                await self._bring(digest)

    async def _bring(self, digest: str) -> None:
        wait_seconds = ABSENT_SECONDS
        model: TopicModel | None = None
        try:
            profile = await self._ask(digest)
            if profile is not None and profile.features == FEATURES_VERSION and profile.topics:
                model = profile.topics.model()
        except ProfileUnavailable as fault:
            wait_seconds = FAILED_SECONDS
            logger.warning("the profile of %s cannot be had now: %s", digest, fault)
        except (ValueError, IndexError) as fault:
            logger.warning("the profile of %s cannot be read: %s", digest, fault)
        self._models[digest] = model
        self._again_at[digest] = self._clock() + wait_seconds
        while len(self._models) > MOST_VERSIONS:
            gone, _ = self._models.popitem(last=False)
            self._again_at.pop(gone, None)
