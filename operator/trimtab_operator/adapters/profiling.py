"""Where the operator's time goes, on request: GET /debug/profile?seconds=10. Off unless the settings ask for it."""

import asyncio
import cProfile
import io
import pstats
from typing import Final

from aiohttp import web

DEFAULT_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 60.0
_LINES: Final = 80


class Profiler:
    """Watches the thread that everything runs on; one at a time, since it slows that thread down."""

    def __init__(self) -> None:
        self._at_work = asyncio.Lock()

    def add_to(self, app: web.Application) -> None:
        """Under its address."""
        app.router.add_get("/debug/profile", self._profile)

    async def _profile(self, request: web.Request) -> web.Response:
        try:
            seconds = float(request.query.get("seconds", DEFAULT_SECONDS))
        except ValueError:
            return web.Response(status=400, text="seconds is no number\n")
        if not 0 < seconds <= LONGEST_SECONDS:
            return web.Response(status=400, text=f"seconds is not in 0 to {LONGEST_SECONDS:.0f}\n")
        if self._at_work.locked():
            return web.Response(status=409, text="somebody else's profile is being taken\n")
        async with self._at_work:
            return web.Response(text=await _profiled(seconds))


async def _profiled(seconds: float) -> str:
    profile, told = cProfile.Profile(), io.StringIO()
    profile.enable()
    try:
        await asyncio.sleep(seconds)
    finally:
        profile.disable()
    pstats.Stats(profile, stream=told).sort_stats("tottime").print_stats(_LINES)
    return told.getvalue()
