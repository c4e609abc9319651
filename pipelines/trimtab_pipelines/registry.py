"""The OCI registry as pods see it: with the mounted credentials, and with patience."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from trimtab_oci import RegistryClient, RegistryUnreachable
from trimtab_pipelines import paths

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


def open_registry(*, plain_http: bool) -> RegistryClient:
    """A client with the credentials and the CA bundle that the pod was given, if any."""
    return RegistryClient.from_secret(paths.credentials("registry"), plain_http=plain_http)


async def again_while_unreachable(
    attempt: Callable[[], Awaitable[T]],
    patience_seconds: float,
    first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
) -> T:
    """Repeat with growing pauses while the registry is away, for so long; then its error stands."""
    deadline = time.monotonic() + patience_seconds
    pause = first_pause_seconds
    while True:
        try:
            return await attempt()
        except RegistryUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("%s; trying again in %.1f s", error, pause)
        # Spread out, so that many pods do not come back to a fresh registry at once.
        await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311 - no secret
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
