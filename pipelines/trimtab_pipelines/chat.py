"""Questions to a chat model behind an OpenAI API: a teacher that writes data, a judge of answers.

A server that is busy or starts anew is waited for; what no waiting mends ends the run with the reason.
What an answer says is for others to judge: here it is text, perhaps none.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self

import httpx

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.endpoint import ChatEndpoint
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources.access import Secret

log = logging.getLogger(__name__)

API_KEY = "OPENAI_API_KEY"
_CONNECT_SECONDS = 10
# Longer than an engine needs to be replaced; then the pod ends, and is tried again later.
_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
# A question that takes too long takes as long again.
_TOO_SLOW_TIMES = 3
_LONGEST_PAUSE_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 8 << 20
_QUOTED_CHARACTERS = 200
_FORBIDDEN = frozenset({401, 403, 407})
_PASSING = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class Question:
    """One request; whatever decides about the answer stands in it."""

    messages: tuple[tuple[str, str], ...]  # role and content
    max_tokens: int
    temperature: float = 0.0

    def body(self, model: str) -> dict[str, Any]:
        """The request as the API takes it."""
        return {
            "model": model,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }


@dataclass
class ChatModel:
    """A chat model; `who` is what messages call it. Use it as an asynchronous context."""

    who: str
    endpoint: ChatEndpoint
    url: str
    secret: Secret
    pauses: Sequence[float] = _PAUSES_SECONDS
    _client: httpx.AsyncClient = field(init=False)
    _free: asyncio.Semaphore = field(init=False)

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context()
        if bundle := self.secret.file("ca.crt"):
            context.load_verify_locations(cafile=str(bundle))
        key = self.secret.get(API_KEY)
        self._client = httpx.AsyncClient(
            verify=context,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(self.endpoint.timeout_seconds, connect=_CONNECT_SECONDS),
        )
        self._free = asyncio.Semaphore(self.endpoint.concurrency)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def answers(self, questions: Sequence[Question]) -> list[str]:
        """The answers in the order of the questions; the first that cannot be had ends all."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(question)) for question in questions]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, question: Question) -> str:
        async with self._free:
            too_slow, trouble = 0, ""
            for pause in (*self.pauses, None):
                try:
                    status, body, wait = await self._sent(question)
                except httpx.TimeoutException as error:
                    too_slow += not isinstance(error, httpx.ConnectTimeout)
                    trouble, wait = self._too_slow(error), None
                    if too_slow >= _TOO_SLOW_TIMES:
                        break
                except httpx.TransportError as error:
                    trouble, wait = _words(error), None
                    if "CERTIFICATE_VERIFY_FAILED" in trouble:
                        trouble += "; put the CA of its certificate under ca.crt into credentials"
                        break
                else:
                    if status == httpx.codes.OK:
                        return self._text(body)
                    if status < 500 and status not in _PASSING:
                        self._refused(status, body)
                    trouble = f"it answers {status} {_quoted(body)}"
                if pause is not None:
                    log.warning("%s: %s; asked again", self.who, trouble)
                    await asyncio.sleep(pause if wait is None else wait)
        raise RunError(
            FailureReason.ENDPOINT_UNREACHABLE,
            f"{self.who} at {self.url} does not answer: {trouble}",
        )

    async def _sent(self, question: Question) -> tuple[int, bytes, float | None]:
        """Status, body, and how long the server asks to wait."""
        # The time-out of httpx is one for each read: a server that trickles would never end.
        try:
            async with asyncio.timeout(self.endpoint.timeout_seconds):
                return await self._exchanged(question)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the whole answer takes too long") from error

    async def _exchanged(self, question: Question) -> tuple[int, bytes, float | None]:
        request = self._client.build_request(
            "POST", f"{self.url}/chat/completions", json=question.body(self.endpoint.model)
        )
        answer = await self._client.send(request, stream=True)
        try:
            found = bytearray()
            async for part in answer.aiter_bytes():
                found += part
                if len(found) > _LARGEST_ANSWER_BYTES:
                    self._no_api(f"an answer is larger than {_LARGEST_ANSWER_BYTES >> 20} MiB")
        finally:
            await answer.aclose()
        return answer.status_code, bytes(found), _asked_to_wait(answer)

    def _text(self, body: bytes) -> str:
        try:
            choices = json.loads(body)["choices"]
            content = choices[0]["message"].get("content") if choices else ""
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            self._no_api(f"it says {_quoted(body)}")
        if content is None:
            return ""
        if not isinstance(content, str):
            self._no_api("the content of its message is no text")
        return content

    def _too_slow(self, error: httpx.TimeoutException) -> str:
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection in {_CONNECT_SECONDS} s"
        return (
            f"no answer in {self.endpoint.timeout_seconds} s; raise timeoutSeconds, or lower "
            "concurrency or the length of what it reads and writes"
        )

    def _refused(self, status: int, body: bytes) -> NoReturn:
        if status in _FORBIDDEN:
            raise RunError(
                FailureReason.ENDPOINT_FORBIDDEN,
                f"{self.who} at {self.url} answers {status}; name a Secret with a valid {API_KEY} in its credentials",
            )
        raise RunError(
            FailureReason.ENDPOINT_REFUSED,
            f"{self.who} at {self.url} answers {status} {_quoted(body)}; check its address, its model "
            f'"{self.endpoint.model}", and whether what it reads and writes fits into its context',
        )

    def _no_api(self, detail: str) -> NoReturn:
        raise RunError(
            FailureReason.ENDPOINT_REFUSED,
            f"{self.who} at {self.url} does not speak the OpenAI API: {detail}; check its address",
        )


def _asked_to_wait(answer: httpx.Response) -> float | None:
    said = answer.headers.get("Retry-After", "")
    return min(float(said), _LONGEST_PAUSE_SECONDS) if said.isdigit() else None


def _quoted(body: bytes) -> str:
    """The beginning of what a server said, its own message where it has one."""
    try:
        said = json.loads(body)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body[: 4 * _QUOTED_CHARACTERS].decode(errors="replace")
    text = " ".join(text.split())
    return f'"{text[:_QUOTED_CHARACTERS]}"' if text else "nothing"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
