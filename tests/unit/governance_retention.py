"""The end of an artifact: when it comes, what keeps it, and that nothing in use ever goes."""

from contextlib import suppress
from typing import Any

import pytest
from tests import batchjobs
from tests.fakes import Crash, FakeWorld, settings, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_decision,
    a_job,
    a_ready_version,
    a_service,
    a_version,
    condition,
    ready_status,
    uri_of,
)
from tests.versionworld import KEY, told, world_of

from trimtab_api.documents import DeletionResult, DeletionRun, RunFailure, SigningResult
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.errors import Refused
from trimtab_operator.domain.outcome import Done, Outcome
from trimtab_operator.reconcilers.modelversion import reconcile
from trimtab_operator.settings import Retention

HOUR = 3600
POLICY = settings(retention=Retention(delete_retired_after_seconds=HOUR))
# The decision is of a day before the tests' now.
RETIRED = a_decision("Retire")
SIGNED = SigningResult(bundle_uri=uri_of("bundle"), signer="me", is_report_covered=True)
UNREACHABLE = RunFailure(reason="RegistryUnreachable", message="no answer")


def a_world(*objects: Any, **more: Any) -> FakeWorld:
    fake = world_of(a_ready_version(), RETIRED, *objects)
    fake.settings = more.get("settings", POLICY)
    return fake


async def visit(fake: FakeWorld) -> Outcome:
    return await settle(reconcile, KEY, fake)


def deletions(fake: FakeWorld) -> list[dict[str, Any]]:
    return [j for j in fake.cluster.of_kind("Job") if "-delete-" in j["metadata"]["name"]]


async def test_a_retired_version_that_nobody_needs_goes_and_stays_as_a_record() -> None:
    fake = a_world()
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "DeletingArtifact")
    assert told(fake, "Ready") == ("False", "DeletingArtifact"), "nobody takes it up any more"
    batchjobs.succeeds(fake.cluster, "delete", DeletionResult(manifests=2))
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("True", "ArtifactDeleted")
    assert told(fake, "Ready") == ("False", "ArtifactDeleted")
    assert told(fake, "Evaluated")[0] == "True", "what was found out stays"
    fake.clock.advance(hours=2)
    await visit(fake)
    assert deletions(fake) == [], "the log was kept for an hour"
    assert told(fake, "ArtifactDeleted") == ("True", "ArtifactDeleted")


async def test_the_point_of_no_return_is_written_down_before_the_job_is_made() -> None:
    fake = a_world()
    await visit_until_retired(fake)
    order: list[str] = []
    fake.cluster.fails = lambda verb, manifest: order.append(_name(verb, manifest))
    await visit(fake)
    assert order.index("status ModelVersion") < order.index("create Job")


def _name(verb: str, manifest: dict[str, Any]) -> str:
    return f"{verb} {manifest.get('kind', '')}"


async def visit_until_retired(fake: FakeWorld) -> None:
    policy, fake.settings = fake.settings, settings()
    await visit(fake)
    fake.settings = policy


async def test_it_goes_no_sooner_than_the_chart_says() -> None:
    fake = a_world(settings=settings(retention=Retention(delete_retired_after_seconds=48 * HOUR)))
    outcome = await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "DeletionDue")
    assert told(fake, "Ready") == ("True", "Ready")
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    fake.clock.advance(seconds=outcome.again_after.total_seconds())
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "DeletingArtifact")


async def test_an_approval_in_time_keeps_it() -> None:
    fake = a_world(settings=settings(retention=Retention(delete_retired_after_seconds=48 * HOUR)))
    await visit(fake)
    fake.cluster.add(a_decision(at=1))
    fake.clock.advance(hours=100)
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "NotRetired")
    assert deletions(fake) == []


async def test_an_approval_after_that_does_not_bring_it_back() -> None:
    fake = a_world()
    await visit(fake)
    fake.cluster.add(a_decision(at=1))
    await visit(fake)
    assert told(fake, "Ready") == ("False", "DeletingArtifact")


def on(version: str, **more: Any) -> ModelVersion:
    return a_ready_version(base={"uri": uri_of(version)}, model="other", **more)


OUT_OF_USE = ready_status(conditions=[condition("Retired"), condition("InUse", "False")])
RETIRED_AND_USED = ready_status(conditions=[condition("Retired"), condition("InUse")])


def twin(namespace: str = NAMESPACE, **more: Any) -> ModelVersion:
    """The same content under another name."""
    made = a_ready_version("twin", **more)
    artifact = a_version("bot-1").spec.artifact
    spec = made.spec.model_copy(update={"artifact": artifact})
    metadata = made.metadata.model_copy(update={"namespace": namespace})
    return made.model_copy(update={"spec": spec, "metadata": metadata})


def compared_with(version: str, evaluated: dict[str, Any]) -> ModelVersion:
    """A version whose evaluation has this one beside it, with what is known of the evaluation."""
    contender = {
        "name": version,
        "uri": uri_of(version),
        "kind": "Adapter",
        "baseUri": uri_of("base"),
    }
    opponents = {"champion": version, "reason": "the newest", "contenders": [contender]}
    status = {"conditions": [evaluated], "opponents": opponents}
    return a_version("next", model="other", status=status)


UNDER_WAY = condition("Evaluated", "Unknown", reason="Evaluating")

KEEPERS: dict[str, tuple[Any, str]] = {
    "a service that names it": (
        a_service(models={"bot": {"name": "bot-1"}}),
        "InferenceService chat (named for bot)",
    ),
    "a service that is served by it": (
        a_service(
            models={"bot": {"latestOf": "bot"}},
            status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
        ),
        "InferenceService chat (active for bot)",
    ),
    "a service whose base it is, by digest": (
        a_service(base={"name": "tiny", "uri": uri_of("bot-1")}),
        "InferenceService ns/chat",
    ),
    "a service that has resolved it": (
        a_service(status={"baseDigest": uri_of("bot-1").partition("@")[2]}),
        "InferenceService ns/chat",
    ),
    "a job on it": (a_job(base="bot-1"), "FineTuneJob train (base)"),
    "a version on it, by digest": (on("bot-1", name="on-it"), "ModelVersion ns/on-it"),
    "the same content under another name": (twin(), "ModelVersion ns/twin"),
    "the same content in another namespace": (twin("elsewhere"), "ModelVersion elsewhere/twin"),
    "an evaluation that compares with it": (
        compared_with("bot-1", UNDER_WAY),
        "ModelVersion ns/next",
    ),
    "the same content, retired and used": (
        twin(status=RETIRED_AND_USED),
        "ModelVersion ns/twin",
    ),
}


@pytest.mark.parametrize(("keeper", "named"), KEEPERS.values(), ids=KEEPERS)
async def test_it_is_kept_by(keeper: Any, named: str) -> None:
    fake = a_world(keeper)
    outcome = await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "StillReferenced")
    assert named in message(fake)
    assert deletions(fake) == []
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None, "what refers by digest does not wake it"


def message(fake: FakeWorld) -> str:
    version = fake.cluster.get(ModelVersion, KEY)
    assert version is not None
    return next(c.message for c in version.status.conditions if c.type == "ArtifactDeleted")


FREE: dict[str, Any] = {
    "a job that is over": a_job(base="bot-1", conditions=[condition("Complete")]),
    "the same content that is out of use as well": twin(status=OUT_OF_USE),
    "an evaluation that has compared with it": compared_with("bot-1", condition("Evaluated")),
    "an evaluation that came to nothing": compared_with(
        "bot-1", condition("Evaluated", "Unknown", reason="NotEvaluated")
    ),
}


@pytest.mark.parametrize("bystander", FREE.values(), ids=FREE)
async def test_it_is_not_kept_by(bystander: Any) -> None:
    fake = a_world(bystander)
    await visit(fake)
    assert len(deletions(fake)) == 1


async def test_what_is_elsewhere_is_never_touched() -> None:
    fake = a_world(
        settings=settings(
            retention=Retention(delete_retired_after_seconds=HOUR),
            registry=POLICY.registry.model_copy(update={"prefix": "other.example.com/trimtab"}),
        )
    )
    await visit(fake)
    assert deletions(fake) == []
    assert told(fake, "Ready") == ("True", "Ready")


async def test_without_a_policy_nothing_goes() -> None:
    fake = a_world(settings=settings())
    fake.clock.advance(hours=100_000)
    await visit(fake)
    assert deletions(fake) == []


async def test_an_artifact_that_is_being_evaluated_waits() -> None:
    fake = world_of(a_version(), RETIRED)
    fake.settings = POLICY
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "StillReferenced")
    assert "its evaluation" in message(fake)
    assert deletions(fake) == []


def to_sign(**more: Any) -> ModelVersion:
    wire = a_ready_version(**more).model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["spec"]["signing"] = {"key": {"secretName": "release"}}
    return ModelVersion.model_validate(wire)


async def test_an_artifact_that_is_being_signed_waits() -> None:
    fake = world_of(to_sign(), RETIRED)
    fake.settings = POLICY
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "StillReferenced")
    assert "its signature" in message(fake)
    batchjobs.succeeds(fake.cluster, "sign", SIGNED)
    await visit(fake)
    assert told(fake, "Signed") == ("True", "Signed")
    assert told(fake, "ArtifactDeleted") == ("False", "DeletingArtifact")


@pytest.mark.parametrize("asked", ["", "1"])
async def test_what_is_on_its_way_out_is_not_signed_any_more(asked: str) -> None:
    fake = world_of(to_sign(), RETIRED)
    fake.settings = POLICY
    await visit(fake)
    batchjobs.fails(fake.cluster, "sign", result=SigningResult(failure=UNREACHABLE))
    await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "DeletingArtifact")
    assert told(fake, "Ready") == ("False", "DeletingArtifact")
    if asked:
        fake.cluster.edit(
            "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": asked}}}
        )
    fake.clock.advance(hours=2)
    await visit(fake)
    assert told(fake, "Signed") == ("Unknown", "ArtifactDeleted")
    assert len(fake.cluster.of_kind("Job")) == len(deletions(fake)) == 1


async def test_a_signature_stays_on_record_whoever_asks_for_another() -> None:
    status = ready_status(
        conditions=[condition(c) for c in ("ArtifactVerified", "Evaluated", "Signed", "Ready")],
        signature={"bundle": uri_of("bundle"), "signer": "me"},
    )
    fake = world_of(to_sign(status=status), RETIRED)
    fake.settings = POLICY
    await visit(fake)
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": "1"}}}
    )
    await visit(fake)
    assert told(fake, "Signed")[0] == "True"
    assert len(fake.cluster.of_kind("Job")) == len(deletions(fake)) == 1


async def test_a_failure_is_said_and_tried_again() -> None:
    fake = a_world()
    await visit(fake)
    failure = RunFailure(reason="RegistryForbidden", message="deletion is not enabled")
    batchjobs.fails(fake.cluster, "delete", result=DeletionResult(failure=failure))
    outcome = await visit(fake)
    assert told(fake, "ArtifactDeleted") == ("False", "RegistryForbidden")
    assert "deletion is not enabled; it will be tried again" in message(fake)
    assert isinstance(outcome, Done)
    assert outcome.again_after is not None
    fake.clock.advance(minutes=11)
    await visit(fake)
    (again,) = deletions(fake)
    assert "conditions" not in again.get("status", {})


async def test_a_job_that_the_cluster_refuses_is_said() -> None:
    fake = a_world()
    fake.cluster.fails = lambda verb, m: (
        Refused("quota") if (verb, m.get("kind")) == ("create", "Job") else None
    )
    await reconcile(KEY, fake.world)
    assert told(fake, "ArtifactDeleted") == ("Unknown", "JobRefused")
    assert told(fake, "Ready") == ("False", "DeletingArtifact")


@pytest.mark.parametrize("writes", range(10))
async def test_a_crash_after_any_write_leaves_no_trace(writes: int) -> None:
    calm, shaken = a_world(), a_world()
    await visit(calm)
    shaken.cluster.dies_in(writes)
    with suppress(Crash):
        await visit(shaken)
    shaken.cluster.revive()
    await visit(shaken)
    assert shaken.cluster.state == calm.cluster.state


async def test_the_pods_task() -> None:
    fake = a_world()
    await visit(fake)
    (job,) = deletions(fake)
    (document,) = [
        m["data"]["run.json"]
        for m in fake.cluster.of_kind("ConfigMap")
        if m["metadata"]["name"] == job["metadata"]["name"]
    ]
    run = DeletionRun.model_validate_json(document)
    assert (run.artifact.uri, run.plain_http) == (uri_of("bot-1"), True)
