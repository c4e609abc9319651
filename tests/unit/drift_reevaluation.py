"""The version that answers, evaluated again by a schedule: one at a time, once, and never worse by chance."""

from contextlib import suppress
from typing import Any

import pytest
from tests.driftworld import drift, following, watched_model, watching
from tests.fakes import Crash, FakeWorld
from tests.rolloutworld import reasons
from tests.servicelife import KEY, answers, loaded, seen, told
from tests.servingbuilders import NAMESPACE, a_ready_version, ready_status, uri_of

from trimtab_api.documents import EvaluationResult, EvaluationRun
from trimtab_api.names import EVALUATE, LABEL_COMPONENT
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.reevaluation import Reevaluate, ReevaluationStatus
from trimtab_operator.domain.conditions import timestamp
from trimtab_operator.domain.inferenceservice.reevaluation import figures
from trimtab_operator.reconcilers.inferenceservice import reconcile

HOUR = 3600


def value(metric: str, at: float, reach: float = 0.02) -> dict[str, Any]:
    return {"metric": metric, "value": at, "low": at - reach, "high": at + reach}


THEN = [value("RougeL", 0.6), value("Loss", 2.0)]
AS_BEFORE = [value("RougeL", 0.59), value("Loss", 2.01)]
WORSE = [value("RougeL", 0.3), value("Loss", 2.0)]


def evaluated(*metrics: dict[str, Any]) -> ModelVersion:
    """A version that has held-out data and the figures of its registration."""
    found = {"report": uri_of("report"), "examples": 200, "metrics": list(metrics) or THEN}
    return a_ready_version(
        status=ready_status(evaluation=found), evaluation={"dataset": {"uri": uri_of("data")}}
    )


async def scheduled(model: dict[str, Any] | None = None, **reevaluate: Any) -> FakeWorld:
    """A service whose model is evaluated every hour; its version has waited for one minute."""
    wanted = model or watched_model()
    wanted["drift"]["reevaluate"] = {"everySeconds": HOUR, "deadlineSeconds": 600, **reevaluate}
    fake, _ = await watching(**wanted)
    fake.cluster.add(evaluated())
    await visit(fake)
    return fake


async def visit(fake: FakeWorld, seconds: int = 60) -> None:
    fake.clock.advance(seconds=seconds)
    await reconcile(KEY, fake.world)


def run_of(fake: FakeWorld) -> ReevaluationStatus:
    found = drift(fake).reevaluation
    assert found is not None
    return found


def jobs(fake: FakeWorld) -> list[dict[str, Any]]:
    made = fake.cluster.of_kind("Job")
    return [m for m in made if m["metadata"]["labels"].get(LABEL_COMPONENT) == EVALUATE]


def task(fake: FakeWorld) -> EvaluationRun:
    (job,) = jobs(fake)
    config = fake.cluster.objects["ConfigMap", (NAMESPACE, job["metadata"]["name"])]
    return EvaluationRun.model_validate_json(config["data"]["run.json"])


def ended(fake: FakeWorld, metrics: list[dict[str, Any]], kind: str = "Complete") -> None:
    """The Job ends; its pod has left this result in the registry."""
    (job,) = jobs(fake)
    done = {"type": kind, "status": "True", "lastTransitionTime": timestamp(fake.clock.now())}
    fake.cluster.edit(
        "Job", (NAMESPACE, job["metadata"]["name"]), {"status": {"conditions": [done]}}
    )
    if kind == "Complete":
        result = EvaluationResult(
            report_uri=uri_of("again"), examples=200, metrics=[MetricValue(**m) for m in metrics]
        )
        output = task(fake).output
        uri = f"oci://{output.repository}:{output.result_tag}"
        fake.registry.documents[uri] = result.model_dump_json().encode()


def answered_by(fake: FakeWorld, version: str) -> None:
    loaded(fake, "bot-1", "bot-2")
    answers(fake, bot=version)


async def once(fake: FakeWorld, metrics: list[dict[str, Any]], kind: str = "Complete") -> None:
    """One whole run."""
    await visit(fake, HOUR)
    ended(fake, metrics, kind)
    await visit(fake)


async def test_nothing_is_evaluated_before_its_time() -> None:
    fake = await scheduled()
    await visit(fake, HOUR - 200)
    assert jobs(fake) == []
    assert (run_of(fake).state, run_of(fake).number) == ("Waiting", 0)


async def test_a_run_asks_what_was_asked_at_registration_within_its_budget() -> None:
    fake = await scheduled()
    await visit(fake, HOUR)
    (job,) = jobs(fake)
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert job["metadata"]["ownerReferences"][0]["kind"] == "InferenceService"
    asked = task(fake)
    assert asked.data is not None
    assert asked.data.uri == uri_of("data")
    assert asked.contenders == []
    assert asked.owner.name == "bot-1"
    assert (run_of(fake).state, run_of(fake).number) == ("Running", 1)
    for _ in range(3):
        await visit(fake, 2 * HOUR)
    assert len(jobs(fake)) == 1, "the next one waits for the end of this one"


async def test_figures_that_are_as_they_were_are_no_drift() -> None:
    fake = await scheduled()
    await once(fake, AS_BEFORE)
    found = run_of(fake)
    assert (found.state, found.is_worse) == ("Done", False)
    assert found.report == uri_of("again")
    assert [(f.metric, f.before, f.now) for f in found.figures] == [
        ("RougeL", 0.6, 0.59),
        ("Loss", 2.0, 2.01),
    ]
    assert told(fake, "DriftDetected")[0] != "True"
    assert "Reevaluated" in reasons(fake)
    await visit(fake, 2 * HOUR)
    assert run_of(fake).number == 2


async def test_a_version_that_has_become_worse_has_drifted_until_it_is_better() -> None:
    fake = await scheduled()
    await once(fake, WORSE)
    assert told(fake, "DriftDetected") == ("True", "Drifting")
    found = drift(fake)
    assert (found.signal, found.since) == ("Reevaluation", run_of(fake).worse_since)
    assert "RougeL 0.6 to 0.3" in found.message
    await visit(fake)
    assert drift(fake).measured == found.measured, "old news is not told again"
    await once(fake, WORSE)
    assert drift(fake).since == found.since
    await once(fake, AS_BEFORE)
    await visit(fake)
    assert told(fake, "DriftDetected")[0] != "True"


async def test_what_drift_leads_to_follows_from_it() -> None:
    fake = await scheduled(following("Propose"))
    await once(fake, WORSE)
    assert drift(fake).plan is not None
    assert "no job is made: there is no FineTuneJob nightly" in drift(fake).plan  # type: ignore[operator]


@pytest.mark.parametrize(
    ("metrics", "kind", "said"),
    [
        pytest.param([], "Failed", "JobFailed", id="the Job fails"),
        pytest.param(
            [{"metric": "RougeL", "value": 0.1}], "Complete", "no figure", id="no interval"
        ),
    ],
)
async def test_a_run_that_fails_says_nothing_of_the_version(
    metrics: list[dict[str, Any]], kind: str, said: str
) -> None:
    fake = await scheduled()
    await once(fake, metrics, kind)
    assert run_of(fake).state == "Failed"
    assert said in run_of(fake).message
    assert told(fake, "DriftDetected")[0] != "True"
    assert "NotReevaluated" in reasons(fake)


async def test_a_job_that_somebody_has_deleted_does_not_come_back() -> None:
    fake = await scheduled()
    await visit(fake, HOUR)
    (job,) = jobs(fake)
    await fake.cluster.delete(job)
    await visit(fake)
    assert jobs(fake) == []
    assert run_of(fake).state == "Failed"
    assert "is gone" in run_of(fake).message


async def test_a_version_that_comes_back_is_not_told_what_an_earlier_run_has_found() -> None:
    fake = await scheduled(watched_model(version={"latestOf": "bot"}))
    await once(fake, WORSE)
    assert run_of(fake).is_worse
    answered_by(fake, "bot-2")
    fake.cluster.add(a_ready_version("bot-2", creationTimestamp="2026-01-02T03:05:00Z"))
    for _ in range(4):
        await visit(fake)
    assert run_of(fake).version == "bot-2"
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-2"))
    answered_by(fake, "bot-1")
    for _ in range(4):
        await visit(fake)
    assert (run_of(fake).version, run_of(fake).number) == ("bot-1", 0)
    await visit(fake, HOUR)
    (job,) = (j for j in jobs(fake) if j["metadata"]["name"] == run_of(fake).job)
    await fake.cluster.delete(job)
    await visit(fake)
    assert (run_of(fake).state, run_of(fake).is_worse) == ("Failed", False)


async def test_two_models_take_turns() -> None:
    fake = await scheduled()
    other = watched_model(name="bob", version={"name": "bot-1"})
    spec = seen(fake).to_wire()["spec"]["models"]  # type: ignore[index]
    other["drift"] = dict(spec[0]["drift"])
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": [*spec, other]}})
    for _ in range(3):
        await visit(fake)
    await visit(fake, 2 * HOUR)
    await visit(fake)
    assert len(jobs(fake)) == 1
    ended(fake, AS_BEFORE)
    await visit(fake)
    await visit(fake)
    states = [
        m.drift.reevaluation.state
        for m in seen(fake).status.models
        if m.drift and m.drift.reevaluation
    ]
    assert sorted(states) == ["Done", "Running"]


async def test_what_belongs_to_no_run_is_taken_away() -> None:
    fake = await scheduled()
    await once(fake, AS_BEFORE)
    (job,) = jobs(fake)
    await visit(fake, 7200)
    assert job["metadata"]["name"] not in [j["metadata"]["name"] for j in jobs(fake)]
    spec = seen(fake).to_wire()["spec"]["models"]  # type: ignore[index]
    spec[0]["drift"]["reevaluate"] = None
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": spec}})
    await visit(fake)
    assert jobs(fake) == []
    assert drift(fake).reevaluation is None


async def test_without_data_there_is_nothing_to_ask_and_that_is_said() -> None:
    fake = await scheduled()
    fake.cluster.add(a_ready_version("bot-1"))
    await visit(fake, HOUR)
    assert run_of(fake).state == "Failed"
    assert "name a Dataset in reevaluate.dataset" in run_of(fake).message


async def test_a_dataset_that_is_not_there_is_waited_for() -> None:
    fake = await scheduled(dataset={"name": "today"})
    await visit(fake, HOUR)
    assert run_of(fake).state == "Waiting"
    assert jobs(fake) == []


@pytest.mark.parametrize("writes", range(6))
async def test_an_operator_that_dies_on_the_way_makes_one_job(writes: int) -> None:
    fake = await scheduled()
    fake.clock.advance(seconds=HOUR)
    fake.cluster.dies_in(writes)
    with suppress(Crash):
        await reconcile(KEY, fake.world)
    fake.cluster.revive()
    for _ in range(3):
        await visit(fake)
    assert len(jobs(fake)) == 1
    assert (run_of(fake).state, run_of(fake).number) == ("Running", 1)


@pytest.mark.parametrize(
    ("metric", "before", "now", "is_worse"),
    [
        pytest.param("RougeL", 0.6, 0.5, True, id="a score that falls"),
        pytest.param("RougeL", 0.6, 0.7, False, id="a score that rises"),
        pytest.param("Loss", 2.0, 2.2, True, id="a loss that rises"),
        pytest.param("Loss", 2.0, 1.0, False, id="a loss that falls"),
        pytest.param("RougeL", 0.6, 0.58, False, id="within the margin"),
        pytest.param("Perplexity", 100.0, 101.0, False, id="one per cent of a perplexity"),
        pytest.param("Perplexity", 100.0, 140.0, True, id="two fifths of a perplexity"),
    ],
)
def test_the_margin_is_in_the_figures_unit(
    metric: str, before: float, now: float, is_worse: bool
) -> None:
    reach = 0.02 * (before if metric == "Perplexity" else 1)
    version = evaluated(value(metric, before, reach))
    (found,) = figures(version, Reevaluate(), 1, [MetricValue(**value(metric, now, reach))])
    assert (found.chance <= found.alarm_at) is is_worse


def test_all_runs_together_spend_the_level_and_no_more() -> None:
    version = evaluated()
    both = [MetricValue(**each) for each in THEN]
    spent = sum(f.alarm_at for k in range(1, 2000) for f in figures(version, Reevaluate(), k, both))
    assert 0.049 < spent <= 0.05
