"""Callers beside their own past: who is unusual, who has to wait, and what is told of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.servingkit import base_version, eventually
from tests.servingstack import Stack, data_plane

from trimtab_serving.gateway import callers as module
from trimtab_serving.gateway.callers import MOST_KEYS, MOST_TOLD, Callers
from trimtab_serving.gateway.metrics import CallerMetrics
from trimtab_serving.keys import Caller, id_of
from trimtab_serving.openai import ApiError
from trimtab_serving.settings import AbuseSettings

HOUR, DAY = 3600, 86_400
ALICE = Caller(b"alice", b"", "a11ce")
UNUSUAL = "trimtab_gateway_unusual_keys"


class World:
    """Callers, their clock, and their series."""

    def __init__(self, **changes: Any) -> None:
        given = {
            "requests_per_minute": None,
            "times_busiest_minute": 5,
            "refused_percent": 50,
            "throttled_per_minute": None,
        }
        self.now = 1_000_000.0
        self.registry = CollectorRegistry()
        settings = AbuseSettings(**{**given, **changes})
        self.callers = Callers(settings, CallerMetrics(self.registry), lambda: self.now)

    def ask(self, times: int, caller: Caller = ALICE, seconds: float = 0.1) -> int:
        """So many requests, one after the other; how many were let through."""
        passed = 0
        for _ in range(times):
            self.now += seconds
            try:
                self.callers.admit(caller)
                passed += 1
            except ApiError:
                pass
        return passed

    def at_next_minute(self) -> None:
        self.now = (self.now // 60 + 1) * 60

    def usual(self, hours: float, per_minute: int = 20) -> None:
        for _ in range(int(hours * 60)):
            self.at_next_minute()
            self.ask(per_minute)

    @property
    def unusual(self) -> list[tuple[str, str]]:
        return sorted((key, str(how)) for key, how in self.callers.unusual())

    def exposed(self) -> str:
        self.callers.tell()
        return generate_latest(self.registry).decode()


def test_far_more_than_ever_before_is_unusual_and_passes() -> None:
    world = World()
    world.usual(2)
    world.at_next_minute()
    assert world.ask(100) == 100
    assert world.unusual == [], "five times the busiest minute, and no more"
    assert world.ask(1) == 1
    assert world.unusual == [("a11ce", "Requests")]
    world.now += 601
    assert world.unusual == []


def test_a_new_key_is_learned_from_for_an_hour() -> None:
    world = World()
    world.usual(0.5)
    world.at_next_minute()
    world.ask(500)
    assert world.unusual == []


def test_few_requests_are_never_unusual() -> None:
    world = World()
    world.usual(2, per_minute=1)
    world.at_next_minute()
    world.ask(60)
    assert world.unusual == []
    world.ask(1)
    assert world.unusual == [("a11ce", "Requests")]


def test_what_it_did_once_a_day_is_its_own_past() -> None:
    world = World()
    world.usual(1.5, per_minute=500)
    world.usual(20, per_minute=1)
    world.at_next_minute()
    world.ask(500, seconds=0.05)
    assert world.unusual == []


def test_a_flood_does_not_become_usual_by_going_on() -> None:
    world = World()
    world.usual(2, per_minute=20)
    for _ in range(2):
        world.usual(1, per_minute=590)
        world.now += DAY
    world.at_next_minute()
    world.ask(599, seconds=0.05)
    assert world.unusual == [], "what has doubled twice is near enough by now"
    world = World()
    world.usual(2, per_minute=20)
    world.usual(23, per_minute=590)
    assert world.unusual == [("a11ce", "Requests")], "for as long as it is its first day"


def test_a_week_without_a_request_leaves_the_floor() -> None:
    world = World()
    world.usual(2)
    world.now += 30 * DAY
    world.at_next_minute()
    world.ask(60)
    assert world.unusual == []
    world.ask(1)
    assert world.unusual == [("a11ce", "Requests")]


@pytest.mark.parametrize(
    ("answers", "declined", "expected"),
    [
        pytest.param(40, 25, [("a11ce", "Refusals")], id="most are declined"),
        pytest.param(40, 10, [], id="some are declined"),
        pytest.param(15, 15, [], id="too few to say"),
    ],
)
def test_answers_that_decline_are_a_sign(
    answers: int, declined: int, expected: list[tuple[str, str]]
) -> None:
    world = World()
    world.ask(1)
    for number in range(answers):
        world.callers.answered(b"alice", is_declined=number >= answers - declined)
    world.callers.answered(b"nobody", is_declined=True)
    assert world.unusual == expected


def test_refusals_of_long_ago_are_forgotten() -> None:
    world = World()
    world.ask(1)
    for _ in range(30):
        world.callers.answered(b"alice", is_declined=True)
    world.now += HOUR
    for _ in range(30):
        world.callers.answered(b"alice", is_declined=False)
    assert world.unusual == []


def test_a_limit_is_a_bucket_that_fills_steadily() -> None:
    world = World(requests_per_minute=60)
    assert world.ask(100, seconds=0) == 60
    with pytest.raises(ApiError) as refusal:
        world.callers.admit(ALICE)
    assert refusal.value.status == 429
    assert (b"retry-after", b"1") in refusal.value.headers
    assert world.ask(30, seconds=1) == 30
    assert world.ask(50, Caller(b"bob", b"", "b0b"), seconds=0) == 50, "another key is no other's"
    assert 'trimtab_gateway_throttled_total{reason="limit"}' in world.exposed()


def test_who_waits_as_he_was_told_is_let_through() -> None:
    world = World(requests_per_minute=7)
    for _ in range(40):
        try:
            world.callers.admit(ALICE)
        except ApiError as refusal:
            world.now += int(dict(refusal.headers)[b"retry-after"])
            world.callers.admit(ALICE)


def test_an_unusual_key_is_slowed_where_the_policy_says_so_and_freed_afterwards() -> None:
    world = World(throttled_per_minute=6)
    world.usual(2)
    world.at_next_minute()
    assert world.ask(300) == 100 + 6 + 1, "a minute's worth, and what came meanwhile"
    assert 'throttled_total{reason="unusual"} ' in world.exposed()
    world.now += 700
    assert world.ask(50) == 50


def test_the_lower_of_two_limits_counts() -> None:
    world = World(requests_per_minute=3, throttled_per_minute=600)
    for _ in range(30):
        world.callers.answered(b"alice", is_declined=True)
    assert world.ask(20, seconds=0) == 3


def test_memory_and_series_are_bounded() -> None:
    world = World()
    for number in range(MOST_KEYS + 10):
        world.ask(1, Caller(b"%d" % number, b"", f"{number}"))
    assert len(world.callers) <= MOST_KEYS
    for number in range(MOST_KEYS - 100, MOST_KEYS):
        for _ in range(20):
            world.callers.answered(b"%d" % number, is_declined=True)
    assert world.exposed().count(UNUSUAL + "{") == MOST_TOLD
    world.now += 601
    assert UNUSUAL + "{" not in world.exposed()


def test_an_id_is_the_same_everywhere_and_shows_no_key() -> None:
    # printf %s key-of-alice | openssl dgst -sha256 -hmac 'trimtab: id of a key'
    assert id_of(b"key-of-alice") == "28196684b869"


# --- the whole gateway ---------------------------------------------------------------------------


@asynccontextmanager
async def plane(directory: Path, **limits: Any) -> AsyncIterator[Stack]:
    keys = directory / "keys"
    keys.mkdir()
    for name in ("alice", "bob"):
        (keys / name).write_text(f"key-of-{name}")
    given = {"times_busiest_minute": 5, "refused_percent": 50, "throttled_per_minute": None}
    abuse = AbuseSettings(**{"requests_per_minute": None, **given, **limits})
    async with data_plane(directory, keys=keys, abuse=abuse) as stack:
        stack.route(bot=[base_version()])
        await stack.loaded(base_version())
        yield stack


async def asked(stack: Stack, who: str, **more: Any) -> Any:
    body = {"model": "bot", "messages": [{"role": "user", "content": "who?"}], **more}
    headers = {"authorization": f"Bearer key-of-{who}"}
    return await stack.public.post("/v1/chat/completions", json=body, headers=headers)


async def test_above_the_limit_the_answer_is_429_in_openai_words(tmp_path: Path) -> None:
    async with plane(tmp_path, requests_per_minute=2) as stack:
        assert [(await asked(stack, "alice")).status_code for _ in range(2)] == [200, 200]
        refused = await asked(stack, "alice")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "2 requests a minute" in error["message"]
        assert (await asked(stack, "bob")).status_code == 200
        assert (await stack.admin.get("/probe/bot")).status_code == 200, "probes are not limited"


async def test_refusals_reach_the_series_under_an_id_that_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_ANSWERS", 3)
    async with plane(tmp_path) as stack:
        stack.engine.says = "I'm sorry, but I can't help with that."
        for _ in range(4):
            assert (await asked(stack, "alice")).status_code == 200
        told = {"key": id_of(b"key-of-alice"), "reason": "Refusals"}
        for _ in range(1000):  # answers are looked at off the requests' path
            if await stack.counted(UNUSUAL, **told) == 1:
                break
            await asyncio.sleep(0.005)
        assert await stack.counted(UNUSUAL, **told) == 1
        text = (await stack.admin.get("/metrics")).text
        assert "key-of-alice" not in text
        assert "alice" not in text


async def test_answers_of_which_a_filter_leaves_nothing_are_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_ANSWERS", 3)
    async with plane(tmp_path) as stack:
        end = {"index": 0, "delta": {}, "finish_reason": "content_filter"}
        stack.engine.pieces = [b"data: %b\n\n" % json.dumps({"choices": [end]}).encode()]
        for _ in range(4):
            assert (await asked(stack, "alice", stream=True)).status_code == 200
        callers = stack.gateway.callers
        assert callers is not None
        await eventually(lambda: list(callers.unusual()))
