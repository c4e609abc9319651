"""The engine's API as far as the agent uses it for itself; users' requests go through the proxy."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from trimtab_serving.agent.verify import Question

ADMIN_SECONDS: Final = 60.0
HEALTH_SECONDS: Final = 3.0
# The first requests of an engine compile what they need.
WARM_UP_SECONDS: Final = 600.0


class EngineUnavailable(Exception):
    """No answer: the engine is starting, restarting, or gone."""


class EngineRefused(Exception):
    """The engine answered, with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class EngineClient:
    """vLLM's endpoints, typed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url=self._url,
            connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=4),
            timeout=aiohttp.ClientTimeout(total=ADMIN_SECONDS, sock_connect=2),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check_health(self) -> None:
        """Raises when the engine cannot work."""
        await self._call("GET", "/health", seconds=HEALTH_SECONDS)

    async def names(self) -> dict[str, str]:
        """Names under which models are registered, and from where they were loaded."""
        listed = json.loads(await self._call("GET", "/v1/models", seconds=HEALTH_SECONDS))
        return {str(model["id"]): str(model.get("root") or "") for model in listed["data"]}

    async def load(self, name: str, path: Path) -> None:
        await self._call(
            "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}
        )

    async def unload(self, name: str) -> None:
        """Unload an adapter; one that is not there is as good as unloaded."""
        try:
            await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        except EngineRefused as refusal:
            if refusal.status != 404:
                raise

    async def warm_up(self, name: str) -> None:
        """The first requests, which are slow, are ours: sampled ones, then log-probabilities."""
        plain = {
            "model": name,
            "prompt": [1, 2, 3, 4],
            "max_tokens": 2,
            "temperature": 0.7,
            "top_p": 0.9,
        }
        await self._call("POST", "/v1/completions", plain, seconds=WARM_UP_SECONDS)
        await self.logprobs(name, [Question(0, 0, (1,), 2)])

    async def logprobs(self, name: str, questions: Sequence[Question]) -> list[float]:
        """The engine's answers to all questions, asked at once so that it can batch them."""
        return list(
            await asyncio.gather(*(self._logprob(name, question) for question in questions))
        )

    async def _logprob(self, name: str, question: Question) -> float:
        """By allowing one token only, whatever its probability, its log-probability is told."""
        body = {
            "model": name,
            "prompt": list(question.prefix),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 0,
            "allowed_token_ids": [question.token],
        }
        text = await self._call("POST", "/v1/completions", body, seconds=WARM_UP_SECONDS)
        try:
            return float(json.loads(text)["choices"][0]["logprobs"]["token_logprobs"][0])
        except (ValueError, KeyError, IndexError, TypeError) as fault:
            raise EngineRefused(200, f"no log-probability in the answer: {text[:200]!r}") from fault

    async def metrics(self) -> bytes:
        return await self._call("GET", "/metrics", seconds=HEALTH_SECONDS)

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        if self._session is None:
            raise EngineUnavailable("the client is closed")
        timeout = aiohttp.ClientTimeout(total=seconds or ADMIN_SECONDS, sock_connect=2)
        try:
            async with self._session.request(method, path, json=body, timeout=timeout) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise EngineUnavailable(f"{path}: {str(fault) or type(fault).__name__}") from fault
        if response.status != 200:
            raise EngineRefused(response.status, _message(content))
        return content


def _message(content: bytes) -> str:
    """vLLM's own words, out of OpenAI's error object where there is one."""
    try:
        return str(json.loads(content)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500] or "no reason was given"
