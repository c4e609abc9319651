"""One queue of keys per kind: the only place where reconciles are started and repeated.

A key waits at most once and is never worked on twice at the same time; what arrives while it is
being worked on brings it back afterwards. Namespaces take turns, so that one with thousands of
objects cannot starve another. What a reconcile returns decides when its key is looked at again.

    add ──► waiting ──► working ──► Done(None)   rests until something changes
              ▲            │
              └── later ◄──┴──────► Done(t), Retry, an error
"""

import asyncio
import heapq
import itertools
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never

from trimtab_operator.adapters import visits
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.adapters.visits import Visit
from trimtab_operator.domain.errors import ClusterUnreachable, Conflict, TrimtabError
from trimtab_operator.domain.outcome import Done, Outcome, Reject, Retry

log = logging.getLogger(__name__)
Key = tuple[str, str]  # namespace, name
Reconcile = Callable[[Key], Awaitable[Outcome]]

FIRST_BACKOFF: Final = timedelta(milliseconds=200)
LAST_BACKOFF: Final = timedelta(minutes=2)
# Somebody else wrote first: the watch brings their view within moments.
AFTER_CONFLICT: Final = timedelta(milliseconds=50)


def backoff(failures: int) -> timedelta:
    """Doubles with each failure in a row; half of it is chance, so that a crowd spreads out."""
    longest = min(FIRST_BACKOFF * float(2 ** min(failures, 16)), LAST_BACKOFF)
    chance: float = random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
    return longest * chance


def next_visit(outcome: Outcome, failures: int) -> timedelta | None:
    """When to look at this key again; None means when something changes."""
    match outcome:
        case Done(again_after):
            return again_after  # a deadline, a TTL, the next reading; or None
        case Reject():
            return None
        case Retry(after=after):
            return after if after is not None else backoff(failures)
        case _:
            assert_never(outcome)


class FairQueue:
    """Keys in order of arrival within a namespace; namespaces take turns."""

    def __init__(self) -> None:
        self._namespaces: OrderedDict[str, deque[Key]] = OrderedDict()
        self._members: set[Key] = set()

    def __len__(self) -> int:
        return len(self._members)

    def push(self, key: Key, *, urgent: bool = False) -> bool:
        """Put a key in; False when it waits already. Urgent keys go to the front, wherever they were."""
        is_new = key not in self._members
        if not is_new and not urgent:
            return False
        waiting = self._namespaces.setdefault(key[0], deque())
        if not is_new:
            waiting.remove(key)
        self._members.add(key)
        if urgent:
            waiting.appendleft(key)
            self._namespaces.move_to_end(key[0], last=False)
        else:
            waiting.append(key)
        return is_new

    def pop(self) -> Key:
        """The next key; its namespace goes to the end of the row."""
        namespace, waiting = next(iter(self._namespaces.items()))
        key = waiting.popleft()
        self._members.remove(key)
        if waiting:
            self._namespaces.move_to_end(namespace)
        else:
            del self._namespaces[namespace]
        return key


@dataclass(order=True)
class _Visit:
    due: float
    order: int
    key: Key


class WorkQueue:
    """Runs one kind's reconciler for the keys that are put in."""

    def __init__(
        self, kind: str, reconcile: Reconcile, telemetry: Telemetry, workers: int = 8
    ) -> None:
        self.kind = kind
        self._reconcile = reconcile
        self._telemetry = telemetry
        # Looked up once: prometheus-client searches for them under a lock.
        self._depth = telemetry.depth.labels(kind)
        self._waits = telemetry.waits.labels(kind)
        self._durations = telemetry.durations.labels(kind)
        self._workers = workers
        self._waiting = FairQueue()
        self._since: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}
        # Until then the server wants to hear nothing of this key, whatever changes meanwhile.
        self._held_until: dict[Key, float] = {}
        self._visits: list[_Visit] = []
        self._order = itertools.count()
        self._visit_numbers = itertools.count(1)
        self._wake = asyncio.Event()
        self._scheduled = asyncio.Event()
        telemetry.age.labels(kind).set_function(self._age)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Look at this key as soon as possible."""
        if key in self._working:
            self._again.add(key)
        elif (left := self._held_for(key)) > timedelta():
            self.add_after(key, left)
        elif self._waiting.push(key, urgent=urgent):
            self._since[key] = asyncio.get_running_loop().time()
            self._depth.set(len(self._waiting))
            self._wake.set()

    def add_after(self, key: Key, delay: timedelta) -> None:
        """Look at this key after a while; a later date gives way to an earlier one."""
        due = asyncio.get_running_loop().time() + max(delay.total_seconds(), 0)
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._visits, _Visit(due, next(self._order), key))
        self._scheduled.set()

    def _held_for(self, key: Key) -> timedelta:
        until = self._held_until.get(key)
        return (
            timedelta(seconds=until - asyncio.get_running_loop().time()) if until else timedelta()
        )

    @property
    def is_crowded(self) -> bool:
        """Whether keys wait although every worker is at work."""
        return len(self._waiting) > 0 and len(self._working) >= self._workers

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        return not len(self._waiting) and not self._working

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_dates())
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def _keep_dates(self) -> None:
        while True:
            self._scheduled.clear()
            now = asyncio.get_running_loop().time()
            while self._visits and self._visits[0].due <= now:
                visit = heapq.heappop(self._visits)
                if self._due.get(visit.key) == visit.due:
                    del self._due[visit.key]
                    self.add(visit.key)
            delay = self._visits[0].due - now if self._visits else None
            try:
                async with asyncio.timeout(delay):
                    await self._scheduled.wait()
            except TimeoutError:
                continue

    async def _work(self) -> None:
        while True:
            while not len(self._waiting):
                self._wake.clear()
                await self._wake.wait()
            key = self._waiting.pop()
            now = asyncio.get_running_loop().time()
            since = self._since.pop(key, now)
            self._depth.set(len(self._waiting))
            self._waits.observe(now - since)
            self._working.add(key)
            # A date that was set before is void: this visit sets the next one.
            self._due.pop(key, None)
            self._held_until.pop(key, None)
            try:
                with visits.begun(Visit(self.kind, *key, next(self._visit_numbers), since)):
                    await self._visit(key)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)
            # A visit that writes nothing waits for nothing: ten thousand of them in a row would hold
            # up the lease, the watches and whoever asks whether we are ready.
            await asyncio.sleep(0)

    async def _visit(self, key: Key) -> None:
        began = asyncio.get_running_loop().time()
        outcome = await self._outcome(key)
        self._durations.observe(asyncio.get_running_loop().time() - began)
        self._telemetry.visited(self.kind, type(outcome).__name__)
        delay = next_visit(outcome, self._failures.get(key, 0))
        if isinstance(outcome, Retry):
            self._failures[key] = self._failures.get(key, 0) + 1
        else:
            self._failures.pop(key, None)
        if delay is not None:
            self.add_after(key, delay)

    async def _outcome(self, key: Key) -> Outcome:
        """What the reconcile says; errors that it let pass become retries."""
        try:
            outcome = await self._reconcile(key)
        except Conflict as error:
            self._telemetry.errors.labels(self.kind, "Conflict").inc()
            log.debug("somebody else wrote first", extra={"error": str(error)})
            return Retry(str(error), after=None if self._failures.get(key) else AFTER_CONFLICT)
        except TrimtabError as error:
            self._telemetry.errors.labels(self.kind, type(error).__name__).inc()
            log.warning("reconcile put off", extra={"error": str(error)})
            wait = error.after if isinstance(error, ClusterUnreachable) else None
            if wait is not None:
                self._held_until[key] = asyncio.get_running_loop().time() + wait.total_seconds()
            return Retry(str(error), after=wait)
        except Exception as error:
            self._telemetry.errors.labels(self.kind, type(error).__name__).inc()
            log.exception("reconcile failed")
            return Retry(f"{type(error).__name__}: {error}")
        if isinstance(outcome, Retry):
            log.info("tried again later", extra={"error": outcome.message})
        return outcome

    def _age(self) -> float:
        """Seconds for which the oldest key has waited; urgent ones and namespaces' turns change the order."""
        now = asyncio.get_running_loop().time()
        return now - min(self._since.values(), default=now)
