"""The engines of the service: what each holds, how busy each is, which one takes the next request.

What an engine holds is known from its agent's own reports, which are long-polled. An engine whose
agent cannot be reached keeps its last report but comes last, so that a lost poll alone stops no
traffic and a dead engine costs a refused connection at most.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from typing import Final

import aiohttp
from pydantic import ValidationError

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_api.routing import AgentReport, EngineAddress
from trimtab_serving.gateway.topics import ProfileUnavailable
from trimtab_serving.upstream import Upstream

logger = logging.getLogger(__name__)

LOADED: Final = "Loaded"
POLL_SECONDS: Final = 30
# A report that nobody has to wait for; an engine that hangs must not hold up what waits for all.
FIRST_REPORT_SECONDS: Final = 2.0
PROFILE_SECONDS: Final = 5.0
# How long a refused connection puts an engine behind the others, unless its agent reports anew.
SUSPECT_SECONDS: Final = 2.0
SLOWEST_RETRY_SECONDS: Final = 2.0


class Engine:
    """One engine as this gateway sees it."""

    def __init__(self, address: EngineAddress, answer_seconds: float) -> None:
        host, _, port = address.address.rpartition(":")
        self.name = address.name
        self.address = address.address
        self.upstream = Upstream(host.strip("[]"), int(port), answer_seconds=answer_seconds)
        self.is_ready = False
        self.is_silent = False
        self.in_flight = 0
        self.sequence = 0
        self.suspect_until = 0.0
        self._names: dict[str, bytes] = {}

    def take(self, report: AgentReport) -> None:
        self.sequence = report.sequence
        self.is_silent = False
        self.is_ready = report.engine_ready
        self.suspect_until = 0.0
        self._names = {
            adapter.digest: adapter.engine_name.encode()
            for adapter in report.adapters
            if adapter.state == LOADED and adapter.engine_name
        }

    def name_of(self, digest: str) -> bytes | None:
        """The engine's own name for an artifact; None when it cannot answer for it."""
        return self._names.get(digest) if self.is_ready else None

    def holding(self, digest: str) -> str:
        """This engine as the holder of one artifact, for lists of what was tried."""
        return f"{self.address} {digest}"


class Fleet:
    """All engines in the table."""

    def __init__(self, clock: Callable[[], float], answer_seconds: float) -> None:
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._engines: dict[str, Engine] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def engines(self) -> Collection[Engine]:
        return self._engines.values()

    @property
    def is_known(self) -> bool:
        """Whether a request would find what there is: the first reports take a moment to come.

        Of all: the first to report may be an engine that is just going away.
        """
        return all(e.sequence or e.is_silent for e in self.engines)

    def update(self, addresses: list[EngineAddress]) -> None:
        """Follow the table: new engines are polled, those that left get nothing more."""
        wanted = {address.address: address for address in addresses}
        for gone in self._engines.keys() - wanted.keys():
            self._polls.pop(gone).cancel()
            self._engines.pop(gone).upstream.close()
        for new in wanted.keys() - self._engines.keys():
            engine = Engine(wanted[new], self._answer_seconds)
            self._engines[new] = engine
            self._polls[new] = asyncio.create_task(self._poll(engine))

    def pick(self, digest: str, tried: Collection[str]) -> tuple[Engine, bytes] | None:
        """The least busy engine that holds an artifact, and its name there."""
        now = self._clock()
        best: Engine | None = None
        best_name = b""
        best_rank = (2, 0, 0.0)
        for engine in self._engines.values():
            name = engine.name_of(digest)
            if name is None or engine.address in tried or engine.holding(digest) in tried:
                continue
            rank = (int(engine.suspect_until > now), engine.in_flight, random.random())  # noqa: S311 - breaks ties
            if rank < best_rank:
                best, best_name, best_rank = engine, name, rank
        return None if best is None else (best, best_name)

    def suspect(self, engine: Engine) -> None:
        engine.suspect_until = self._clock() + SUSPECT_SECONDS

    async def close(self) -> None:
        self.update([])
        if self._session is not None:
            await self._session.close()

    async def _poll(self, engine: Engine) -> None:
        """Ask one agent again and again what its engine holds, until cancelled."""
        failures = 0
        while True:
            try:
                engine.take(await self._report(engine))
                failures = 0
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as fault:
                failures += 1
                if failures == 1:
                    logger.warning(
                        "the agent of engine %s at %s does not report: %s",
                        engine.name,
                        engine.address,
                        str(fault) or type(fault).__name__,
                    )
                engine.is_silent = True
                engine.sequence = 0  # the next report is wanted at once, whatever it says
                pause = min(SLOWEST_RETRY_SECONDS, 0.05 * 2 ** min(failures, 10))
                engine.suspect_until = self._clock() + pause + SUSPECT_SECONDS
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    async def profile(self, digest: str) -> ReferenceProfile | None:
        """A version's reference profile from whichever agent has it; None when it has none.

        Engines of another base know nothing of it: who holds it is asked, if anybody does.
        """
        faults = ["no engine is there to be asked"]
        able = [e for e in self.engines if e.sequence and not e.is_silent]
        for engine in [e for e in able if e.name_of(digest)] or able:
            url = f"http://{engine.address}/profile/{digest}"
            limit = aiohttp.ClientTimeout(total=PROFILE_SECONDS)
            try:
                async with self._open_session().get(url, timeout=limit) as response:
                    body = await response.read()
                    if response.status == 200:
                        return ReferenceProfile.model_validate_json(body)
                    if response.status == 404:
                        return None
                    faults.append(f"{engine.address} answered {response.status}")
            except (aiohttp.ClientError, TimeoutError, OSError) as fault:
                faults.append(f"{engine.address}: {str(fault) or type(fault).__name__}")
        raise ProfileUnavailable(faults[-1])

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=POLL_SECONDS + 10, sock_connect=2),
            )
        return self._session

    async def _report(self, engine: Engine) -> AgentReport:
        parameters = {"after": engine.sequence, "wait": POLL_SECONDS if engine.sequence else 0}
        url = f"http://{engine.address}/adapters"
        limit = None if engine.sequence else aiohttp.ClientTimeout(total=FIRST_REPORT_SECONDS)
        async with self._open_session().get(
            url, params=parameters, raise_for_status=True, timeout=limit
        ) as response:
            return AgentReport.model_validate_json(await response.read())
