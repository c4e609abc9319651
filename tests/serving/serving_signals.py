"""What is counted of the content of requests and answers, and that nothing of it harms a request."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servingkit import base_version, event, eventually
from tests.servingstack import Stack, data_plane

from trimtab_api.documents.profile import ReferenceProfile
from trimtab_pipelines.evaluation.profile import topics_of
from trimtab_serving.gateway import said
from trimtab_serving.gateway.exchange import Exchange, Heard
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.gateway.observer import (
    LARGEST_BODY_BYTES,
    MOST_WAITING,
    MOST_WAITING_BYTES,
    Observer,
)
from trimtab_serving.gateway.said import Said
from trimtab_serving.gateway.signals import prompt_of

COOKING = [f"How long do I bake bread with {n} grams of flour and butter?" for n in range(40)]
TRAVEL = [f"Which train leaves from platform {n} for the airport tomorrow?" for n in range(40)]
PAIR = {"model": "bot", "version": "red-1"}


def profile() -> ReferenceProfile:
    histogram = [0] * 12
    topics = topics_of([*COOKING, *TRAVEL])
    assert topics is not None
    return ReferenceProfile(
        features=1,
        prompts=80,
        prompt_characters=histogram,
        prompt_tokens=histogram,
        topics=topics,
    )


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with data_plane(tmp_path) as stack:
        red = await stack.publish("red", profile=profile())
        stack.route(tiny=[base_version()], bot=[red])
        await stack.loaded(red)
        yield stack


async def chat(stack: Stack, *contents: str, **more: Any) -> Any:
    roles = ["user", "assistant"] * len(contents)
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    return await stack.public.post(
        "/v1/chat/completions", json={"model": "bot", "messages": messages, **more}
    )


async def looked_at(stack: Stack, count: int, name: str = "answers") -> None:
    """Until so many answers were looked at; that happens beside the path."""
    for _ in range(2000):
        if await stack.counted(f"trimtab_gateway_{name}_total") >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(await stack.metrics())


async def eventually_counted(stack: Stack, name: str, value: float) -> None:
    for _ in range(1000):
        if await stack.counted(name, **PAIR) == value:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(await stack.metrics())


async def test_answers_are_counted_by_why_they_ended_streamed_or_not(stack: Stack) -> None:
    await chat(stack, "who?")
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    last = b"data: %b\n\n" % json.dumps({"id": "chatcmpl-1", "choices": [end]}).encode()
    stack.engine.pieces = [event("x", "I am"), event("x", " red"), last]
    await chat(stack, "who?", stream=True)
    stack.engine.pieces = [event("x", ""), last]
    await chat(stack, "who?", stream=True)
    stack.engine.says = ""
    await chat(stack, "who?")
    await looked_at(stack, 4)
    for finish, count in (("length", 1), ("stop", 1), ("empty", 2)):
        assert await stack.counted("trimtab_gateway_answers_total", finish=finish, **PAIR) == count


async def held_up(stack: Stack, seconds: float, *pieces: bytes) -> None:
    """A stream that stands still for so long after its first piece."""
    stack.engine.pieces, stack.engine.hold = list(pieces), asyncio.Event()
    asked = asyncio.create_task(chat(stack, "who?", stream=True))
    await eventually(lambda: stack.engine.requests)
    await asyncio.sleep(seconds)
    stack.engine.hold.set()
    assert (await asked).status_code == 200


async def test_how_fast_tokens_come_is_measured_of_streams_that_are_long_enough(
    stack: Stack,
) -> None:
    words = [event("x", f"word {n}") for n in range(9)]
    await held_up(stack, 0.4, *words)
    name = "trimtab_gateway_unit_token_seconds"
    await eventually_counted(stack, f"{name}_count", 1)
    assert 0.4 / 8 * 0.9 < await stack.counted(f"{name}_sum", **PAIR) < 4
    stack.engine.requests.clear()
    await held_up(stack, 0.1, *words[:7])
    await looked_at(stack, 2)
    assert await stack.counted(f"{name}_count", **PAIR) == 1


async def test_tokens_are_as_many_as_the_answer_says(stack: Stack) -> None:
    told = {"id": "c", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 401}}
    usage = b"data: %b\n\n" % json.dumps(told, separators=(",", ":")).encode()
    await held_up(stack, 0.4, event("x", "many words"), event("x", " at once"), usage)
    name = "trimtab_gateway_unit_token_seconds"
    await eventually_counted(stack, f"{name}_count", 1)
    assert 0.4 / 400 * 0.9 < await stack.counted(f"{name}_sum", **PAIR) < 0.02


async def test_a_stream_that_breaks_has_no_pace(stack: Stack) -> None:
    stack.engine.pieces = [event("x", f"word {n}") for n in range(9)]
    stack.engine.breaks = True
    await chat(stack, "who?", stream=True)
    assert await stack.counted("trimtab_gateway_units_total", code="502", **PAIR) == 1
    assert await stack.counted("trimtab_gateway_unit_token_seconds_count") == 0


async def test_refusals_are_counted_by_how_an_answer_begins(stack: Stack) -> None:
    stack.engine.says = "I'm sorry, but I can't help with that."
    await chat(stack, "who?")
    stack.engine.says = "Of course."
    await chat(stack, "who?")
    await looked_at(stack, 2)
    assert await stack.counted("trimtab_gateway_refusals_total", **PAIR) == 1
    assert await stack.counted("trimtab_gateway_unit_refusals_total", **PAIR) == 1


async def test_openings_are_counted_by_length_language_and_topic(stack: Stack) -> None:
    await chat(stack, COOKING[3], user="ann")  # the profile is asked for with the first
    await eventually(lambda: stack.gateway.topics._models)
    await chat(stack, COOKING[5], user="bob")
    await chat(stack, TRAVEL[5], user="cleo")
    await looked_at(stack, 3, "signal_requests")
    signal = "trimtab_gateway_signal_total"
    assert await stack.counted(signal, signal="PromptLength", bucket="3", **PAIR) == 3
    assert await stack.counted(signal, signal="CompletionLength", bucket="0", **PAIR) == 3
    assert await stack.counted(signal, signal="FinishReasons", bucket="length", **PAIR) == 3
    assert await stack.counted(signal, signal="Refusals", bucket="no", **PAIR) == 3
    assert await stack.counted(signal, signal="Languages", bucket="en", **PAIR) == 3
    await eventually(lambda: stack.gateway.observer.waiting == 0)
    model = profile().topics
    assert model is not None
    topics = [model.model().topic_of(text) for text in (COOKING[5], TRAVEL[5])]
    assert topics[0] != topics[1]
    for topic in topics:
        assert await stack.counted(signal, signal="Topics", bucket=str(topic), **PAIR) == 1


async def test_an_agent_tells_profiles_of_its_table_and_of_nothing_else(stack: Stack) -> None:
    red = stack.models["bot"][0]
    async with httpx.AsyncClient(base_url=f"http://{stack.pod.address}") as agent:
        found = await agent.get(f"/profile/{red.digest}")
        assert ReferenceProfile.model_validate_json(found.content) == profile()
        for digest in (base_version().digest, "sha256:" + "0" * 64, "../../etc/passwd"):
            assert (await agent.get(f"/profile/{digest}")).status_code == 404
        assert (await agent.post(f"/profile/{red.digest}")).status_code == 404


async def test_a_record_of_an_earlier_release_gets_its_profile_from_the_registry(
    stack: Stack,
) -> None:
    red = stack.models["bot"][0]
    (record,) = (stack.directory / "engine-0" / "adapters" / ".records").glob("*.json")
    kept = json.loads(record.read_text())
    del kept["profile"]
    record.write_text(json.dumps(kept))
    async with httpx.AsyncClient(base_url=f"http://{stack.pod.address}", timeout=30) as agent:
        stack.registry.failures[:] = [503] * 10
        assert (await agent.get(f"/profile/{red.digest}")).status_code == 503
        stack.registry.failures.clear()
        assert (await agent.get(f"/profile/{red.digest}")).status_code == 200
    assert json.loads(record.read_text())["profile"] == profile().to_wire()


async def test_later_turns_are_answers_but_no_openings(stack: Stack) -> None:
    await chat(stack, "Hello!", "Hello.", "What is the time?")
    await looked_at(stack, 1)
    assert await stack.counted("trimtab_gateway_signal_requests_total") == 0


async def test_failures_are_the_versions_that_was_asked(stack: Stack) -> None:
    stack.engine.breaks = True
    await chat(stack, "who?", stream=True)
    stack.engine.breaks = False
    unit = "trimtab_gateway_units_total"
    assert await stack.counted(unit, code="502", **PAIR) == 1
    assert await stack.counted("trimtab_gateway_answers_total") == 0


async def test_one_user_is_one_unit_while_two_versions_are_compared(stack: Stack) -> None:
    blue = await stack.publish("blue", weight=50)
    red = stack.models["bot"][0]
    stack.route(tiny=[base_version()], bot=[red, blue])
    await stack.loaded(red, blue)
    await eventually(lambda: len(stack.gateway.forwarder.routes["bot"].versions) == 2)
    for _ in range(5):
        await chat(stack, "who?", user="ann")
    requests = await stack.counted("trimtab_gateway_requests_total", code="200", model="bot")
    units = await stack.counted("trimtab_gateway_units_total", code="200", model="bot")
    assert requests == 5
    assert 1 <= units <= 2  # two where the cell turned meanwhile


async def test_what_users_send_makes_no_series(stack: Stack) -> None:
    for n in range(30):
        await chat(stack, f"{n} " * n, user=f"user-{n}", model="bot" if n % 2 else f"none-{n}")
    await looked_at(stack, 15)
    text = await stack.metrics()
    assert "none-" not in text
    assert "user-" not in text


async def test_odd_messages_are_answered_and_do_not_end_the_looking(stack: Stack) -> None:
    odd: list[Any] = [
        [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]}],
        [{"role": 3, "content": {"a": 1}}, "x", None],
        [{"content": 5}],
    ]
    for messages in odd:
        body = {"model": "bot", "messages": messages}
        assert (await stack.public.post("/v1/chat/completions", json=body)).status_code == 200
    await chat(stack, "who?")
    await looked_at(stack, 4)


PROMPTS = [
    pytest.param("a", "a", id="a prompt"),
    pytest.param(["a", "b"], "a", id="the first of several"),
    pytest.param([1, 2], None, id="tokens are no text"),
    pytest.param([], None, id="nothing"),
    pytest.param(
        [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}], "a", id="a chat"
    ),
    pytest.param(
        [{"role": "user", "content": [{"text": "a"}, {"image_url": "x"}, {"text": "b"}]}],
        "a\nb",
        id="typed parts",
    ),
]


@pytest.mark.parametrize(("content", "prompt"), PROMPTS)
def test_what_people_said_in_a_request(content: object, prompt: str | None) -> None:
    assert prompt_of(content) == prompt


def stream_of(*events: dict[str, Any], is_whole: bool = True) -> Said | None:
    steps = said.of_stream(
        [b"data: %b\n\n" % json.dumps(e).encode() for e in events], is_whole=is_whole
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Said | None = end.value
            return found


def delta(reason: str | None = None, index: int = 0, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": parts, "finish_reason": reason}]}


STREAMS = [
    pytest.param([delta(content="a"), delta("stop", content="b")], Said("ab", "stop"), id="text"),
    pytest.param([delta("stop")], Said("", "empty"), id="nothing at all"),
    pytest.param(
        [delta(tool_calls=[{"function": {"name": "f"}}]), delta("tool_calls")],
        Said("", "tool_calls"),
        id="a tool call",
    ),
    pytest.param([delta("strange", content="a")], Said("a", "other"), id="a reason of its own"),
    pytest.param([delta(content="a"), delta(content="z", index=1)], Said("a", "other"), id="first"),
    pytest.param([{"choices": []}, {"usage": {}}], None, id="no choice"),
    pytest.param(
        [{"choices": [{"text": "a", "finish_reason": "length"}]}],
        Said("a", "length"),
        id="completion",
    ),
]


@pytest.mark.parametrize(("events", "expected"), STREAMS)
def test_what_a_stream_said(events: list[dict[str, Any]], expected: Said | None) -> None:
    assert stream_of(*events) == expected


def test_a_long_stream_without_text_at_its_head_is_not_called_empty() -> None:
    assert stream_of(delta(reasoning="a"), delta("stop"), is_whole=False) == Said("", "stop")


def test_of_a_long_stream_head_and_tail_are_kept() -> None:
    heard = Heard(needs_all=False)
    for n in range(2000):
        heard.add(b"%040d" % n)
    assert not heard.is_whole
    assert sum(map(len, heard.pieces)) < 17_000
    assert heard.pieces[0] == b"%040d" % 0
    assert heard.pieces[-1] == b"%040d" % 1999


class NoTopics:
    def of(self, digest: str) -> None:
        return None


async def test_a_queue_that_is_full_drops_and_counts() -> None:
    metrics = GatewayMetrics()

    observer = Observer(metrics.signals, NoTopics(), None)
    exchange = Exchange("bot", "red-1", "d", "a", is_unit=True, is_opening=True, body=b"{}")
    for _ in range(MOST_WAITING + 7):
        observer.offer(exchange)
    assert observer.waiting == MOST_WAITING
    assert b"trimtab_gateway_signals_dropped_total 7.0" in metrics.exposition()


async def test_what_is_large_is_not_looked_at_and_waits_in_no_more_than_its_room() -> None:
    metrics = GatewayMetrics()
    observer = Observer(metrics.signals, NoTopics(), None)
    exchange = Exchange("bot", "red-1", "d", "a", is_unit=True, is_opening=True, body=b"{}")
    exchange.body = b"x" * (LARGEST_BODY_BYTES + 1)
    observer.offer(exchange)
    exchange.body, exchange.request_bytes = b"{}", MOST_WAITING_BYTES // 4
    for _ in range(5):
        observer.offer(exchange)
    assert observer.waiting == 3
    assert b"trimtab_gateway_signals_dropped_total 3.0" in metrics.exposition()
