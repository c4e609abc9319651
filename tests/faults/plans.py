"""What goes wrong in one run, as data: drawn from a seed, printed when a run fails, replayed from that.

Whether a request meets a fault follows from the seed, the request and how often it was made before,
and from nothing else: however requests race each other, the same ones fail.
"""

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

# What the proxy answers instead of asking the API server.
REFUSALS: Final = (
    "conflict",  # 409 on writes: somebody was faster
    "too-many-requests",  # 429 with Retry-After
    "internal-error",  # 500
    "unavailable",  # 503
    "quota-denied",  # 403 that authorisation has nothing to do with
    "webhook-down",  # 500 with the text of an admission webhook that cannot be called
    "page-expired",  # 410 in the middle of a paged list
)
# What it does to requests that do reach the API server.
TROUBLES: Final = (
    "slow",  # every answer takes `seconds` longer
    "answer-lost",  # the write takes place, the connection ends without a word
    "answer-late",  # the write takes place, its answer comes after `seconds`
    "stale-list",  # the answer of the list before, with its older resource version
)
# What it does to watches.
WATCHES: Final = (
    "watch-expired",  # 410 as soon as it begins
    "watch-failed",  # another error in place of an event, after `after` of them
    "watch-cut",  # ends in the middle of a line, after `after` events
    "watch-silent",  # says nothing more after `after` events, and stays open
    "event-dropped",  # events are missing, and nothing ever says so
    "event-dropped-then-expired",  # one event is missing, and then comes a 410
    "events-doubled",
    "events-late",  # each kind by another delay: the order between kinds is lost
)
# What happens to the operator and its world.
WORLD: Final = (
    "kill",  # SIGKILL right after write number `after` took place, and after every `every` more
    "two-operators",  # both at once, with leader election
    "clock-jumps",  # the operator's time of day is off by `seconds`, to and fro
    "restart-at-rest",  # once all is done: nothing may be written because of it
    "foreign-finalizer",  # somebody's finalizer delays the end of what is deleted
)
KINDS: Final = (*REFUSALS, *TROUBLES, *WATCHES, *WORLD)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: the first `times` times for each request or watch, in a share of them."""

    kind: str
    times: int = 1
    share: float = 1.0
    seconds: float = 0.0
    after: int = 0
    every: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            message = f"no such fault: {self.kind}"
            raise ValueError(message)


@dataclass(frozen=True)
class Plan:
    """All that goes wrong in one run."""

    seed: int
    faults: tuple[Fault, ...] = ()

    def having(self, kind: str) -> Fault | None:
        """The fault of this kind, if there is one."""
        return next((f for f in self.faults if f.kind == kind), None)

    def strikes(self, kind: str, what: str, before: int) -> Fault | None:
        """The fault of this kind, if it strikes what was seen so often before."""
        fault = self.having(kind)
        if fault is None or before >= fault.times:
            return None
        return fault if self.chance(kind, what, before) < fault.share else None

    def chance(self, *parts: object) -> float:
        """A number between 0 and 1 that follows from the seed and the parts."""
        return zlib.crc32(repr((self.seed, *parts)).encode()) / 2**32

    def to_json(self) -> str:
        """What `Plan.of_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Plan":
        """A plan from where a failed run has printed it."""
        content = json.loads(text)
        return cls(content["seed"], tuple(Fault(**f) for f in content["faults"]))


# Each kind alone, at a strength that hurts and lets the scenario go on.
ALONE: Final = (
    Fault("conflict", times=2),
    Fault("too-many-requests", times=1, share=0.5),
    Fault("internal-error", times=2, share=0.5),
    Fault("unavailable", times=2, share=0.5),
    Fault("quota-denied", times=2),
    Fault("webhook-down", times=2),
    Fault("page-expired", times=2),
    Fault("slow", seconds=0.2),
    Fault("answer-lost", times=1),
    Fault("stale-list", times=1000),
    Fault("watch-expired", times=3),
    Fault("watch-failed", times=3, after=5),
    Fault("watch-cut", times=1000, after=4),
    Fault("watch-silent", times=2, after=4),
    Fault("event-dropped", times=1000, share=0.2),
    Fault("event-dropped-then-expired", times=3, after=3),
    Fault("events-doubled", times=1000),
    Fault("events-late", times=1000, seconds=1.0),
    Fault("kill", after=7, every=15),
    Fault("two-operators"),
    Fault("clock-jumps", seconds=20),  # what is due after a time may come so much later
    Fault("foreign-finalizer"),
)
# One operator, and no fault that goes on: or "at rest" would mean something else.
RESTART: Final = Fault("restart-at-rest")


def grouped(seed: int, size: int = 3) -> list[Plan]:
    """Plans that hold each kind once between them: as hard as each alone, in a third of the time."""
    order = random.Random(seed).sample(ALONE, k=len(ALONE))  # noqa: S311 - as below
    return [Plan(seed, tuple(order[n : n + size])) for n in range(0, len(order), size)]


def mixed(seed: int, least: int = 2, most: int = 4) -> Plan:
    """A few kinds together, as the seed says."""
    chosen = random.Random(seed)  # noqa: S311 - it has to be repeatable, not secret
    return Plan(seed, tuple(chosen.sample(ALONE, k=chosen.randint(least, most))))


def storm(seed: int) -> Plan:
    """About half of all kinds at once."""
    return mixed(seed, 9, 12)


def shrunk(plan: Plan, fails: Callable[[Plan], bool], attempts: int = 8) -> Plan:
    """A plan with fewer faults that still fails; each attempt costs a run."""
    smallest = plan
    for fault in plan.faults:
        rest = tuple(f for f in smallest.faults if f != fault)
        if attempts > 0 and rest:
            attempts -= 1
            if fails(Plan(plan.seed, rest)):
                smallest = Plan(plan.seed, rest)
    return smallest
