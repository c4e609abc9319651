"""A base that took the room of another one is guarded, and makes room for it again; never both at once."""

import pytest
from tests.baseworld import (
    NEW,
    a_full,
    answered_by,
    ask_for,
    comes_up,
    engines,
    on_base_one,
    shares,
    tidy_pods,
    tiny,
    visits,
    without_room,
)
from tests.fakes import FakeWorld, settle
from tests.rolloutworld import SCRAPE, Traffic
from tests.servicelife import KEY, seen, told
from tests.servingbuilders import NAMESPACE, a_decision, digest_of

from trimtab_operator.domain.analysis import guard
from trimtab_operator.domain.analysis.blocks import Counts
from trimtab_operator.domain.analysis.promotion import Margin, PromotionTest
from trimtab_operator.reconcilers import modelversion

DAY = 24 * 60 * 60


async def in_the_room(fake: FakeWorld, each_scrape: tuple[int, int] = (100, 5)) -> Traffic:
    """`two` has all requests in the place of `one`, which was counted before it went."""
    traffic = Traffic(fake, model="tiny")
    for _ in range(120):
        traffic.served("one", *each_scrape)
        traffic.scrape()
        fake.clock.advance(seconds=5)
    await without_room(fake, allowDowntime=True, rollbackWindowSeconds=1200)
    for _ in range(60):
        fake.clock.advance(seconds=5)
        traffic.served("one", 100, 100)  # nobody is there to answer
        traffic.scrape()
    comes_up(fake)
    answered_by(fake, "two")
    await visits(fake)
    assert shares(fake) == {"two": 100, "one": 0}
    return traffic


async def answers(fake: FakeWorld, pool: str, version: str) -> None:
    """The engines are there, hold the base, and a request was answered by it."""
    comes_up(fake, pool, version, "10.0.0.9")
    answered_by(fake, version)
    await visits(fake)


async def flows(fake: FakeWorld, traffic: Traffic, seconds: int, errors: int) -> None:
    for _ in range(seconds // SCRAPE):
        fake.clock.advance(seconds=SCRAPE)
        traffic.served("two", 100, errors)
        traffic.scrape()
        await visits(fake)


async def taken_back(fake: FakeWorld) -> str:
    """A bad base makes room again; the name of the engines that come back."""
    traffic = await in_the_room(fake)
    await flows(fake, traffic, 60, 60)
    tidy_pods(fake)
    await visits(fake)
    (back,) = engines(fake)
    assert back != NEW
    return back


async def test_what_is_no_worse_than_the_former_one_was_stays() -> None:
    fake = await on_base_one()
    traffic = await in_the_room(fake)
    await flows(fake, traffic, 1300, 5)
    assert shares(fake) == {"two": 100}
    assert engines(fake) == {NEW}
    assert tiny(fake).last_rollback is None


async def test_a_former_one_of_whom_little_was_counted_may_have_been_as_bad() -> None:
    """No error in 120 requests: its rate may have been 5 % all the same."""
    fake = await on_base_one()
    traffic = await in_the_room(fake, each_scrape=(1, 0))
    await flows(fake, traffic, 600, 4)
    assert tiny(fake).last_rollback is None
    await flows(fake, traffic, 300, 30)
    assert tiny(fake).last_rollback is not None


async def test_what_is_worse_than_the_former_one_was_makes_room_for_it_again() -> None:
    fake = await on_base_one()
    back = await taken_back(fake)
    last = tiny(fake).last_rollback
    assert last is not None
    assert (last.from_version, last.to_version, last.reason) == ("two", "one", "CandidateWorse")
    assert fake.cluster.one("Decision")["spec"]["target"]["digest"] == digest_of("two")
    assert shares(fake) == {"two": 100, "one": 0}
    assert told(fake, "EngineReady") == ("False", "ReplacingEngines")
    await answers(fake, back, "one")
    assert next(iter(shares(fake).items())) == ("one", 100)
    promoted = [e for e in fake.cluster.events.values() if e.reason == "Promoted"]
    assert len(promoted) == 1, "what was gone back to is known to be good, and not guarded"
    assert engines(fake) == {back}
    fake.clock.advance(seconds=61)
    await visits(fake)
    assert shares(fake) == {"one": 100}
    assert engines(fake) == {back}
    assert seen(fake).status.base_change is None
    assert told(fake) == ("False", "VersionQuarantined"), "the spec names what was taken back"
    assert told(fake, "EngineReady") == ("True", "EngineReady")


async def test_a_former_base_whose_deletion_waits_is_a_way_back_all_the_same() -> None:
    fake = await on_base_one()
    traffic = await in_the_room(fake)
    leaving = {"deletionTimestamp": "2026-01-02T03:00:00Z", "finalizers": ["trimtab.dev/in-use"]}
    fake.cluster.edit("ModelVersion", (NAMESPACE, "one"), {"metadata": leaving})
    await flows(fake, traffic, 60, 60)
    tidy_pods(fake)
    await visits(fake)
    (back,) = engines(fake)
    assert back != NEW
    await answers(fake, back, "one")
    assert next(iter(shares(fake).items())) == ("one", 100)


async def test_while_the_former_base_is_awaited_another_one_is_asked_for() -> None:
    fake = await on_base_one(None, a_full("six"))
    await taken_back(fake)
    ask_for(fake, "six", allowDowntime=True)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    assert engines(fake) == {"chat-engine-73697873"}
    await answers(fake, "chat-engine-73697873", "six")
    assert next(iter(shares(fake).items())) == ("six", 100)
    assert told(fake) == ("True", "Ready")


async def left_with_the_worse_one(fake: FakeWorld) -> str:
    """The former base did not come back in time, so that the present one answers on."""
    back = await taken_back(fake)
    fake.clock.advance(seconds=330 + 1800)
    await visits(fake)
    tidy_pods(fake)
    await visits(fake)
    (again,) = engines(fake)
    assert again != back
    await answers(fake, again, "two")
    return again


async def test_a_former_base_that_does_not_come_back_leaves_the_room_to_the_present_one() -> None:
    fake = await on_base_one()
    again = await left_with_the_worse_one(fake)
    assert told(fake, "EngineReady") == ("True", "EngineReady")
    assert told(fake) == told(fake, "AdaptersReady") == ("False", "ReplacementFailed")
    fake.clock.advance(hours=3)
    await visits(fake)
    assert engines(fake) == {again}
    fake.cluster.edit(
        "InferenceService", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await visits(fake)
    assert engines(fake) != {again}
    assert told(fake, "EngineReady") == ("False", "ReplacingEngines")


async def test_what_somebody_takes_out_of_quarantine_stays_where_the_former_base_is_awaited() -> (
    None
):
    fake = await on_base_one()
    again = await left_with_the_worse_one(fake)
    fake.cluster.add(a_decision("LiftQuarantine", "two", at=2 * DAY))
    await settle(modelversion.reconcile, (NAMESPACE, "two"), fake)
    await visits(fake)
    assert told(fake) == ("True", "Ready")
    assert seen(fake).status.base_change is None
    fake.cluster.edit(
        "InferenceService", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await visits(fake)
    assert engines(fake) == {again}


async def test_without_the_permission_nobody_makes_room_a_second_time() -> None:
    fake = await on_base_one()
    traffic = await in_the_room(fake)
    rollout = {"rollout": {"allowDowntime": False, "rollbackWindowSeconds": 1200}}
    fake.cluster.edit("InferenceService", KEY, {"spec": {"baseModel": rollout}})
    await flows(fake, traffic, 120, 60)
    assert engines(fake) == {NEW}
    status = tiny(fake).rollout
    assert status is not None
    assert "no version to go back to" in status.message


async def test_while_it_is_guarded_in_the_room_another_base_is_asked_for() -> None:
    fake = await on_base_one(None, a_full("six"))
    await in_the_room(fake)
    ask_for(fake, "six", allowDowntime=True)
    await visits(fake)
    assert engines(fake) == {NEW, "chat-engine-73697873"}
    assert shares(fake) == {"two": 100, "six": 0}


@pytest.mark.parametrize(
    ("counts", "most"),
    [
        pytest.param(Counts(0), None, id="nothing was counted"),
        pytest.param(Counts(20, 0), 0.30, id="a few are no proof of much"),
        pytest.param(Counts(2000, 100), 0.075, id="many are"),
        pytest.param(
            Counts(5, 4), 0.98, id="hardly anything but errors leaves everything possible"
        ),
    ],
)
def test_the_bound_of_what_stood_beside_no_other_covers_what_its_rate_may_have_been(
    counts: Counts, most: float | None
) -> None:
    found = guard.alone(PromotionTest(Margin(0.001, 0.0), stable=counts))
    if most is None:
        assert found is None
        return
    assert found is not None
    assert (counts.rate or 0) < found.bound + 0.001
    assert found.bound <= most
    assert found.bound > guard.highest(Counts(counts.n * 10, counts.events * 10))
