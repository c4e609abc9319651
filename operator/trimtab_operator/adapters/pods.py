"""Our own programs in pods, asked over HTTP.

A pod may be gone, starting or lying: every answer has a short time limit and is parsed strictly.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import ValidationError

from trimtab_api import names
from trimtab_api.documents.training import ProgressReport
from trimtab_api.model import ApiModel
from trimtab_api.routing import AgentReport, ProbeAnswer
from trimtab_operator.domain.errors import PodError

Key = tuple[str, str]
Document = TypeVar("Document", bound=ApiModel)
Woken = Callable[[str, Key], None]

PROGRESS_SECONDS: Final = 1.0
# A probe is a real request through gateway and engine; the first of an engine takes long.
PROBE_SECONDS: Final = 20.0
POLL_SECONDS: Final = 25
AGENT_PAUSE_SECONDS: Final = 1.0
FIRST_WORD_SECONDS: Final = 2.0
ANSWER_BYTES: Final = 4 * 2**20


def host_port(address: str, port: int) -> str:
    """An address for a URL; IPv6 needs brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class HttpPods:
    """The ports `Pods` and `Agents`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._wake: Woken | None = None
        self._reports: dict[str, AgentReport] = {}
        self._followers: dict[str, set[tuple[str, Key]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unheard: dict[str, asyncio.Event] = {}

    def on_change(self, wake: Woken) -> None:
        """Whom to tell that an agent's report has changed: `wake` puts a key into its queue."""
        self._wake = wake

    async def progress(self, address: str) -> ProgressReport:
        """GET /progress of a trainer."""
        url = f"http://{host_port(address, names.PORT_TRAINER)}/progress"
        return await self._ask(url, ProgressReport, PROGRESS_SECONDS)

    async def probe(self, address: str, model: str) -> ProbeAnswer:
        """GET /probe/{model} on a gateway's admin port."""
        place = host_port(address, names.PORT_GATEWAY_ADMIN)
        return await self._ask(f"http://{place}/probe/{quote(model)}", ProbeAnswer, PROBE_SECONDS)

    def follow(
        self, kind: str, key: Key, addresses: Collection[str]
    ) -> Mapping[str, AgentReport | None]:
        """What each agent said last; from now on exactly these are followed for this key."""
        for address in list(self._followers):
            if address not in addresses:
                self._unfollow(address, (kind, key))
        for address in addresses:
            self._followers.setdefault(address, set()).add((kind, key))
            if address not in self._tasks:
                self._unheard[address] = asyncio.Event()
                task = asyncio.get_running_loop().create_task(self._listen(address))
                self._tasks[address] = task
        return {address: self._reports.get(address) for address in addresses}

    async def first_words(self, addresses: Collection[str]) -> None:
        """Wait, but not for long, until each of those that are followed has answered or failed."""
        waits = [self._unheard[a].wait() for a in addresses if a in self._unheard]
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORD_SECONDS):
                await asyncio.gather(*waits)

    async def close(self) -> None:
        """Stop listening."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def _unfollow(self, address: str, follower: tuple[str, Key]) -> None:
        self._followers[address].discard(follower)
        if not self._followers[address]:
            del self._followers[address]
            self._reports.pop(address, None)
            self._unheard.pop(address, None)
            self._tasks.pop(address).cancel()

    async def _listen(self, address: str) -> None:
        """Long polls of one agent, until nobody follows it."""
        while True:
            known = self._reports.get(address)
            query = f"?after={known.sequence}&wait={POLL_SECONDS}" if known is not None else ""
            url = f"http://{address}/adapters{query}"
            try:
                report = await self._ask(url, AgentReport, POLL_SECONDS + 5)
            except PodError:
                self._heard(address)
                if known is not None:
                    del self._reports[address]
                    self._tell(address)
                await asyncio.sleep(AGENT_PAUSE_SECONDS)
                continue
            self._reports[address] = report
            self._heard(address)
            if known != report:
                self._tell(address)
            else:
                # An agent that answers at once although nothing changed must not keep us busy.
                await asyncio.sleep(AGENT_PAUSE_SECONDS / 20)

    def _heard(self, address: str) -> None:
        if first := self._unheard.pop(address, None):
            first.set()

    def _tell(self, address: str) -> None:
        if self._wake is None:
            return
        for kind, key in list(self._followers.get(address, ())):
            self._wake(kind, key)

    async def _ask(self, url: str, kind: type[Document], seconds: float) -> Document:
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.get(url, timeout=limit) as answer:
                text = await answer.content.read(ANSWER_BYTES)
                # A probe that failed says why in its body, whatever its status is.
                if answer.status >= 400 and kind is not ProbeAnswer:
                    message = f"{url} answered {answer.status}"
                    raise PodError(message)
                return kind.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"{url} did not answer: {str(error) or type(error).__name__}"
            raise PodError(message) from error
        except ValidationError as error:
            message = f"{url} answered something else: {error.errors()[0]['msg']}"
            raise PodError(message) from error
