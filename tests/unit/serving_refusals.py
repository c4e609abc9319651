"""Requests that must not reach an engine, each refused in OpenAI's words."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.servingkit import base_version
from tests.servingstack import Stack, data_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One for all cases: none of them changes anything."""
    place = tmp_path_factory.mktemp("stack")
    async with data_plane(place, max_body_bytes=20_000) as stack:
        stack.route(bot=[base_version()])
        await stack.loaded(base_version())
        yield stack


WRONG = {
    "an unknown model is not found": (
        "/v1/completions", {"model": "none", "prompt": "a"}, 404, "model_not_found", "model"),
    "a body that is no JSON is refused": ("/v1/completions", b"{model", 400, None, None),
    "a body that is a list is refused": ("/v1/completions", b"[1]", 400, None, None),
    "an empty body is refused": ("/v1/completions", b"", 400, None, None),
    "a missing model is named": (
        "/v1/completions", {"prompt": "a"}, 400, "missing_required_parameter", "model"),
    "a model that is a number is named": (
        "/v1/completions", {"model": 7, "prompt": "a"}, 400, "invalid_type", "model"),
    "a missing prompt is named": (
        "/v1/completions", {"model": "bot"}, 400, "missing_required_parameter", "prompt"),
    "missing messages are named": (
        "/v1/chat/completions", {"model": "bot"}, 400, "missing_required_parameter", "messages"),
    "messages that are a string are named": (
        "/v1/chat/completions", {"model": "bot", "messages": "hi"}, 400, "invalid_type", "messages"),
    "an empty list of messages is named": (
        "/v1/chat/completions", {"model": "bot", "messages": []}, 400, "invalid_type", "messages"),
    "stream as a string is named": (
        "/v1/completions", {"model": "bot", "prompt": "a", "stream": "yes"}, 400, "invalid_type", "stream"),
    "user as a number is named": (
        "/v1/completions", {"model": "bot", "prompt": "a", "user": 3}, 400, "invalid_type", "user"),
    "log-probabilities of prompts are refused": (
        "/v1/completions", {"model": "bot", "prompt": "a", "prompt_logprobs": 0}, 400,
        "unsupported_parameter", "prompt_logprobs"),
    "echo with log-probabilities is refused": (
        "/v1/completions", {"model": "bot", "prompt": "a", "echo": True, "logprobs": 1}, 400,
        "unsupported_parameter", "echo"),
    "a body above the limit is refused": (
        "/v1/completions", {"model": "bot", "prompt": "a" * 30_000}, 413, "request_too_large", None),
    "an unknown path is not found": ("/v1/embeddings", {"model": "bot"}, 404, "unknown_url", None),
    "the engine's own way to load is not there": (
        "/v1/load_lora_adapter", {"lora_name": "x"}, 404, "unknown_url", None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
async def test_wrong_requests(
    stack: Stack, case: tuple[str, Any, int, str | None, str | None]
) -> None:
    path, body, status, code, param = case
    asked = len(stack.engine.requests)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await stack.public.post(path, content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(stack.engine.requests) == asked
