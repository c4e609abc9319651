"""The routing table as the operator last wrote it.

One ConfigMap is listed and watched by plain HTTP. When the API server is gone, or what it holds
cannot be read, the last good table stays in force; a copy on disk outlives a restart of the
container. The token is read again for each request, because the kubelet renews it.
"""

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import ValidationError

from trimtab_api.routing import RoutingTable
from trimtab_serving.settings import TableSource

logger = logging.getLogger(__name__)

OnTable = Callable[[RoutingTable], None]

# A watch is ended and begun anew this often, so that a connection that died in silence costs little.
WATCH_SECONDS: Final = (40, 60)
SLOWEST_RETRY_SECONDS: Final = 10.0


class Expired(Exception):
    """The API server no longer knows the version from which we wanted to go on."""


class TableWatch:
    """Calls `on_table` with each new table, the first one included."""

    def __init__(self, source: TableSource, on_table: OnTable) -> None:
        self._source = source
        self._on_table = on_table
        self._current: RoutingTable | None = None
        self.is_connected = False

    @property
    def has_table(self) -> bool:
        return self._current is not None

    async def run(self) -> None:
        """Watch until cancelled."""
        self._load_copy()
        failures = 0
        while True:
            try:
                async with self._session() as session:
                    version = await self._list(session)
                    failures = 0
                    await self._follow(session, version)
            except Expired:
                logger.info("the watch of the routing table expired and begins anew")
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as fault:
                self.is_connected = False
                failures += 1
                pause = min(SLOWEST_RETRY_SECONDS, 0.2 * 2 ** min(failures, 8))
                logger.warning(
                    "the routing table cannot be read, the last one stays in force: %s; again in %.1f s",
                    str(fault) or type(fault).__name__,
                    pause,
                )
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    def _session(self) -> aiohttp.ClientSession:
        secure = self._source.api_server.startswith("https://")
        context = ssl.create_default_context(cafile=str(self._source.ca_file)) if secure else True
        return aiohttp.ClientSession(
            base_url=self._source.api_server,
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5, sock_read=WATCH_SECONDS[1] + 15
            ),
        )

    def _request(self, session: aiohttp.ClientSession, **more: str) -> Any:  # noqa: ANN401 - aiohttp's context manager is private
        headers = {"accept": "application/json"}
        if self._source.token_file.exists():
            headers["authorization"] = f"Bearer {self._source.token_file.read_text().strip()}"
        parameters = {"fieldSelector": f"metadata.name={self._source.configmap}", **more}
        path = f"/api/v1/namespaces/{self._source.namespace}/configmaps"
        return session.get(path, params=parameters, headers=headers)

    async def _list(self, session: aiohttp.ClientSession) -> str:
        async with self._request(session) as response:
            if response.status != 200:
                raise ValueError(await _complaint(response))
            found = await response.json()
        self.is_connected = True
        for item in found.get("items") or []:
            self._take(item)
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, session: aiohttp.ClientSession, version: str) -> None:
        while True:
            seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads load
            watch = self._request(
                session,
                watch="true",
                resourceVersion=version,
                allowWatchBookmarks="true",
                timeoutSeconds=str(seconds),
            )
            async with watch as response:
                if response.status == 410:
                    raise Expired
                if response.status != 200:
                    raise ValueError(await _complaint(response))
                async for line in response.content:
                    version = self._event(json.loads(line)) or version

    def _event(self, event: dict[str, Any]) -> str | None:
        """Act on an event; returns the version that it brings."""
        kind, thing = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if thing.get("code") == 410:
                raise Expired
            raise ValueError(f"the watch failed: {thing.get('message')}")
        if kind in ("ADDED", "MODIFIED"):
            self._take(thing)
        elif kind == "DELETED":
            logger.warning("the routing table was deleted; the last one stays in force")
        version = (thing.get("metadata") or {}).get("resourceVersion")
        return str(version) if version else None

    def _take(self, configmap: dict[str, Any]) -> None:
        data, keys = configmap.get("data") or {}, self._source.keys
        text = next((data[key] for key in keys if key in data), None)
        if text is None:
            logger.error("the ConfigMap of the routing table has no %s", " nor ".join(keys))
        elif (table := _table(text)) is not None and table != self._current:
            self._current = table
            self._keep_copy(text)
            self._on_table(table)

    def _load_copy(self) -> None:
        cache = self._source.cache
        if cache is None or self._current is not None or not cache.exists():
            return
        table = _table(cache.read_text())
        if table is not None:
            logger.info("going on with the routing table of %s until the API server answers", cache)
            self._current = table
            self._on_table(table)

    def _keep_copy(self, text: str) -> None:
        cache = self._source.cache
        if cache is None:
            return
        try:
            _replace(cache, text)
        except OSError as fault:  # the copy is a convenience: without it only a restart is poorer
            logger.warning("the routing table could not be copied to %s: %s", cache, fault)


def _replace(path: Path, text: str) -> None:
    """Write so that a reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def _table(text: str) -> RoutingTable | None:
    try:
        return RoutingTable.model_validate_json(text)
    except ValidationError as fault:
        logger.error("the routing table is not valid and was ignored: %s", fault)
        return None


async def _complaint(response: aiohttp.ClientResponse) -> str:
    text = (await response.text())[:300]
    return f"the API server answered {response.status}: {text}"
