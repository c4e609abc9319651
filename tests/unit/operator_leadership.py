"""Who leads: the lease, and what its holder may do as long as it has it."""

import asyncio
import copy
from contextlib import suppress
from typing import Any

import pytest
from tests.leading import Hand, slow_write

from trimtab_operator.adapters.api import AlreadyThere, Api
from trimtab_operator.adapters.fence import Fence, boot_seconds
from trimtab_operator.adapters.lease import Election, LeadershipLost, Timing
from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_operator.domain.errors import ClusterUnreachable, Conflict, Gone, NotLeader
from trimtab_operator.domain.manifests import Manifest

PATH = "/apis/coordination.k8s.io/v1/namespaces/trimtab-system/leases"
QUICK = Timing(lease_seconds=15, renew_seconds=10, retry_seconds=0.01, request_seconds=0.1)


class Leases(Api):
    """An API server that holds one lease, and can be away or silent."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.asked: list[str] = []
        self.is_away = False
        self.is_silent = False
        self._version = 0

    @property
    def spec(self) -> Manifest:
        assert self.lease is not None
        return dict(self.lease["spec"])

    def put(self, **spec: Any) -> None:
        """Somebody else writes the lease."""
        self._version += 1
        meta = {"name": "trimtab-operator", "resourceVersion": str(self._version)}
        self.lease = {"metadata": meta, "spec": spec}

    async def request(self, method: str, path: str, **request: Any) -> Manifest:
        self.asked.append(method)
        await asyncio.sleep(0)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.is_away:
            raise ClusterUnreachable("away")
        if method == "POST":
            assert path == PATH
            if self.lease is not None:
                raise AlreadyThere("there is one")
            self.put(**request["body"]["spec"])
        elif self.lease is None:
            raise Gone("no lease")
        elif method == "PUT":
            if request["body"]["metadata"]["resourceVersion"] != str(self._version):
                raise Conflict("changed since")
            self.put(**request["body"]["spec"])
        return copy.deepcopy(self.lease) or {}


class Replica:
    """One process, as far as leading is concerned."""

    def __init__(self, leases: Leases, now: Hand, timing: Timing = QUICK) -> None:
        self.fence = Fence(now)
        self.telemetry = Telemetry()
        self.election = Election(
            leases,
            self.fence,
            self.telemetry,
            namespace="trimtab-system",
            name="trimtab-operator",
            timing=timing,
            now=now,
        )

    async def wins(self, seconds: float = 0.1) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.election.win()
        except TimeoutError:
            return False
        return True

    @property
    def leads(self) -> bool:
        return self.telemetry.registry.get_sample_value("trimtab_operator_leader") == 1

    async def may_write(self) -> bool:
        with suppress(NotLeader):
            async with self.fence.write():
                return True
        return False


async def test_the_first_makes_the_lease_and_a_second_stands_by() -> None:
    leases, now = Leases(), Hand()
    first, second = Replica(leases, now), Replica(leases, now)
    assert await first.wins()
    assert not await second.wins()
    assert leases.spec["holderIdentity"] == first.election.identity
    assert (leases.spec["leaseDurationSeconds"], leases.spec["leaseTransitions"]) == (15, 0)
    assert leases.spec["acquireTime"] == leases.spec["renewTime"]
    assert (await first.may_write(), await second.may_write()) == (True, False)
    assert (first.leads, second.leads) == (True, False)


async def test_of_two_that_come_at_once_one_leads() -> None:
    leases, now = Leases(), Hand()
    replicas = [Replica(leases, now) for _ in range(2)]
    assert sorted(await asyncio.gather(*(r.wins() for r in replicas))) == [False, True]
    assert sum([await r.may_write() for r in replicas]) == 1


async def test_every_process_is_another_candidate() -> None:
    leases, now = Leases(), Hand()
    assert await Replica(leases, now).wins()
    assert not await Replica(leases, now).wins()


TIMES = {
    "that is long past": "2001-01-01T00:00:00.000000Z",
    "that is far in the future": "2101-01-01T00:00:00.000000Z",
}


@pytest.mark.parametrize("time", TIMES.values(), ids=[f"a renewal {name}" for name in TIMES])
async def test_only_our_own_clock_says_that_a_lease_has_lapsed(time: str) -> None:
    leases, now = Leases(), Hand()
    leases.put(holderIdentity="other", leaseDurationSeconds=15, renewTime=time, leaseTransitions=4)
    replica = Replica(leases, now)
    assert not await replica.wins()
    now.seconds += 15
    assert not await replica.wins()
    now.seconds += 0.1
    assert await replica.wins()
    assert leases.spec["leaseTransitions"] == 5


async def test_a_lease_that_is_renewed_is_not_taken() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    for turn in range(3):
        leases.put(holderIdentity="other", leaseDurationSeconds=15, renewTime=f"{turn}")
        assert not await replica.wins(0.05)
        now.seconds += 14


async def test_the_holder_says_how_long_its_lease_holds() -> None:
    leases, now = Leases(), Hand()
    leases.put(holderIdentity="other", leaseDurationSeconds=60, renewTime="1")
    replica = Replica(leases, now)
    assert not await replica.wins()
    now.seconds += 59
    assert not await replica.wins()
    now.seconds += 2
    assert await replica.wins()


async def test_a_lease_that_was_given_back_is_free_at_once() -> None:
    leases, now = Leases(), Hand()
    first, second = Replica(leases, now), Replica(leases, now)
    assert await first.wins()
    assert not await second.wins()
    await first.election.give_back()
    assert not await first.may_write()
    assert "holderIdentity" not in leases.spec
    assert await second.wins()
    assert leases.spec["leaseTransitions"] == 1


async def test_a_standby_gives_nothing_back() -> None:
    leases, now = Leases(), Hand()
    first, second = Replica(leases, now), Replica(leases, now)
    assert await first.wins()
    assert not await second.wins()
    await second.election.give_back()
    assert leases.spec["holderIdentity"] == first.election.identity


async def test_renewing_ends_quietly_after_the_lease_was_given_back() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    keeping = asyncio.create_task(replica.election.keep())
    await asyncio.sleep(0.05)
    await replica.election.give_back()
    async with asyncio.timeout(5):
        await keeping
    assert "holderIdentity" not in leases.spec


async def test_renewing_puts_the_deadline_off_and_keeps_the_rest() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    before = leases.spec
    keeping = asyncio.create_task(replica.election.keep())
    for _ in range(3):
        now.seconds += 8
        await asyncio.sleep(0.05)
        assert await replica.may_write()
    keeping.cancel()
    changed = {key for key, value in leases.spec.items() if before[key] != value}
    assert changed == {"renewTime"}
    assert set(leases.asked[2:]) == {"PUT"}


async def test_a_leader_that_cannot_renew_stops_writing_before_the_lease_lapses() -> None:
    timing = Timing(lease_seconds=3, renew_seconds=1.2, retry_seconds=0.05, request_seconds=0.1)
    leases = Leases()
    replica = Replica(leases, Hand(), timing)
    # The real clock: this is about how long it takes.
    replica.fence._now = replica.election._now = boot_seconds
    assert await replica.wins()
    keeping = asyncio.create_task(replica.election.keep())
    await asyncio.sleep(0.2)
    leases.is_silent = True
    writing = asyncio.create_task(slow_write(replica.fence, 5))
    began = boot_seconds()
    with pytest.raises(LeadershipLost, match="no answer in time"):
        await keeping
    assert boot_seconds() - began < timing.lease_seconds
    assert not await replica.may_write()
    assert await writing == "cut"
    assert not replica.leads
    assert leases.asked.count("GET") > 2, "one request that hangs must not be the only attempt"


async def test_a_moment_without_the_api_server_costs_nothing() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    keeping = asyncio.create_task(replica.election.keep())
    leases.is_away = True
    await asyncio.sleep(0.05)
    leases.is_away = False
    now.seconds += 9
    await asyncio.sleep(0.05)
    now.seconds += 9
    assert await replica.may_write()
    assert not keeping.done()
    keeping.cancel()


async def test_one_that_was_frozen_neither_writes_nor_asks_when_it_wakes() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    asked = len(leases.asked)
    now.seconds += 20
    assert not await replica.may_write()
    with pytest.raises(LeadershipLost):
        await replica.election.keep()
    assert len(leases.asked) == asked


async def test_an_answer_that_comes_too_late_opens_nothing() -> None:
    """The renewal was sent, then the process was frozen, and the lease has lapsed since."""
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    renewing = asyncio.create_task(replica.election._attempt())
    while leases.asked[-1] != "PUT" or len(leases.asked) < 3:
        await asyncio.sleep(0)
    now.seconds += 20
    assert await renewing
    assert not await replica.may_write()


async def test_one_whose_lease_was_taken_ends_at_once() -> None:
    leases, now = Leases(), Hand()
    replica = Replica(leases, now)
    assert await replica.wins()
    leases.put(holderIdentity="other", leaseDurationSeconds=15, renewTime="1")
    with pytest.raises(LeadershipLost, match="other holds the lease"):
        await replica.election.keep()
    assert leases.spec["holderIdentity"] == "other"
    assert not await replica.may_write()


async def test_without_the_right_to_the_lease_a_replica_says_that_it_cannot_take_part() -> None:
    leases = Leases()
    leases.is_away = True
    replica = Replica(leases, Hand())
    assert not await replica.wins()
    assert not replica.election.has_looked
    leases.is_away = False
    assert await replica.wins()
    assert replica.election.has_looked
