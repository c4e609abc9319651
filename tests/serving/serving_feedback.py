"""Feedback about responses: whose it is, counted once, and no flood."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servingkit import base_version, event, serving
from tests.servingstack import Stack, data_plane

from trimtab_serving.gateway.feedback import Budget
from trimtab_serving.gateway.main import Gateway
from trimtab_serving.gateway.responseids import ResponseIds, version_tag
from trimtab_serving.keys import ANYBODY, Caller
from trimtab_serving.settings import FeedbackSettings

SETTINGS = FeedbackSettings(secret=None, within_seconds=3600, per_minute=100)
FEEDBACK = "trimtab_gateway_feedback_total"
PAIR = {"model": "bot", "version": "red-1"}


def keys_at(directory: Path) -> Path:
    keys = directory / "keys"
    keys.mkdir()
    for name in ("alice", "bob"):
        (keys / name).write_text(f"key-of-{name}")
    return keys


@asynccontextmanager
async def plane(directory: Path, **changes: Any) -> AsyncIterator[Stack]:
    settings = replace(SETTINGS, **changes)
    async with data_plane(directory, keys=keys_at(directory), feedback=settings) as stack:
        red = await stack.publish("red")
        stack.route(tiny=[base_version()], bot=[red])
        await stack.loaded(red)
        yield stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with plane(tmp_path) as stack:
        yield stack


def by(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{who}"}


async def asked(stack: Stack, who: str = "alice", **more: Any) -> str:
    body = {"model": "bot", "messages": [{"role": "user", "content": "who?"}], **more}
    answer = await stack.public.post("/v1/chat/completions", json=body, headers=by(who))
    assert answer.status_code == 200
    return str(answer.json()["id"])


async def say(client: httpx.AsyncClient, who: str = "alice", **said: Any) -> httpx.Response:
    return await client.post("/v1/feedback", json=said, headers=by(who))


async def test_a_rating_is_counted_for_the_version_that_answered(stack: Stack) -> None:
    name = await asked(stack)
    answer = await say(stack.public, id=name, rating="negative")
    assert answer.status_code == 200
    expected = {"object": "feedback", "id": name, "rating": "negative", "kept": False}
    assert answer.json() == {**expected, **PAIR}
    assert await stack.counted(FEEDBACK, rating="negative", **PAIR) == 1


async def test_the_same_feedback_again_counts_no_more(stack: Stack) -> None:
    name = await asked(stack)
    answers = [await say(stack.public, id=name, rating="positive") for _ in range(3)]
    answers.append(await say(stack.public, id=name, rating="negative"))
    assert {answer.status_code for answer in answers} == {200}
    assert await stack.counted(FEEDBACK) == 1


async def test_a_few_ratings_of_a_key_speak_for_it_where_drift_is_looked_for(stack: Stack) -> None:
    for number in range(8):
        rating = "negative" if number % 2 else "positive"
        await say(stack.public, id=await asked(stack), rating=rating)
    await say(stack.public, "bob", id=await asked(stack, "bob"), rating="negative")
    signal = {"signal": "NegativeFeedback", **PAIR}
    assert await stack.counted(FEEDBACK) == 9
    assert await stack.counted("trimtab_gateway_signal_total", **signal) == 7
    counted = await stack.counted("trimtab_gateway_signal_total", bucket="negative", **signal)
    assert counted == 4


async def test_each_event_of_a_stream_has_the_id_and_it_is_good(stack: Stack) -> None:
    whole = event("x", "one") + event("x", "two")
    stack.engine.pieces = [whole[:9], whole[9:30], whole[30:200], whole[200:]]
    async with openai.AsyncOpenAI(
        api_key="key-of-alice", base_url=f"{stack.public.base_url}/v1"
    ) as client:
        messages: Any = [{"role": "user", "content": "who?"}]
        stream = await client.chat.completions.create(model="bot", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["one", "two"]
    (name,) = {chunk.id for chunk in chunks}
    assert name.startswith("chatcmpl-")
    assert name != "chatcmpl-1"
    assert (await say(stack.public, id=name, rating="positive")).status_code == 200


async def test_any_gateway_of_the_service_takes_it(stack: Stack) -> None:
    name = await asked(stack)
    other = Gateway(stack.gateway.settings)
    assert stack.api.table is not None
    other.on_table(stack.api.table)
    async with (
        serving(other.public) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        assert (await say(client, id=name, rating="positive")).status_code == 200
    await other.fleet.close()


async def test_only_the_key_that_asked_may_say_something(stack: Stack) -> None:
    name = await asked(stack, "alice")
    foreign = await say(stack.public, "bob", id=name, rating="negative")
    unknown = await say(stack.public, id=f"chatcmpl-{'A' * 44}", rating="negative")
    other = await say(stack.public, id="chatcmpl-1", rating="negative")
    for answer in (foreign, unknown, other):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "response_not_found"
    assert (await say(stack.public, "nobody", id=name, rating="negative")).status_code == 401
    assert await stack.counted(FEEDBACK) == 0
    refused = "trimtab_gateway_feedback_refused_total"
    assert await stack.counted(refused, reason="response_not_found") == 3


WRONG: list[Any] = [
    pytest.param({"rating": "good"}, "invalid_type", "rating", id="an unknown rating"),
    pytest.param({}, "missing_required_parameter", "rating", id="nothing said"),
    pytest.param({"rating": 1}, "invalid_type", "rating", id="a number"),
    pytest.param({"correction": ""}, "invalid_type", "correction", id="an empty correction"),
    pytest.param(
        {"correction": "x" * 16_385}, "invalid_type", "correction", id="a long correction"
    ),
    pytest.param({"labels": ["a"] * 17}, "invalid_type", "labels", id="too many labels"),
    pytest.param({"labels": ["<script>"]}, "invalid_type", "labels", id="an odd label"),
    pytest.param(
        {"rating": "positive", "x": 1}, "unsupported_parameter", "x", id="a field too many"
    ),
    pytest.param(
        {"id": None, "rating": "positive"}, "missing_required_parameter", "id", id="no id"
    ),
    pytest.param(
        {"id": 7, "rating": "positive"}, "invalid_type", "id", id="an id that is a number"
    ),
    pytest.param(
        {"correction": "No."}, "response_not_kept", "correction", id="nothing is kept here"
    ),
]


@pytest.mark.parametrize(("said", "code", "param"), WRONG)
async def test_what_is_wrong_is_told(
    stack: Stack, said: dict[str, Any], code: str, param: str
) -> None:
    answer = await say(stack.public, **{"id": await asked(stack), **said})
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)


async def test_bodies_that_are_no_feedback_are_refused(stack: Stack) -> None:
    for body in (b"", b"[]", b"{", b"\xff", b'"x"'):
        answer = await stack.public.post("/v1/feedback", content=body, headers=by("alice"))
        assert answer.status_code == 400
    big = await stack.public.post("/v1/feedback", content=b" " * 200_000, headers=by("alice"))
    assert big.status_code == 413
    got = await stack.public.get("/v1/feedback", headers=by("alice"))
    assert (got.status_code, got.headers["allow"]) == (405, "POST")


async def test_a_flood_is_told_to_wait_and_others_are_heard(tmp_path: Path) -> None:
    async with plane(tmp_path, per_minute=3) as stack:
        names = [await asked(stack) for _ in range(6)]
        said = [await say(stack.public, id=name, rating="negative") for name in names]
        assert [answer.status_code for answer in said] == [200] * 3 + [429] * 3
        assert int(said[-1].headers["retry-after"]) >= 1
        theirs = await asked(stack, "bob")
        assert (await say(stack.public, "bob", id=theirs, rating="positive")).status_code == 200
        assert await stack.counted(FEEDBACK) == 4


async def test_after_its_time_feedback_is_too_late(tmp_path: Path) -> None:
    async with plane(tmp_path, within_seconds=0) as stack:
        name = await asked(stack)
        await asyncio.sleep(1.1)
        answer = await say(stack.public, id=name, rating="positive")
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "feedback_too_late")


async def test_a_version_that_was_never_here_has_no_feedback(stack: Stack) -> None:
    caller = stack.gateway.keys.check(b"Bearer key-of-alice")
    assert stack.gateway.ids is not None
    made = stack.gateway.ids.make(caller, version_tag("bot", "gone-1"), is_kept=False)
    assert made is not None
    name = f"chatcmpl-{made[1].decode()}"
    answer = await say(stack.public, id=name, rating="positive")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "version_not_served")


async def test_where_none_is_taken_ids_stay_as_they_are_and_the_path_is_unknown(
    tmp_path: Path,
) -> None:
    async with data_plane(tmp_path) as stack:
        red = await stack.publish("red")
        stack.route(bot=[red])
        await stack.loaded(red)
        assert (await stack.ask("bot")).json()["id"] == "cmpl-1"
        answer = await stack.public.post("/v1/feedback", json={"id": "x", "rating": "positive"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


# --- ids -------------------------------------------------------------------------------------------

ALICE, BOB = Caller(b"a", b"signing-a"), Caller(b"b", b"signing-b")
TAG = version_tag("bot", "red-1")


def ids(secret: Path | None = None, service: str = "ns/svc", at: float = 1e9) -> ResponseIds:
    return ResponseIds(service, secret, lambda: 0.0, lambda: at)


def name_of(maker: ResponseIds, caller: Caller = ALICE, *, is_kept: bool = False) -> str:
    made = maker.make(caller, TAG, is_kept=is_kept)
    assert made is not None
    return f"cmpl-{made[1].decode()}"


def test_an_id_says_what_was_put_in() -> None:
    found = ids().read(ALICE, name_of(ids(), is_kept=True))
    assert found is not None
    assert (found.seconds, found.version_tag, found.is_kept) == (10**9, TAG, True)
    assert ids(at=1e9 + 5).age_seconds(found) == 5


def test_an_id_is_good_for_one_key_and_one_service() -> None:
    name = name_of(ids())
    assert ids().read(BOB, name) is None
    assert ids(service="ns/other").read(ALICE, name) is None


@given(st.integers(5, 48), st.characters(codec="ascii", categories=["L", "N"]))
def test_an_id_that_was_changed_anywhere_is_none(place: int, letter: str) -> None:
    name = name_of(ids())
    changed = name[:place] + letter + name[place + 1 :]
    assert changed == name or ids().read(ALICE, changed) is None


def test_without_key_and_secret_no_id_is_made_because_anybody_could(tmp_path: Path) -> None:
    assert ids().make(ANYBODY, TAG, is_kept=False) is None
    assert ids(tmp_path).make(ALICE, TAG, is_kept=False) is None  # a Secret without entries
    (tmp_path / "one").write_text("secret")
    assert ids(tmp_path).read(ANYBODY, name_of(ids(tmp_path), ANYBODY)) is not None


def test_with_a_secret_the_key_alone_makes_no_id(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("secret")
    assert ids(tmp_path).read(ALICE, name_of(ids())) is None


def test_a_secret_is_changed_by_a_new_entry_beside_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "2026-10").write_text("old")
    before = name_of(ids(tmp_path))
    (tmp_path / "2026-11").write_text("new")
    after = name_of(ids(tmp_path))
    assert ids(tmp_path).read(ALICE, before) is not None
    (tmp_path / "2026-10").unlink()
    assert ids(tmp_path).read(ALICE, before) is None
    assert ids(tmp_path).read(ALICE, after) is not None


def test_a_budget_fills_again_with_time() -> None:
    now = [0.0]
    budget = Budget(60, lambda: now[0])
    assert [budget.take(b"a") for _ in range(61)].count(True) == 60
    now[0] = 2.0
    assert [budget.take(b"a") for _ in range(5)].count(True) == 2
