"""Callers of a service: the program of a pod that goes on asking and tells of each request.

It goes the way of real clients, by the service's name, over connections that it keeps and over fresh
ones, streaming and not. Nothing is tried again, so that whatever fails is seen. The pod has only this
file and what the serving image holds. A line of JSON per request goes to standard output; told to end,
it lets the requests that it has begun come to their end.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

import aiohttp

# Not a load test: callers without a pause took the processor that a new engine starts on.
PAUSE_SECONDS = 1.5
LONGEST_SECONDS = 60
PLAIN, STREAM = "plain", "stream"
KEPT, FRESH = "kept", "fresh"
END = b"data: [DONE]"
BODY = {"messages": [{"role": "user", "content": "What does os.path.isdir(s) do?"}]}
# Long enough that a stream is often under way when something rolls.
TOKENS = {PLAIN: 8, STREAM: 48}


async def main(url: str, model: str) -> None:
    """Ask until told to end."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with asyncio.TaskGroup() as group:
        for how in TOKENS:
            for connections in (KEPT, FRESH):
                group.create_task(_caller(url, model, how, connections, ended))


async def _caller(url: str, model: str, how: str, connections: str, ended: asyncio.Event) -> None:
    connector = aiohttp.TCPConnector(force_close=connections == FRESH)
    limit = aiohttp.ClientTimeout(total=LONGEST_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
        while not ended.is_set():
            began = time.time()
            fault = await fault_of(session, url, model, how)
            told = {"how": f"{how}, {connections}", "began": began, "ended": time.time()}
            sys.stdout.write(json.dumps({**told, "fault": fault}) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(PAUSE_SECONDS)


async def fault_of(session: aiohttp.ClientSession, url: str, model: str, how: str) -> str | None:
    """Ask once; what was wrong with the answer."""
    body = {"model": model, **BODY, "max_tokens": TOKENS[how], "stream": how == STREAM}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            text = await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return repr(error)
    if answer.status != 200:
        return f"{answer.status}: {text[:300]!r}"
    is_whole = text.rstrip().endswith(END) if how == STREAM else _has_choices(text)
    return None if is_whole else f"no end: {text[-300:]!r}"


def _has_choices(text: bytes) -> bool:
    try:
        said: Any = json.loads(text)
    except ValueError:
        return False
    return isinstance(said, dict) and bool(said.get("choices"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
