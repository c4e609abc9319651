"""Whom a version is compared with: who is chosen, when, and what becomes of those that are gone."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from tests.fakes import Crash, FakeCluster, FakeWorld, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    a_version,
    condition,
    digest_of,
    ready_status,
    uri_of,
)
from tests.unit.modelversion_evaluation import ended
from tests.versionworld import KEY, seen, told, world_of

from trimtab_api.documents import EvaluationRun
from trimtab_api.v1alpha1 import InferenceService, ModelVersion
from trimtab_api.v1alpha1.evaluated import BestVersion, Comparison
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_api.v1alpha1.modelversion import Lineage, Opponents
from trimtab_operator.domain.errors import ArtifactUnreachable
from trimtab_operator.domain.modelversion.opponents import Field, against, chosen, passed_on
from trimtab_operator.domain.outcome import Retry
from trimtab_operator.reconcilers.modelversion import reconcile

GATES = [{"metric": "RougeL", "notWorseThan": "Champion"}]
CANDIDATE = a_version(evaluation={"gates": GATES, "dataset": {"uri": uri_of("data")}})


def measured(value: float, data: str = "old", best: str | None = None) -> dict[str, Any]:
    """What an earlier evaluation has left."""
    left = [{"metric": "RougeL", "version": best}] if best else []
    return {
        "datasetDigest": digest_of(data),
        "examples": 200,
        "metrics": [{"metric": "RougeL", "value": value}],
        "best": left,
    }


def earlier(name: str, day: int, value: float = 0.4, **more: Any) -> ModelVersion:
    """A Ready version of that day."""
    known = {k: more.pop(k) for k in ("data", "best") if k in more}
    more.setdefault("status", ready_status(evaluation=measured(value, **known)))
    return a_ready_version(name, creationTimestamp=f"2026-01-{day:02}T00:00:00Z", **more)


def serving(name: str, active: str, public: str = "bot") -> InferenceService:
    return a_service(
        name,
        models={public: {"name": active}},
        status={"models": [{"name": public, "activeVersion": active}]},
    )


def choice(versions: Sequence[ModelVersion], *services: InferenceService) -> Opponents:
    return chosen(CANDIDATE, Field(versions, services))


OLD, NEW = earlier("bot-old", 1), earlier("bot-new", 2)
UNREADY = a_version("bot-raw", creationTimestamp="2026-01-09T00:00:00Z")
MISSED = earlier(
    "bot-bad",
    9,
    status=ready_status() | {"conditions": [condition("ArtifactVerified"), condition("Evaluated")]},
)
LEAVING = earlier("bot-gone", 9, deletionTimestamp="2026-01-10T00:00:00Z")
ENDED = earlier(
    "bot-end",
    9,
    status=ready_status()
    | {
        "conditions": [
            condition("ArtifactVerified"),
            condition("Ready"),
            condition("ArtifactDeleted", "False", reason="DeletingArtifact"),
        ]
    },
)
RETIRED = earlier(
    "bot-late",
    9,
    0.9,
    status=ready_status(evaluation=measured(0.9))
    | {"conditions": [condition(c) for c in ("ArtifactVerified", "Ready", "Retired")]},
)
HALF_SERVED = a_service(
    "half",
    models={"other": {"name": "bot-new"}},
    status={"models": [{"name": "bot", "activeVersion": "bot-new"}]},
)


@pytest.mark.parametrize(
    ("versions", "services", "champion"),
    [
        pytest.param([], [], None, id="without another version there is none"),
        pytest.param([OLD, NEW], [], "bot-new", id="without services the newest that is Ready"),
        pytest.param([OLD, UNREADY, MISSED], [], "bot-old", id="never one that is not Ready"),
        pytest.param([OLD, NEW], [serving("a", "bot-old")], "bot-old", id="what is active wins over what is new"),
        pytest.param([OLD, NEW], [serving("a", "bot-new"), serving("b", "bot-old"), serving("c", "bot-old")], "bot-old", id="what is active in most services"),
        pytest.param([OLD, NEW], [serving("a", "bot-old"), serving("b", "bot-new")], "bot-new", id="of equals the newer"),
        pytest.param([OLD, NEW], [serving("a", "bot-old"), HALF_SERVED], "bot-old", id="a name that the spec no longer has does not count"),
        pytest.param([OLD, MISSED], [serving("a", "bot-bad")], "bot-bad", id="what is active although it is not Ready is what users have"),
        pytest.param([OLD, RETIRED], [], "bot-old", id="what was retired is no champion"),
        pytest.param([OLD, RETIRED], [serving("a", "bot-late")], "bot-late", id="unless users still have it"),
        pytest.param([OLD, LEAVING], [serving("a", "bot-gone")], "bot-old", id="what is being deleted is no champion"),
        pytest.param([OLD, ENDED], [serving("a", "bot-end")], "bot-old", id="nor is one whose artifact is on its way out"),
        pytest.param([OLD, earlier("bot-1", 9)], [serving("a", "bot-1")], "bot-old", id="the version itself is not its own champion"),
    ],
)  # fmt: skip
def test_the_champion(
    versions: list[ModelVersion], services: list[InferenceService], champion: str | None
) -> None:
    found = choice(versions, *services)
    assert found.champion == champion
    assert found.reason
    assert champion is None or champion in [c.name for c in found.contenders]


@pytest.mark.parametrize(
    ("versions", "best"),
    [
        pytest.param([NEW, RETIRED], "bot-new", id="what was retired sets no mark"),
        pytest.param([OLD, NEW], "bot-new", id="of equal figures on the same data the newer"),
        pytest.param([earlier("bot-old", 1, 0.5), NEW], "bot-old", id="the best figure on the champion's data"),
        pytest.param([earlier("bot-old", 1, 0.5, data="else"), NEW], "bot-new", id="a figure on other data is not comparable"),
        pytest.param([OLD, earlier("bot-new", 2, 0.9, best="bot-old")], "bot-old", id="whom the champion had to stand against"),
        pytest.param([earlier("bot-new", 2, best="bot-lost")], "bot-new", id="who is gone is replaced by what is known"),
    ],
)  # fmt: skip
def test_the_best_so_far(versions: list[ModelVersion], best: str) -> None:
    found = choice(versions)
    assert found.best == [BestVersion(metric=Metric.ROUGE_L, version=best)]
    assert found.champion == "bot-new"
    assert sorted(against(found, Metric.ROUGE_L)) == sorted({"bot-new", best})
    assert {c.name for c in found.contenders} == {"bot-new", best}


def test_less_is_better_for_a_loss() -> None:
    loss = [{"metric": "Loss", "value": 2.0}]
    better = ready_status(evaluation={"datasetDigest": digest_of("old"), "metrics": loss})
    worse = ready_status(evaluation={"datasetDigest": digest_of("old"), "metrics": [{"metric": "Loss", "value": 3.0}]})  # fmt: skip
    candidate = a_version(
        evaluation={"gates": [{"metric": "Loss", "notWorseThan": "Champion", "margin": 0.1}]}
    )
    found = chosen(
        candidate, Field([earlier("bot-a", 1, status=better), earlier("bot-b", 2, status=worse)])
    )
    assert [b.version for b in found.best] == ["bot-a"]


def comparison(version: str, low: float) -> Comparison:
    return Comparison(
        version=version, metric=Metric.ROUGE_L, confidence=0.95, low=low, high=low + 0.1
    )


@pytest.mark.parametrize(
    ("best", "low", "passes_on"),
    [
        pytest.param("bot-old", 0.001, "bot-1", id="surely better"),
        pytest.param("bot-old", 0.0, "bot-old", id="perhaps better is not enough"),
        pytest.param(None, 0.0, "bot-1", id="the first of all"),
    ],
)
def test_the_name_that_is_passed_on_moves_only_upwards(
    best: str | None, low: float, passes_on: str
) -> None:
    known = [BestVersion(metric=Metric.ROUGE_L, version=best)] if best else []
    opponents = Opponents(champion="bot-2", reason="", best=known)
    found = passed_on("bot-1", [Metric.ROUGE_L], opponents, [comparison("bot-old", low)])
    assert [b.version for b in found] == [passes_on]


def test_ten_promotions_cannot_lose_ten_margins() -> None:
    """Each is worse than its champion by less than the margin; the best so far stays the first."""
    line = [earlier("step-0", 1, 0.50, data="data-0", best="step-0")]
    for number in range(1, 10):
        opponents = choice(line)
        assert opponents.champion == f"step-{number - 1}"
        assert against(opponents, Metric.ROUGE_L)[-1] == "step-0"
        found = [comparison(name, -0.015 * number) for name in ("step-0", opponents.champion)]
        (best,) = passed_on(f"step-{number}", [Metric.ROUGE_L], opponents, found)
        assert best.version == "step-0"
        line.append(
            earlier(f"step-{number}", number + 1, 0.5, data=f"data-{number}", best=best.version)
        )


# --- the reconcile ------------------------------------------------------------------------------

RESULT = {
    "reportUri": uri_of("report"),
    "datasetDigest": digest_of("data"),
    "examples": 1000,
    "metrics": [{"metric": "RougeL", "value": 0.4}],
    "sizeBytes": 7,
}
PASSES = {
    "version": "bot-old",
    "metric": "RougeL",
    "confidence": 0.95,
    "value": 0.41,
    "difference": -0.01,
    "low": -0.015,
    "high": -0.005,
    "deviation": 0.2,
    "examples": 1000,
}


def world_with(*others: Any) -> FakeWorld:
    fake = world_of(CANDIDATE, *others)
    for other in others:
        if isinstance(other, ModelVersion):
            fake.registry.manifests[other.spec.artifact.uri] = {}
    fake.registry.manifests[uri_of("base")] = {}
    fake.registry.manifests[uri_of("base-2")] = {}
    return fake


def task(fake: FakeWorld) -> EvaluationRun:
    (config,) = fake.cluster.of_kind("ConfigMap")
    return EvaluationRun.model_validate_json(config["data"]["run.json"])


def result_with(*comparisons: dict[str, Any]) -> str:
    return json.dumps(RESULT | {"comparisons": list(comparisons)})


async def test_the_champion_is_written_down_before_the_pod_starts_and_then_kept() -> None:
    fake = world_with(OLD)
    fake.cluster.dies_in(1)
    with suppress(Crash):
        await reconcile(KEY, fake.world)
    assert fake.cluster.of_kind("Job") == []
    fake.cluster.revive()
    known = seen(fake).status.opponents
    assert known is not None
    assert known.champion == "bot-old"
    fake.cluster.add(NEW)
    await settle(reconcile, KEY, fake)
    assert seen(fake).status.opponents == known
    run = task(fake)
    assert [c.name for c in run.contenders] == ["bot-old"]
    assert [(w.metric, w.versions) for w in run.comparisons] == [("RougeL", ["bot-old"])]
    assert run.max_examples == 1000


async def test_a_version_that_is_not_worse_is_ready_and_shows_the_numbers() -> None:
    fake = world_with(OLD)
    await settle(reconcile, KEY, fake)
    ended(fake, message=result_with(PASSES))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")
    found = seen(fake).status.evaluation
    assert found is not None
    (gate,) = found.gates
    assert (gate.verdict, gate.champion, gate.examples) == ("Pass", "bot-old", 1000)
    assert (gate.difference, gate.low, gate.high) == (-0.01, -0.015, -0.005)
    assert [(b.metric, b.version) for b in found.best] == [("RougeL", "bot-old")]


async def test_without_a_champion_the_gate_passes_and_says_so() -> None:
    fake = world_with()
    await settle(reconcile, KEY, fake)
    assert task(fake).contenders == []
    ended(fake, message=result_with())
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")
    found = seen(fake).status.evaluation
    assert found is not None
    assert "no champion" in found.gates[0].message
    assert [b.version for b in found.best] == ["bot-1"]


async def test_a_champion_that_is_deleted_meanwhile_is_compared_with_all_the_same() -> None:
    fake = world_with(OLD)
    await settle(reconcile, KEY, fake)
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-old"))
    ended(fake, message=result_with(PASSES))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")


async def test_a_champion_that_the_registry_has_lost_leaves_the_gate_undecided_until_asked_again() -> (
    None
):
    fake = world_with(OLD)
    del fake.registry.manifests[OLD.spec.artifact.uri]
    await settle(reconcile, KEY, fake)
    assert task(fake).contenders == []
    ended(fake, message=result_with())
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "GateUndecided")
    found = seen(fake).status.evaluation
    assert found is not None
    assert "the registry has lost what it needs" in found.gates[0].message
    assert "trimtab.dev/retry" in found.gates[0].message
    fake.cluster.take_away("Pod", (NAMESPACE, "pod"))
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-old"))
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await settle(reconcile, KEY, fake)
    ended(fake, message=result_with())
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")


async def test_a_contender_that_the_pod_cannot_load_leaves_the_gate_undecided() -> None:
    fake = world_with(OLD)
    await settle(reconcile, KEY, fake)
    broken = {k: PASSES[k] for k in ("version", "metric", "confidence")}
    ended(fake, message=result_with(broken | {"problem": "CorruptWeights: truncated"}))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "GateUndecided")


async def test_a_champion_on_another_base_is_given_its_own_base() -> None:
    other = earlier("bot-old", 1, status=ready_status("base-2", evaluation=measured(0.4)))
    fake = world_with(other)
    await settle(reconcile, KEY, fake)
    (contender,) = task(fake).contenders
    assert contender.base is not None
    assert (contender.base.digest, contender.base.path) == (
        digest_of("base-2"),
        "/models/contender-0",
    )
    volumes = fake.cluster.one("Job")["spec"]["template"]["spec"]["volumes"]
    images = {v["name"]: v["image"]["reference"] for v in volumes if "image" in v}
    assert images == {
        "base": uri_of("base").removeprefix("oci://"),
        "contender-0": uri_of("base-2").removeprefix("oci://"),
    }


async def test_a_champion_on_the_same_base_shares_the_mount() -> None:
    fake = world_with(OLD)
    await settle(reconcile, KEY, fake)
    (contender,) = task(fake).contenders
    assert contender.base is not None
    assert contender.base.path == "/models/base"


async def test_nothing_is_chosen_while_the_registry_does_not_answer() -> None:
    fake = world_with(OLD)
    fake.registry.error = ArtifactUnreachable("registry.internal:5000 does not answer")
    assert isinstance(await settle(reconcile, KEY, fake), Retry)
    assert seen(fake).status.opponents is None
    assert fake.cluster.of_kind("Job") == []
    fake.registry.error = None
    await settle(reconcile, KEY, fake)
    assert len(fake.cluster.of_kind("Job")) == 1


async def test_a_result_that_was_cut_short_is_read_from_the_registry() -> None:
    fake = world_with(OLD)
    await settle(reconcile, KEY, fake)
    tag = task(fake).output
    fake.registry.documents[f"oci://{tag.repository}:{tag.result_tag}"] = result_with(
        PASSES
    ).encode()
    ended(fake, message='{"examples": 1000, "metrics": [], "shortened": true}')
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")


FULL = a_version(
    "bot-1",
    kind="Full",
    evaluation={"suites": [{"name": "Forgetting"}], "dataset": {"uri": uri_of("data")}},
)
FULL = FULL.model_copy(
    update={"spec": FULL.spec.model_copy(update={"lineage": Lineage(parent="root-1")})}
)
PARENT = a_ready_version(
    "root-1", model="root", kind="Full", evaluation={"dataset": {"uri": uri_of("known")}}
)


def full_world(*others: ModelVersion) -> FakeWorld:
    fake = world_of(FULL, *others, artifact={})
    for other in others:
        fake.registry.manifests[other.spec.artifact.uri] = {}
    return fake


async def test_a_full_version_is_asked_what_it_has_forgotten_of_what_its_parent_knew() -> None:
    fake = full_world(PARENT)
    await settle(reconcile, KEY, fake)
    run = task(fake)
    assert (run.parent, [c.name for c in run.contenders], run.comparisons) == ("root-1", ["root-1"], [])  # fmt: skip
    assert run.contenders[0].mounted is not None
    assert run.contenders[0].mounted.path == "/models/contender-0"
    (suite,) = run.suites
    assert suite.data is not None
    assert suite.data.uri == uri_of("known")
    assert run.max_examples == 200, "nothing is compared with a champion"


async def test_a_parent_that_is_gone_is_not_waited_for() -> None:
    lost = full_world(PARENT)
    del lost.registry.manifests[PARENT.spec.artifact.uri]
    for fake in (full_world(), lost):
        await settle(reconcile, KEY, fake)
        run = task(fake)
        assert (run.parent, run.contenders, run.suites[0].data) == (None, [], None)


async def test_an_adapter_is_asked_on_what_its_base_was_evaluated_on() -> None:
    version = a_version(
        base={"modelVersion": {"name": "root-1"}},
        evaluation={
            "suites": [
                {"name": "Forgetting"},
                {"name": "Bias"},
                {"name": "Safety", "uri": uri_of("own")},
            ]
        },
    )
    fake = world_of(version, PARENT)
    await settle(reconcile, KEY, fake)
    asked = {s.name: s.data.uri if s.data else None for s in task(fake).suites}
    assert asked == {"Forgetting": uri_of("known"), "Bias": None, "Safety": uri_of("own")}


@pytest.mark.parametrize("writes", range(1, 9))
async def test_a_crash_between_writes_leaves_no_trace(writes: int) -> None:
    calm, shaken = world_with(OLD), world_with(OLD)
    await settle(reconcile, KEY, calm)
    dying = FakeCluster(dies_after=writes)
    for each in (CANDIDATE, OLD):
        dying.add(each)
    shaken.cluster = dying
    with suppress(Crash):
        await settle(reconcile, KEY, shaken)
    dying.revive()
    await settle(reconcile, KEY, shaken)
    assert dying.state == calm.cluster.state


async def asked_again(dies_in: int | None) -> FakeWorld:
    """A version whose gate was undecided is asked about again once the champion is gone."""
    fake = world_with(OLD)
    del fake.registry.manifests[OLD.spec.artifact.uri]
    await settle(reconcile, KEY, fake)
    ended(fake, message=result_with())
    await settle(reconcile, KEY, fake)
    fake.cluster.take_away("Pod", (NAMESPACE, "pod"))
    fake.cluster.take_away("ModelVersion", (NAMESPACE, "bot-old"))
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    if dies_in is not None:
        fake.cluster.dies_in(dies_in)
        with suppress(Crash):
            await settle(reconcile, KEY, fake)
        fake.cluster.revive()
    await settle(reconcile, KEY, fake)
    return fake


@pytest.mark.parametrize("writes", range(8))
async def test_a_crash_in_a_second_evaluation_does_not_bring_the_first_verdict_back(
    writes: int,
) -> None:
    calm, shaken = await asked_again(None), await asked_again(writes)
    assert told(shaken, "Evaluated") == ("Unknown", "Evaluating")
    assert shaken.cluster.state == calm.cluster.state
    ended(shaken, message=result_with())
    await settle(reconcile, KEY, shaken)
    assert told(shaken, "Ready") == ("True", "Ready")
