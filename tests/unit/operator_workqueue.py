"""The queue: one visit per key at a time, none lost, nobody starved."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from trimtab_operator import workqueue
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterUnreachable, Conflict
from trimtab_operator.domain.outcome import Done, Outcome, Reject, Retry
from trimtab_operator.workqueue import FairQueue, Key, WorkQueue, backoff, next_visit

A, B = ("team", "a"), ("team", "b")


@asynccontextmanager
async def running(
    reconcile: Callable[[Key], Awaitable[Outcome]], workers: int = 4
) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue("FineTuneJob", reconcile, Telemetry(), workers)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.sleep(0)
        while not holds():
            await asyncio.sleep(0.001)


async def idle(queue: WorkQueue) -> None:
    await until(lambda: queue.is_idle)


async def test_a_key_that_waits_is_not_put_in_twice() -> None:
    visits: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        visits.append(key)
        return Done()

    async with running(reconcile) as queue:
        for key in (A, A, B, A):
            queue.add(key)
        await idle(queue)
    assert visits == [A, B]


async def test_it_is_crowded_while_keys_wait_for_a_worker() -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def reconcile(_: Key) -> Outcome:
        begun.set()
        await goes_on.wait()
        return Done()

    async with running(reconcile, workers=1) as queue:
        queue.add(A)
        await begun.wait()
        seen = [queue.is_crowded]
        queue.add(B)
        seen.append(queue.is_crowded)
        goes_on.set()
        await idle(queue)
        seen.append(queue.is_crowded)
    assert seen == [False, True, False]


async def test_visits_that_wait_for_nothing_leave_room_for_others() -> None:
    """Else a lease would lapse, and readiness go unanswered, while ten thousand were looked at."""
    visited: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        visited.append(key)
        return Done()

    async with running(reconcile) as queue:
        for number in range(1000):
            queue.add(("ns", str(number)))
        while not visited:
            await asyncio.sleep(0)
        assert len(visited) < 100


async def test_a_key_is_never_worked_on_twice_at_once_and_comes_back_when_it_changed() -> None:
    inside, most, visits = 0, 0, 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal inside, most, visits
        inside += 1
        visits += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1
        return Done()

    async with running(reconcile) as queue:
        queue.add(A)
        await asyncio.sleep(0.005)
        for _ in range(5):
            queue.add(A)
        await idle(queue)
    assert (most, visits) == (1, 2)


async def test_a_retry_comes_with_growing_distance_and_success_resets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workqueue, "FIRST_BACKOFF", timedelta(milliseconds=4))
    moments: list[float] = []

    async def reconcile(key: Key) -> Outcome:
        moments.append(asyncio.get_running_loop().time())
        return Retry("not yet") if len(moments) < 6 else Done()

    async with running(reconcile) as queue:
        queue.add(A)
        await until(lambda: len(moments) == 6)
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert gaps[-1] > gaps[0]


async def test_done_after_a_time_comes_back_then() -> None:
    visits: list[float] = []

    async def reconcile(key: Key) -> Outcome:
        visits.append(asyncio.get_running_loop().time())
        return Done(timedelta(milliseconds=30)) if len(visits) == 1 else Done()

    async with running(reconcile) as queue:
        queue.add(A)
        await asyncio.sleep(0.1)
    assert len(visits) == 2
    assert visits[1] - visits[0] >= 0.03


async def test_a_date_is_void_once_the_key_was_looked_at_for_another_reason() -> None:
    visits = 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal visits
        visits += 1
        return Done(timedelta(milliseconds=40)) if visits == 1 else Done()

    async with running(reconcile) as queue:
        queue.add(A)
        await idle(queue)
        queue.add(A)
        await asyncio.sleep(0.1)
    assert visits == 2


@pytest.mark.parametrize(
    "error",
    [Conflict("changed"), ClusterUnreachable("503"), RuntimeError("a defect of ours")],
    ids=["a conflict", "an unreachable server", "a defect"],
)
async def test_one_broken_object_does_not_stop_the_others(error: Exception) -> None:
    visits: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        visits.append(key)
        if key == A and visits.count(A) == 1:
            raise error
        return Done()

    async with running(reconcile, workers=1) as queue:
        queue.add(A)
        queue.add(B)
        await until(lambda: visits.count(A) == 2)
    assert B in visits


def test_namespaces_take_turns() -> None:
    queue = FairQueue()
    for name in ("1", "2", "3"):
        queue.push(("big", name))
    queue.push(("small", "1"))
    order = [queue.pop() for _ in range(4)]
    assert order == [("big", "1"), ("small", "1"), ("big", "2"), ("big", "3")]


def test_an_urgent_key_goes_first() -> None:
    queue = FairQueue()
    queue.push(("big", "1"))
    queue.push(("small", "1"))
    queue.push(("small", "2"), urgent=True)
    assert queue.pop() == ("small", "2")


def test_a_key_that_becomes_urgent_while_it_waits_goes_first() -> None:
    queue = FairQueue()
    for name in ("1", "2"):
        queue.push(("team", name))
    assert not queue.push(("team", "2"), urgent=True)
    assert [queue.pop(), queue.pop()] == [("team", "2"), ("team", "1")]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(Done(), None, id="done rests until something changes"),
        pytest.param(Done(timedelta(3)), timedelta(3), id="done with a date comes back then"),
        pytest.param(Reject("no"), None, id="a rejection rests until somebody changes something"),
        pytest.param(Retry("", timedelta(2)), timedelta(2), id="a retry says when"),
    ],
)
def test_the_next_visit(outcome: Outcome, expected: timedelta | None) -> None:
    assert next_visit(outcome, failures=0) == expected


@pytest.mark.parametrize("failures", [0, 3, 9, 1000])
def test_backoff_stays_within_bounds(failures: int) -> None:
    assert timedelta() < backoff(failures) <= workqueue.LAST_BACKOFF
