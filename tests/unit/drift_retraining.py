"""What follows from drift: one job, with everything filled in, and never more than that."""

from contextlib import suppress
from typing import Any

import pytest
from tests.driftworld import (
    MOVED,
    TEMPLATE,
    USUAL,
    a_template,
    drift,
    drifted,
    following,
    go_on,
    the_data,
    watching,
)
from tests.fakes import Crash, FakeWorld
from tests.servicelife import KEY, seen
from tests.servingbuilders import NAMESPACE, digest_of

from trimtab_api.v1alpha1 import FineTuneJob
from trimtab_operator.domain.errors import Refused
from trimtab_operator.reconcilers.inferenceservice import reconcile


def made(fake: FakeWorld, kind: str = "FineTuneJob") -> list[dict[str, Any]]:
    """What was not there before."""
    return [
        m for m in fake.cluster.of_kind(kind) if m["metadata"]["name"] not in {TEMPLATE, "tickets"}
    ]


def prepared(fake: FakeWorld, digest: str = "new", status: str = "True") -> None:
    """The Dataset that was made is prepared."""
    (data,) = made(fake, "Dataset")
    ready = {
        "type": "Ready",
        "status": status,
        "reason": "Ready",
        "message": "because",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    key = (NAMESPACE, data["metadata"]["name"])
    fake.cluster.edit(
        "Dataset", key, {"status": {"conditions": [ready], "digest": digest_of(digest)}}
    )


def ended(fake: FakeWorld, how: str = "Complete", hours: int = 1) -> None:
    for job in made(fake):
        done = {
            "type": how,
            "status": "True",
            "reason": "Succeeded",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        status = {
            "conditions": [done],
            "startTime": "2026-01-02T00:00:00Z",
            "completionTime": f"2026-01-02T{hours:02}:00:00Z",
        }
        fake.cluster.edit("FineTuneJob", (NAMESPACE, job["metadata"]["name"]), {"status": status})


async def test_an_alert_makes_nothing() -> None:
    fake, _ = await drifted(a_template(), the_data())
    assert made(fake) == made(fake, "Dataset") == []


async def test_a_proposal_is_a_suspended_job_with_everything_filled_in() -> None:
    fake, _ = await drifted(a_template(), the_data(), **following("Propose"))
    (job,), (data,) = made(fake), made(fake, "Dataset")
    spec = FineTuneJob.model_validate(job).spec
    assert (spec.suspend, spec.output.model, spec.dataset.name) == (
        True,
        "bot",
        data["metadata"]["name"],
    )
    (entry,) = drift(fake).retrainings
    assert (entry.job, entry.dataset) == (job["metadata"]["name"], data["metadata"]["name"])
    assert (entry.state, entry.proposed, entry.version) == ("Made", True, "bot-1")
    for each in (job, data):
        assert each["metadata"]["labels"]["trimtab.dev/correlation"] == entry.correlation
        assert each["metadata"]["ownerReferences"][0]["uid"] == seen(fake).metadata.uid
        assert "Languages has moved" in each["metadata"]["annotations"]["trimtab.dev/reason"]
    assert f"FineTuneJob {entry.job} is proposed" in (drift(fake).plan or "")
    (said,) = (e for e in fake.cluster.events.values() if e.reason == "RetrainingProposed")
    assert said.correlation == entry.correlation


async def test_the_data_is_read_anew_and_what_was_held_out_is_not_learned() -> None:
    fake, _ = await drifted(a_template(), the_data(), **following("Propose"))
    (data,) = made(fake, "Dataset")
    assert [s["uri"] for s in data["spec"]["sources"]] == ["configmap://pairs/train.jsonl"]
    assert data["spec"]["leakage"] == {
        "action": "Drop",
        "against": [{"dataset": {"name": "tickets"}}],
    }


CAPTURING = {"apiKeys": {"secretName": "keys"}, "feedback": {}, "capture": {}}


@pytest.mark.parametrize(
    ("data", "sources"),
    [
        pytest.param({}, ["configmap://pairs/train.jsonl", "capture://chat"], id="what was kept"),
        pytest.param(
            {"sources": [{"uri": "capture://chat"}]}, ["capture://chat"], id="it is named already"
        ),
        pytest.param(
            {"task": "Text"}, ["configmap://pairs/train.jsonl"], id="texts have no answers"
        ),
        pytest.param(
            {"templates": {"prompt": "{title}: {question}"}},
            ["configmap://pairs/train.jsonl"],
            id="columns that no gateway knows",
        ),
        pytest.param(
            {"sources": [{"uri": f"configmap://pairs/{n}.jsonl"} for n in range(32)]},
            [f"configmap://pairs/{n}.jsonl" for n in range(32)],
            id="no room for one more",
        ),
    ],
)
async def test_what_the_gateways_kept_is_learned_from(
    data: dict[str, Any], sources: list[str]
) -> None:
    fake, gateways = await watching(a_template(), the_data(**data), **following("Propose"))
    fake.cluster.edit("InferenceService", KEY, {"spec": {"gateway": CAPTURING}})
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 12)
    (made_of,) = made(fake, "Dataset")
    assert [source["uri"] for source in made_of["spec"]["sources"]] == sources


async def test_it_is_proposed_once_even_if_somebody_deletes_it() -> None:
    fake, gateways = await drifted(a_template(), the_data(), **following("Propose"))
    (job,) = made(fake)
    fake.cluster.take_away("FineTuneJob", (NAMESPACE, job["metadata"]["name"]))
    await go_on(fake, gateways, MOVED, 20)
    assert made(fake) == []
    assert len(drift(fake).retrainings) == 1


@pytest.mark.parametrize("on_drift", ["Propose", "Retrain"])
async def test_a_dry_run_says_what_would_be_made(on_drift: str) -> None:
    model = following(on_drift, dryRun=True)
    fake, _ = await drifted(a_template(), the_data(), **model)
    assert made(fake) == made(fake, "Dataset") == []
    assert (drift(fake).plan or "").startswith("dryRun: FineTuneJob bot-drift-")
    assert drift(fake).retrainings == []


async def test_a_dry_run_also_stops_what_was_decided_before_and_not_made_yet() -> None:
    fake, _ = await drifted(a_template(), the_data(), **following("Retrain"))
    assert "is not Ready" in (drift(fake).plan or "")
    models = [following("Retrain", dryRun=True)]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    prepared(fake)
    await reconcile(KEY, fake.world)
    await reconcile(KEY, fake.world)
    assert made(fake) == []
    assert (drift(fake).plan or "").startswith("dryRun: FineTuneJob bot-drift-")
    models = [following("Retrain")]
    fake.cluster.edit("InferenceService", KEY, {"spec": {"models": models}})
    await reconcile(KEY, fake.world)
    assert len(made(fake)) == 1


async def test_a_retraining_waits_for_its_data_and_then_runs() -> None:
    fake, gateways = await drifted(a_template(), the_data(), **following("Retrain"))
    assert made(fake) == []
    assert "is not Ready" in (drift(fake).plan or "")
    prepared(fake, status="False")
    await reconcile(KEY, fake.world)
    assert made(fake) == []
    prepared(fake)
    await reconcile(KEY, fake.world)
    (job,) = made(fake)
    assert job["spec"]["suspend"] is False
    await go_on(fake, gateways, MOVED, 5)
    assert len(made(fake)) == 1
    (said,) = (e for e in fake.cluster.events.values() if e.reason == "RetrainingStarted")
    assert job["metadata"]["name"] in said.message


async def test_the_same_data_is_not_learned_again() -> None:
    fake, gateways = await drifted(a_template(), the_data(), **following("Retrain"))
    lineage = {"dataset": {"digest": digest_of("old")}}
    fake.cluster.edit("ModelVersion", (NAMESPACE, "bot-1"), {"spec": {"lineage": lineage}})
    prepared(fake, "old")
    await go_on(fake, gateways, MOVED, 3)
    assert made(fake) == []
    (entry,) = drift(fake).retrainings
    assert entry.state == "Dropped"
    assert "nothing new to learn" in (drift(fake).plan or "")


@pytest.mark.parametrize(
    ("objects", "retrain", "why"),
    [
        pytest.param((), {}, f"there is no FineTuneJob {TEMPLATE}", id="no template"),
        pytest.param((a_template(),), {}, "there is no Dataset tickets", id="no data"),
        pytest.param(
            (a_template(output={"model": "other"}), the_data()),
            {},
            "makes versions of other",
            id="a template of another model",
        ),
        pytest.param(
            (a_template(resources={"gpus": 1}), the_data()),
            {"budget": {"gpuHours": 0}},
            "retrain.budget.gpuHours is spent",
            id="no GPU-hours",
        ),
    ],
)
async def test_why_no_job_is_made(
    objects: tuple[Any, ...], retrain: dict[str, Any], why: str
) -> None:
    fake, _ = await drifted(*objects, **following("Retrain", retrain))
    assert made(fake) == made(fake, "Dataset") == []
    assert why in (drift(fake).plan or "")


async def test_a_template_with_its_data_in_itself_can_be_proposed_and_not_run() -> None:
    inline = {"inline": {"sources": [{"uri": "configmap://data/train.jsonl"}]}}
    columns = {"columns": {"prompt": "q", "completion": "a"}}
    template = a_template(dataset={"inline": {**inline["inline"], **columns}})
    fake, _ = await drifted(template, **following("Retrain"))
    assert "describes its data itself" in (drift(fake).plan or "")
    fake, _ = await drifted(template, **following("Propose"))
    assert len(made(fake)) == 1
    assert made(fake, "Dataset") == []


async def test_a_job_never_takes_more_than_was_booked() -> None:
    template = a_template(resources={"gpus": 1})
    fake, _ = await drifted(
        template, the_data(), **following("Retrain", {"budget": {"gpuHours": 3}})
    )
    prepared(fake)
    await reconcile(KEY, fake.world)
    (job,) = made(fake)
    assert job["spec"]["activeDeadlineSeconds"] == 3 * 3600
    assert drift(fake).retrainings[0].gpu_hours == 3
    ended(fake, hours=1)
    await reconcile(KEY, fake.world)
    assert drift(fake).retrainings[0].gpu_hours == 1, "what it has really taken"


async def test_another_drift_soon_after_waits_for_the_cooldown() -> None:
    fake, gateways = await drifted(a_template(), the_data(), **following("Propose"))
    ended(fake)
    fake.cluster.edit(
        "ModelVersion", (NAMESPACE, "bot-1"), {"spec": {"artifact": other_artifact()}}
    )
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, {"en": 0.2, "es": 0.8}, 14)
    assert len(made(fake)) == 1
    assert "retrain.cooldownSeconds" in (drift(fake).plan or "")


async def test_another_drift_does_not_start_what_would_run_beside_an_unfinished_job() -> None:
    fake, gateways = await drifted(
        a_template(), the_data(), **following("Propose", {"cooldownSeconds": 0})
    )
    fake.cluster.edit(
        "ModelVersion", (NAMESPACE, "bot-1"), {"spec": {"artifact": other_artifact()}}
    )
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, {"en": 0.2, "es": 0.8}, 14)
    assert len(made(fake)) == 1
    assert "has not ended" in (drift(fake).plan or "")
    ended(fake)
    await go_on(fake, gateways, {"en": 0.2, "es": 0.8}, 2)
    assert len(made(fake)) == 2


async def test_the_budget_of_jobs_holds_for_what_runs_by_itself() -> None:
    model = following("Retrain", {"cooldownSeconds": 0, "budget": {"jobs": 1}})
    fake, gateways = await drifted(a_template(), the_data(), **model)
    prepared(fake)
    await reconcile(KEY, fake.world)
    ended(fake)
    fake.cluster.edit(
        "ModelVersion", (NAMESPACE, "bot-1"), {"spec": {"artifact": other_artifact()}}
    )
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, {"en": 0.2, "es": 0.8}, 14)
    assert len(made(fake)) == 1
    assert "retrain.budget.jobs is spent: 1 of 1" in (drift(fake).plan or "")


async def test_a_job_that_the_cluster_refuses_is_tried_again_and_told() -> None:
    fake, gateways = await watching(a_template(), the_data(), **following("Propose"))
    fake.cluster.fails = lambda verb, manifest: (
        Refused("no such queue") if verb == "create" and manifest["kind"] == "FineTuneJob" else None
    )
    await go_on(fake, gateways, USUAL, 14)
    await go_on(fake, gateways, MOVED, 12)
    assert "no such queue" in (drift(fake).plan or "")
    assert [e.state for e in drift(fake).retrainings] == ["Decided"]
    fake.cluster.fails = lambda verb, manifest: None
    await reconcile(KEY, fake.world)
    assert len(made(fake)) == 1


@pytest.mark.parametrize("writes", range(1, 9))
async def test_an_operator_that_dies_anywhere_makes_the_same_one_job(writes: int) -> None:
    fake, gateways = await watching(a_template(), the_data(), **following("Propose"))
    await go_on(fake, gateways, USUAL, 14)
    fake.cluster.dies_in(writes)
    for _ in range(8):
        with suppress(Crash):
            await go_on(fake, gateways, MOVED, 1)
        if fake.cluster.writes and made(fake) and drift(fake).retrainings:
            break
    fake.cluster.revive()
    await go_on(fake, gateways, MOVED, 6)
    assert len(made(fake)) == len(made(fake, "Dataset")) == len(drift(fake).retrainings) == 1
    assert drift(fake).retrainings[0].state == "Made"


def other_artifact() -> dict[str, Any]:
    """The same name with other content: another version to whoever looks at digests."""
    return {"uri": f"oci://registry.internal:5000/t/bot@{digest_of('bot-9')}"}
