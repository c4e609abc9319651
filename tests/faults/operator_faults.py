"""The operator among faults: whatever goes wrong on the way, it ends where an undisturbed one ends.

A failed run prints its plan; TRIMTAB_FAULT_PLAN='<that plan>' and `-k replayed` run it again.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.bench import Bench, Outcome, rendered_chart
from tests.faults.controlplane import control_plane
from tests.faults.plans import ALONE, RESTART, Fault, Plan, grouped, mixed, shrunk, storm
from tests.faults.scenario import push_models
from tests.ociserver import registry_in_thread

pytestmark = pytest.mark.timeout(3600)  # a run that fails is run again to find the shortest plan

SEED = 1
SOAK = pytest.mark.skipif("TRIMTAB_SOAK" not in os.environ, reason="an hour: make soak")
REPLAYED = os.environ.get("TRIMTAB_FAULT_PLAN", "")
# Every N has its turn: a run is killed after write N, and again after every so many more.
KILLED_EVERY = 40
# Faults over all runs.
INJECTED, INJECTED_IN_SOAK = 1_000, 20_000
# Granted, and used by no run here.
UNUSED = {
    ("delete", "networking.k8s.io", "ingresses"): "only after another exposure was chosen",
    ("delete", "gateway.networking.k8s.io", "httproutes"): "the same",
    ("delete", "route.openshift.io", "routes"): "the same",
    ("list", "gateway.networking.k8s.io", "httproutes"): "this API server has no such kind",
    ("list", "route.openshift.io", "routes"): "the same",
    ("delete", "", "configmaps"): "only after a Dataset's spec has changed, or another attempt",
    ("get", "", "configmaps"): "only when a repeated creation is faster than the watch",
    ("get", "", "persistentvolumeclaims"): "the same",
    ("get", "batch", "jobs"): "the same",
    ("get", "trimtab.dev", "modelversions"): "the same",
    ("create", "trimtab.dev", "datasets"): "only when traffic has drifted",
    ("delete", "apps", "deployments"): "only when another base has taken the place of the first",
    ("delete", "policy", "poddisruptionbudgets"): "the same",
    ("create", "trimtab.dev", "finetunejobs"): "only when traffic has drifted",
    ("get", "trimtab.dev", "datasets"): "only when such a creation is faster than the watch",
    ("get", "trimtab.dev", "finetunejobs"): "the same",
    ("create", "trimtab.dev", "decisions"): "only when a version is rolled back by live traffic",
    ("get", "trimtab.dev", "decisions"): "only when that creation is faster than the watch",
    ("quarantine", "trimtab.dev", "modelversions"): "what a policy asks for, not a request",
}
Check = Callable[[Plan], Outcome]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def bench(folder: Path) -> Iterator[Bench]:
    with registry_in_thread() as registry, control_plane(folder / "plane") as plane:
        (folder / "models").mkdir()
        models = asyncio.run(push_models(f"{registry.address}/trimtab", folder / "models"))
        made = Bench(plane, registry.address, models, rendered_chart(registry.address))
        yield made
        print(made)  # noqa: T201 - the figures of a session


@pytest.fixture(scope="module")
def calm(bench: Bench, folder: Path) -> Outcome:
    """What an undisturbed run comes to, and that a restart then changes nothing."""
    outcome = bench.run(Plan(0, (RESTART,)), folder / "calm")
    assert not outcome.faults, "\n".join(outcome.faults)
    return outcome


@pytest.fixture
def holds(bench: Bench, tmp_path: Path, calm: Outcome) -> Check:
    """Runs a plan; what it breaks is told together with the shortest plan that breaks something."""
    runs = (tmp_path / str(number) for number in range(100))

    def check(plan: Plan) -> Outcome:
        outcome = bench.run(plan, next(runs), calm)
        if outcome.faults:
            told = "\n".join(outcome.faults[:20])
            print(f"{told}\nthe plan: {plan.to_json()}", flush=True)  # noqa: T201 - the search is long
            shortest = shrunk(plan, lambda p: bool(bench.run(p, next(runs), calm).faults))
            pytest.fail(f"{told}\nthe plan: {plan.to_json()}\nthe shortest: {shortest.to_json()}")
        return outcome

    return check


def kinds(plan: Plan) -> str:
    return " ".join(fault.kind for fault in plan.faults)


@pytest.mark.parametrize("plan", grouped(SEED), ids=kinds)
def test_no_fault_leaves_a_trace(plan: Plan, holds: Check) -> None:
    holds(plan)


@pytest.mark.parametrize("seed", [105, 107])
def test_a_mixture_of_faults_leaves_no_trace(seed: int, holds: Check) -> None:
    holds(mixed(seed))


def test_a_kill_after_every_few_writes_leaves_no_trace(holds: Check) -> None:
    outcome = holds(Plan(SEED, (Fault("kill", after=5, every=12),)))
    assert outcome.starts > 8, "it was to be killed often"


@pytest.mark.skipif(not REPLAYED, reason="TRIMTAB_FAULT_PLAN names no plan")
def test_replayed(holds: Check) -> None:
    holds(Plan.of_json(REPLAYED))


# --- the long runs ---


@SOAK
@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: fault.kind)
def test_soak_each_fault_alone(fault: Fault, holds: Check) -> None:
    holds(Plan(SEED, (fault,)))


@SOAK
@pytest.mark.parametrize("write", range(1, KILLED_EVERY + 1))
def test_soak_a_kill_after_every_write(write: int, holds: Check) -> None:
    holds(Plan(SEED, (Fault("kill", after=write, every=KILLED_EVERY),)))


@SOAK
def test_soak_answers_that_come_after_nobody_waits_any_more(holds: Check) -> None:
    holds(Plan(SEED, (Fault("answer-late", share=0.05, seconds=33),)))


@SOAK
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_soak_a_mixture_of_faults(seed: int, holds: Check) -> None:
    holds(mixed(seed))


@SOAK
@pytest.mark.parametrize("seed", range(2000, 2030))
def test_soak_a_storm_leaves_no_trace(seed: int, holds: Check) -> None:
    holds(storm(seed))


# --- over all of them: these stay the last tests of this file ---


@pytest.fixture
def everything(request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < len(grouped(SEED)):
        pytest.skip("only some of the runs took place")


@pytest.mark.usefixtures("everything")
def test_what_the_chart_grants_is_used(bench: Bench) -> None:
    idle = bench.granted - bench.used - UNUSED.keys()
    assert not idle, "granted, but no run has used it"
    assert not UNUSED.keys() - bench.granted, "excused, but not granted"


@pytest.mark.usefixtures("everything")
def test_enough_went_wrong_in_a_soak_or_without(bench: Bench) -> None:
    wanted = INJECTED_IN_SOAK if "TRIMTAB_SOAK" in os.environ else INJECTED
    assert bench.injected.total() >= wanted, bench.injected
