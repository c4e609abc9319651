"""The data plane as its users see it: OpenAI's API in front, engines behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.servingkit import base_version, event, eventually, table_of, version_of
from tests.servingstack import Stack, data_plane

from trimtab_api.routing import ProbeAnswer
from trimtab_serving.gateway.fleet import FIRST_REPORT_SECONDS

CHAT = {"model": "bot", "messages": [{"role": "user", "content": "who?"}]}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A base and one adapter, served."""
    async with data_plane(tmp_path, max_body_bytes=20_000) as stack:
        red = await stack.publish("red")
        stack.route(tiny=[base_version()], bot=[red])
        await stack.loaded(red)
        yield stack


async def test_a_completion_is_answered_by_the_version_under_its_public_name(stack: Stack) -> None:
    answer = await stack.ask("bot")
    assert answer.status_code == 200
    said = answer.json()
    assert said["choices"][0]["text"] == "I am red"
    assert (said["model"], said["id"]) == ("bot", "cmpl-1")
    assert answer.headers["x-trimtab-version"] == "red-1"
    assert stack.engine.requests[-1]["model"] == stack.pod.states()["red-1"].engine_name


async def test_the_base_answers_under_its_own_public_name(stack: Stack) -> None:
    answer = await stack.ask("tiny")
    assert answer.json()["choices"][0]["text"] == "I am tiny"
    assert answer.headers["x-trimtab-version"] == "tiny-base"


async def test_models_lists_public_names_only(stack: Stack) -> None:
    listed = (await stack.public.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["tiny", "bot"]
    assert (await stack.public.get("/v1/models/bot")).json()["id"] == "bot"
    assert (await stack.public.get("/v1/models/none")).status_code == 404


async def test_a_stream_arrives_piece_by_piece_under_the_public_name(stack: Stack) -> None:
    name = stack.pod.states()["red-1"].engine_name or ""
    whole = event(name, "one") + event(name, "two")
    # Cut in the middle of the model's name, twice.
    at = whole.index(name.encode()) + 4
    stack.engine.pieces = [whole[:at], whole[at : at + 3], whole[at + 3 :]]
    answer = await stack.public.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert [e["model"] for e in events] == ["bot", "bot"]
    assert [e["choices"][0]["delta"]["content"] for e in events] == ["one", "two"]
    assert name not in answer.text


async def test_the_openai_client_works_streaming_and_not(stack: Stack) -> None:
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{stack.public.base_url}/v1") as client:
        messages: Any = CHAT["messages"]
        whole = await client.chat.completions.create(model="bot", messages=messages)
        assert (whole.model, whole.choices[0].message.content) == ("bot", "I am red")
        stream = await client.chat.completions.create(model="bot", messages=messages, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream]
        assert words == ["I", "am", "here"]
        with pytest.raises(openai.NotFoundError, match="does not exist") as missing:
            await client.completions.create(model="none", prompt="a")
        assert missing.value.code == "model_not_found"


async def test_a_wrong_method_names_the_right_one(stack: Stack) -> None:
    answer = await stack.public.get("/v1/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_context_that_is_too_long_is_told_in_the_engines_words(stack: Stack) -> None:
    answer = await stack.ask("bot", prompt="a" * 5000)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("bot: This model's maximum context length")
    assert answer.headers["x-trimtab-version"] == "red-1"


async def test_parameters_that_we_do_not_know_reach_the_engine_as_they_are(stack: Stack) -> None:
    body = b'{"prompt": "\\u00e9 \\"model\\": \\"bot\\"",  "model" :"bot", "x": {"deep": [1e400, 0.10]}}'
    body = body.replace(b"1e400, ", b"")
    assert (await stack.public.post("/v1/completions", content=body)).status_code == 200
    seen = stack.engine.requests[-1]
    assert seen["prompt"] == 'é "model": "bot"'
    assert seen["x"] == {"deep": [0.10]}


async def test_keys_never_reach_the_engine(stack: Stack) -> None:
    headers = {"authorization": "Bearer secret", "x-request-id": "r1", "cookie": "a=b"}
    await stack.public.post(
        "/v1/completions", json={"model": "bot", "prompt": "a"}, headers=headers
    )
    seen = {name.lower() for name in stack.engine.requests[-1]["headers"]}
    assert "x-request-id" in seen
    assert not seen & {"authorization", "cookie"}


async def test_a_model_without_an_engine_is_for_later(stack: Stack) -> None:
    stack.route(bot=stack.models["bot"], other=[version_of("other-1", "sha256:" + "0" * 64)])
    await eventually(lambda: stack.gateway.forwarder.knows("other"))
    answer = await stack.ask("other")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["code"] == "no_engine_available"


async def test_a_version_without_weight_gets_nothing(stack: Stack) -> None:
    silent = stack.models["bot"][0].model_copy(update={"weight": 0})
    stack.route(bot=[silent])
    await eventually(lambda: not stack.gateway.forwarder.knows("tiny"))
    assert (await stack.ask("bot")).status_code == 503


async def test_a_stream_whose_client_goes_is_ended_in_the_engine(stack: Stack) -> None:
    stack.engine.hold = asyncio.Event()
    request = stack.public.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    async with request as answer:
        await anext(answer.aiter_bytes())
    await eventually(lambda: stack.engine.aborted == 1)
    await eventually(lambda: not any(e.in_flight for e in stack.gateway.fleet.engines))
    assert stack.pod.agent.use.total == 0
    assert 'code="499",model="bot",version="red-1"' in await stack.metrics()


async def test_a_waiting_request_whose_client_goes_is_ended_in_the_engine(stack: Stack) -> None:
    stack.engine.hold = asyncio.Event()
    with pytest.raises(httpx.ReadTimeout):
        async with stack.public.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, timeout=0.2
        ) as answer:
            await answer.aread()
    await eventually(lambda: stack.engine.aborted == 1)


async def test_a_stream_that_breaks_says_so(stack: Stack) -> None:
    stack.engine.breaks = True
    answer = await stack.public.post("/v1/chat/completions", json={**CHAT, "stream": True})
    last = [line for line in answer.text.split("\n\n") if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_failed"
    assert "[DONE]" not in answer.text


async def test_a_probe_goes_the_way_of_requests_and_is_not_counted(stack: Stack) -> None:
    before = len(stack.engine.requests)
    answer = ProbeAnswer.model_validate_json((await stack.admin.get("/probe/bot")).content)
    assert (answer.ok, answer.version, answer.model) == (True, "red-1", "bot")
    assert stack.engine.requests[before]["max_tokens"] == 1
    assert "bot" not in await stack.metrics()
    failed = await stack.admin.get("/probe/none")
    assert failed.status_code == 503
    assert "does not exist" in failed.json()["message"]


async def test_a_probe_reaches_a_version_that_has_no_traffic_yet(stack: Stack) -> None:
    blue = await stack.publish("blue", weight=0)
    stack.route(bot=[*stack.models["bot"], blue])
    await stack.loaded(blue)
    answer = (await stack.admin.get("/probe/bot", params={"version": "blue-1"})).json()
    assert (answer["ok"], answer["version"]) == (True, "blue-1")


async def test_what_is_counted(stack: Stack) -> None:
    await stack.ask("bot")
    await stack.ask("none")
    await stack.public.post("/v1/chat/completions", json={**CHAT, "stream": True})
    text = await stack.metrics()
    for line in (
        'trimtab_gateway_requests_total{code="200",model="bot",version="red-1"} 2.0',
        'trimtab_gateway_requests_total{code="404",model="",version=""} 1.0',
        'trimtab_gateway_tokens_total{kind="completion",model="bot",version="red-1"} 3.0',
        'trimtab_gateway_time_to_first_token_seconds_count{model="bot",version="red-1"} 1.0',
        'trimtab_gateway_request_duration_seconds_count{model="bot",version="red-1"} 2.0',
        "trimtab_gateway_requests_in_flight 0.0",
        "trimtab_gateway_engines_ready 1.0",
    ):
        assert line in text.splitlines()
    assert "none" not in text


async def test_readiness_waits_for_a_table_and_ends_with_the_word_to_stop(tmp_path: Path) -> None:
    async with data_plane(tmp_path) as stack:
        assert (await stack.admin.get("/readyz")).status_code == 503
        stack.route(tiny=[base_version()])
        await eventually(lambda: stack.gateway.unready() is None)
        assert (await stack.admin.get("/readyz")).status_code == 200
        await stack.loaded(base_version())
        stack.gateway.lifecycle.drain()
        assert "going away" in (await stack.admin.get("/readyz")).text
        answer = await stack.ask("tiny")  # those who have not heard yet are still answered
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_a_gateway_is_ready_once_engines_have_said_what_they_hold(tmp_path: Path) -> None:
    async with data_plane(tmp_path) as stack:
        fleet, models = stack.gateway.fleet, {"tiny": [base_version()]}
        stack.gateway.on_table(table_of(models, (stack.pod.address,)))
        assert not fleet.is_known
        await eventually(lambda: fleet.is_known)
        stack.gateway.on_table(table_of(models, ("127.0.0.1:9",)))
        assert not fleet.is_known
        await eventually(lambda: fleet.is_known)  # nobody is there, and waiting would not help
        stack.gateway.on_table(table_of(models))
        assert fleet.is_known


async def test_a_gateway_waits_for_the_first_word_of_every_engine(tmp_path: Path) -> None:
    async with data_plane(tmp_path) as stack, mute() as hangs:
        fleet, models = stack.gateway.fleet, {"tiny": [base_version()]}
        began = asyncio.get_running_loop().time()
        stack.gateway.on_table(table_of(models, (stack.pod.address, hangs)))
        await eventually(lambda: any(engine.sequence for engine in fleet.engines))
        assert not fleet.is_known
        await eventually(lambda: fleet.is_known)  # but not for long for one that says nothing
        assert asyncio.get_running_loop().time() - began < 2 * FIRST_REPORT_SECONDS


@asynccontextmanager
async def mute() -> AsyncIterator[str]:
    """An address where whoever comes is let in and told nothing."""
    hold = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        hold.set()


async def test_keys_open_the_door_and_are_changed_without_a_restart(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text("key-1\n")
    async with data_plane(tmp_path, keys=keys) as stack:
        stack.route(tiny=[base_version()])
        await stack.loaded(base_version())

        async def with_key(key: str | None) -> httpx.Response:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            body = {"model": "tiny", "prompt": "a"}
            return await stack.public.post("/v1/completions", json=body, headers=headers)

        assert (await with_key(None)).status_code == 401
        assert (await with_key("key-2")).json()["error"]["code"] == "invalid_api_key"
        assert (await with_key("key-1")).status_code == 200
        assert (await stack.public.get("/v1/models")).status_code == 401
        (keys / "alice").unlink()
        (keys / "bob").write_text("key-2")
        await asyncio.sleep(1.1)
        assert (await with_key("key-1")).status_code == 401
        assert (await with_key("key-2")).status_code == 200


async def test_the_least_busy_engine_gets_the_next_request(tmp_path: Path) -> None:
    async with data_plane(tmp_path, engines=2) as stack:
        stack.route(tiny=[base_version()])
        await stack.loaded(base_version())
        hold = asyncio.Event()
        for pod in stack.pods:
            pod.engine.hold = hold
            pod.engine.requests.clear()
        body = {"model": "tiny", "prompt": "a", "stream": True}
        posts = [
            asyncio.create_task(stack.public.post("/v1/completions", json=body)) for _ in range(6)
        ]
        await eventually(lambda: sum(len(p.engine.requests) for p in stack.pods) == 6)
        assert [len(pod.engine.requests) for pod in stack.pods] == [3, 3]
        hold.set()
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}


async def test_an_engine_that_is_gone_costs_no_request(tmp_path: Path) -> None:
    async with data_plane(tmp_path, engines=2) as stack:
        stack.route(tiny=[base_version()])
        await stack.loaded(base_version())
        # The agent stays, its engine refuses connections: what a crash looks like for a moment.
        gone = stack.pods[0]
        gone.agent.upstream._port = 1
        gone.agent.upstream.close()
        answers = [await stack.ask("tiny") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert "trimtab_gateway_retries_total 0.0" not in await stack.metrics()


async def test_an_engine_that_forgot_an_adapter_costs_no_request(tmp_path: Path) -> None:
    async with data_plane(tmp_path, engines=2) as stack:
        red = await stack.publish("red")
        stack.route(bot=[red])
        await stack.loaded(red)
        stack.pods[0].engine.forget()
        answers = [await stack.ask("bot") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        await eventually(lambda: len(stack.pods[0].engine.loads) == 2)
        await stack.loaded(red)


async def test_a_second_version_takes_over_without_a_failed_request(tmp_path: Path) -> None:
    async with data_plane(tmp_path) as stack:
        red, blue = await stack.publish("red"), await stack.publish("blue")
        stack.route(bot=[red])
        await stack.loaded(red)
        answers: list[httpx.Response] = []

        async def traffic() -> None:
            while True:
                answers.append(await stack.ask("bot"))

        task = asyncio.create_task(traffic())
        stack.route(bot=[red, blue.model_copy(update={"weight": 0})])
        await stack.loaded(blue)
        stack.route(bot=[blue, red.model_copy(update={"weight": 0})])
        await eventually(lambda: answers[-1].headers["x-trimtab-version"] == "blue-1")
        stack.route(bot=[blue])
        await eventually(lambda: "red" not in stack.engine.voices.values())
        task.cancel()
        assert {answer.status_code for answer in answers} == {200}
        voices = {answer.json()["choices"][0]["text"] for answer in answers}
        assert voices == {"I am red", "I am blue"}
        assert len(answers) > 20
