"""A real browser, spoken to over its DevTools protocol: Chromium as Debian has it, installed where it is missing.

What it shows is asked of the page itself; whatever it logs, and whatever it asks of a network, is kept.
"""

import asyncio
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from trimtab_local import packages

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers, where it has no namespaces of its own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
)
Answer = dict[str, Any]


def program(log: Path) -> str:
    """The browser's path; the machine gets Debian's package where there is none."""
    for attempt in range(2):
        found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
        if found:
            return found
        if attempt == 0:
            packages.install(["chromium"], log)
    raise AssertionError(f"none of {', '.join(PROGRAMS)} is here; see {log}")


@dataclass
class Page:
    """One tab."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _has_loaded: bool = False

    async def call(self, method: str, **parameters: Any) -> Answer:
        """One command, to its answer; what happens meanwhile is noted."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=30)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._note(message)

    async def opens(self, file: Path) -> None:
        self._has_loaded = False
        await self.call("Page.navigate", url=file.as_uri())
        while not self._has_loaded:
            self._note(await self.socket.receive_json(timeout=30))

    async def asks(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def becomes(
        self, width: int, height: int, *, media: str = "", dark: bool = False
    ) -> None:
        """A screen or a sheet of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def _note(self, message: Mapping[str, Any]) -> None:
        event, about = message.get("method"), message.get("params", {})
        if event == "Page.loadEventFired":
            self._has_loaded = True
        elif event == "Network.requestWillBeSent":
            self.asked_for.append(about["request"]["url"])
        elif event in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}:
            self.complaints.append(json.dumps(about))


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[Page]:
    """A browser with one empty tab, gone at the end with everything that it started."""
    path = program(folder / "packages.log")
    process = await asyncio.create_subprocess_exec(
        *(path, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await asyncio.wait_for(_port(process), 60)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                tab = next(t for t in await answer.json() if t["type"] == "page")
            async with session.ws_connect(
                tab["webSocketDebuggerUrl"], max_msg_size=64 << 20
            ) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                yield page
                with suppress(ConnectionError, TypeError):
                    await page.socket.send_json({"id": 0, "method": "Browser.close"})
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # Its end leaves the pipe's transport to the loop, which may be gone before it is closed.
        process._transport.close()  # type: ignore[attr-defined]


async def _port(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    while line := await process.stderr.readline():
        said += line
        if found := re.search(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
            return found[1].decode()
    raise AssertionError(f"the browser did not start: {said.decode(errors='replace')}")
