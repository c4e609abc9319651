"""A next release comes and goes while a model is trained and served: nothing starts anew, no request fails.

Each step is made once, in this order, and looked at by the tests after it: two engines and two
gateways under constant traffic, `helm upgrade`, engines that are asked to move, `helm rollback`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from examples.quickstart import target
from examples.quickstart.kube import wait
from tests.e2e.machine import Machine
from tests.e2e.upgrading import (
    NEXT,
    Call,
    Callers,
    History,
    calling,
    chart_version,
    living,
    next_chart,
    recorded,
    restarted,
    roll_back,
    rolled,
    tags,
    uids,
    upgrade,
)
from tests.e2e.world import (
    Object,
    World,
    adapter_job,
    part,
    running,
    service,
    statuses,
    trainers,
)

from trimtab_api import names

OPERATOR = "app.kubernetes.io/component=operator"
ENGINES, GATEWAYS = part("chat", names.ENGINE), part("chat", names.GATEWAY)
TRAINING = "meanwhile"
COUNT = 2
# vLLM imports for longer than this, and hears nothing by itself meanwhile.
STARTING_SECONDS = 4
# An engine needs about a minute on two cores that train beside it.
ENGINE_SECONDS = 240
pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Seen:
    """What there is at one moment."""

    operators: list[Object]
    gateways: list[Object]
    engines: list[Object]
    trainers: list[Object]
    engine_generation: int
    release: Object
    step: int


@dataclass(frozen=True)
class Span:
    """What was before something was done, what was after it, and what callers met meanwhile."""

    before: Seen
    after: Seen
    calls: list[Call]
    history: History


@pytest.fixture(scope="module")
def seconds_to_go(world: World, base: str, adapter: str, pairs: str) -> float:
    """How long an engine is there that was deleted while it started; then two are Ready."""
    training = adapter_job(pairs, base, TRAINING, steps=20_000)
    # Long, and never in the way of the engines.
    for as_usual, here in (("epochs: 5", "epochs: 500"), ("cpu: 300m", "cpu: 20m")):
        training = training.replace(as_usual, here)
    world.apply(training)
    two = service(base, "chat", {"bot": f'{{name: "{adapter}"}}'})
    for one in ("replicas: 1\n  engine", "{replicas: 1}"):
        two = two.replace(one, one.replace("1", str(COUNT)))
    world.apply(two)
    wait(lambda: starting(world) is not None, 120, "a new engine starts", every=0.3)
    time.sleep(STARTING_SECONDS)
    victim = starting(world)
    assert victim is not None
    began = time.monotonic()
    world.kube.kubectl("delete", "pod", victim["metadata"]["name"], "--timeout=400s")
    gone = time.monotonic() - began
    world.holds("inferenceservice", "chat", "Ready", seconds=2 * ENGINE_SECONDS)
    running(world, TRAINING)
    return gone


def starting(world: World) -> Object | None:
    """An engine whose containers run, and which is not ready yet."""
    return next(filter(_is_starting, living(world, ENGINES)), None)


def _is_starting(pod: Object) -> bool:
    parts = statuses(pod)
    runs = len(parts) == 2 and all("running" in s["state"] for s in parts)
    return runs and not all(s["ready"] for s in parts)


@pytest.fixture(scope="module")
def callers(world: World, seconds_to_go: float) -> Iterator[Callers]:
    """Constant traffic."""
    assert seconds_to_go
    with calling(world, "chat") as found:
        yield found


@pytest.fixture(scope="module")
def chart(
    world: World, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The chart of a next release; the one that was installed is so again in the end."""
    folder = tmp_path_factory.mktemp("chart")
    with next_chart(machine, world.place.image_prefix, folder) as found:
        try:
            yield found
        finally:
            if chart_version(world) == NEXT:
                roll_back(world)


@pytest.fixture(scope="module")
def upgraded(world: World, callers: Callers, chart: Path) -> Span:
    """The next release was installed."""
    before, since = seen(world), time.time()
    with recorded(world, "chat") as history:
        upgrade(world, chart)
        rolled(world, GATEWAYS, NEXT, COUNT, 180)
    return Span(before, seen(world), callers.calls(since), history)


@pytest.fixture(scope="module")
def moved(world: World, callers: Callers, upgraded: Span) -> Span:
    """Engines were asked to move to it."""
    before, since = upgraded.after, time.time()
    with recorded(world, "chat") as history:
        asked = f"{names.ANNOTATION_ENGINE_RELEASE}={NEXT}"
        world.kube.kubectl("annotate", "inferenceservice", "chat", asked)
        rolled(world, ENGINES, NEXT, COUNT, COUNT * ENGINE_SECONDS)
    return Span(before, seen(world), callers.calls(since), history)


@pytest.fixture(scope="module")
def taken_back(world: World, callers: Callers, moved: Span) -> Span:
    """The release before was brought back."""
    before, since = moved.after, time.time()
    with recorded(world, "chat") as history:
        roll_back(world)
        rolled(world, GATEWAYS, "dev", COUNT, 180)
    return Span(before, seen(world), callers.calls(since), history)


def seen(world: World) -> Seen:
    chat = world.kube.get("inferenceservice", "chat") or {}
    job = world.kube.get("finetunejob", TRAINING) or {}
    deployment = world.kube.get("deployment", "chat-engine") or {}
    return Seen(
        operators=living(world, OPERATOR, target.RELEASE_NAMESPACE),
        gateways=living(world, GATEWAYS),
        engines=living(world, ENGINES),
        trainers=trainers(world, TRAINING),
        engine_generation=deployment["metadata"]["generation"],
        release=chat["status"]["release"],
        step=job["status"]["progress"]["step"],
    )


def test_an_engine_that_is_deleted_while_it_starts_goes_at_once(seconds_to_go: float) -> None:
    assert seconds_to_go < 20


@pytest.mark.parametrize("span", ["upgraded", "moved", "taken_back"])
def test_no_request_fails_meanwhile(span: str, request: pytest.FixtureRequest) -> None:
    found: Span = request.getfixturevalue(span)
    assert [call for call in found.calls if call.fault is not None] == []
    for how in {call.how for call in found.calls}:
        assert sum(call.how == how for call in found.calls) >= 3, how


@pytest.mark.parametrize("span", ["upgraded", "moved", "taken_back"])
def test_training_goes_on_in_the_same_pod(span: str, request: pytest.FixtureRequest) -> None:
    found: Span = request.getfixturevalue(span)
    assert uids(found.after.trainers) == uids(found.before.trainers)
    assert len(found.after.trainers) == 1
    assert restarted(found.after.trainers) == 0
    assert found.after.step > found.before.step


def test_an_upgrade_replaces_operator_and_gateways(upgraded: Span) -> None:
    for before, after in (
        (upgraded.before.operators, upgraded.after.operators),
        (upgraded.before.gateways, upgraded.after.gateways),
    ):
        assert tags(after) == {NEXT}
        assert len(after) == COUNT
        assert uids(before).isdisjoint(uids(after))
    assert min(m.available for m in upgraded.history.of(names.GATEWAY, COUNT)) == COUNT


@pytest.mark.parametrize("span", ["upgraded", "taken_back"])
def test_neither_upgrade_nor_rollback_touches_engines(
    span: str, request: pytest.FixtureRequest
) -> None:
    found: Span = request.getfixturevalue(span)
    assert uids(found.after.engines) == uids(found.before.engines)
    assert restarted(found.after.engines) == restarted(found.before.engines)
    assert found.after.engine_generation == found.before.engine_generation
    assert found.after.release == found.before.release


def test_engines_that_are_asked_to_move_do_so_one_by_one(world: World, moved: Span) -> None:
    assert tags(moved.before.engines) == {"dev"}
    assert tags(moved.after.engines) == {NEXT}
    assert len(moved.after.engines) == COUNT
    assert restarted(moved.after.engines) == 0
    assert moved.after.release["requested"] == NEXT
    assert uids(moved.after.gateways) == uids(moved.before.gateways)
    moments = moved.history.of(names.ENGINE, COUNT)
    budget = world.kube.get("poddisruptionbudget", "chat-engine") or {}
    assert budget["status"]["desiredHealthy"] == COUNT - 1
    # The budget lets one be away; where no GPU has to be lent, none is.
    assert min(m.available for m in moments) == COUNT
    assert max(m.starting for m in moments) == 1


def test_a_rollback_brings_operator_and_gateways_back(taken_back: Span) -> None:
    assert tags(taken_back.after.operators) == {"dev"}
    assert tags(taken_back.after.gateways) == {"dev"}
    assert tags(taken_back.after.engines) == {NEXT}
