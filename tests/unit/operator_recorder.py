"""Events beside the reconciles: warnings come first, the others in their own time, and none twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from tests.servingkit import eventually

from trimtab_operator.adapters import recorder
from trimtab_operator.adapters.api import Api
from trimtab_operator.adapters.clock import SystemClock
from trimtab_operator.adapters.recorder import Recorder
from trimtab_operator.domain.errors import ClusterUnreachable
from trimtab_operator.domain.events import WARNING, Event
from trimtab_operator.domain.manifests import Manifest


class Listening(Api):
    """Takes every Event, but for the first few."""

    def __init__(self, failing: int = 0, after: timedelta | None = None) -> None:
        self.failing = failing
        self.after = after
        self.heard: list[str] = []

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        if self.failing:
            self.failing -= 1
            raise ClusterUnreachable("away", after=self.after)
        self.heard.append(request["body"]["reason"])
        return {}


def an_event(reason: str, **changes: str) -> Event:
    return Event("FineTuneJob", "team", "tune", "u", 1, reason, "said", **changes)


def recording(api: Api) -> Recorder:
    return Recorder(api, SystemClock(), lambda: None)


@asynccontextmanager
async def running(
    events: Recorder, is_crowded: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    task = asyncio.create_task(events.run(is_crowded))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_warning_is_written_before_the_reconcile_goes_on() -> None:
    api = Listening()
    events = recording(api)
    await events.record(an_event("Pending"))
    await events.record(an_event("OutOfMemory", type=WARNING))
    assert api.heard == ["OutOfMemory"]


async def test_the_others_are_written_in_order_when_there_is_time() -> None:
    api = Listening()
    events = recording(api)
    async with running(events):
        for reason in ("Preparing", "Pending", "Pending", "Succeeded"):
            await events.record(an_event(reason))
        await eventually(lambda: len(api.heard) == 3)
    assert api.heard == ["Preparing", "Pending", "Succeeded"]


async def test_a_crowd_is_written_no_faster_than_readers_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "AT_ONCE", 3)
    monkeypatch.setattr(recorder, "PER_SECOND", 0.1)
    api = Listening()
    events = recording(api)
    async with running(events):
        for number in range(9):
            await events.record(an_event(f"Reason{number}"))
        await eventually(lambda: len(api.heard) >= 3)
        await asyncio.sleep(0.1)
    assert len(api.heard) == 3


async def test_a_crowd_of_keys_gets_its_children_before_its_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "PER_SECOND_BESIDE_A_CROWD", 10.0)
    api, crowd = Listening(), ["waiting"]
    events = recording(api)
    async with running(events, lambda: bool(crowd)):
        for number in range(9):
            await events.record(an_event(f"Reason{number}"))
        await asyncio.sleep(0.25)
        assert 1 <= len(api.heard) <= 3
        crowd.clear()
        await eventually(lambda: len(api.heard) == 9)


async def test_a_pause_that_was_asked_for_holds_up_whatever_is_said_next() -> None:
    api = Listening(failing=1, after=timedelta(seconds=0.2))
    events = recording(api)
    now = asyncio.get_running_loop().time
    async with running(events):
        await events.record(an_event("Preparing"))
        await eventually(lambda: not api.failing)
        refused = now()
        await events.record(an_event("Preparing"))
        await events.record(an_event("OutOfMemory", type=WARNING))
        assert now() - refused < 0.1, "no reconcile waits for an Event"
        assert api.heard == []
        await eventually(lambda: len(api.heard) == 2)
        assert now() - refused >= 0.15


async def test_what_could_not_be_said_is_said_when_it_is_true_again() -> None:
    api = Listening(failing=1)
    events = recording(api)
    warning = an_event("OutOfMemory", type=WARNING)
    await events.record(warning)
    await events.record(warning)
    await events.record(warning)
    assert api.heard == ["OutOfMemory"]
