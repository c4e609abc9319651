"""ModelVersion from what the registry and its neighbours say to what status says."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.fakes import Crash, FakeCluster, FakeWorld, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_job,
    a_ready_version,
    a_report,
    a_service,
    a_version,
    an_artifact,
    condition,
    digest_of,
    ready_status,
    uri_of,
)
from tests.versionworld import GIVEN, KEY, seen, told, world_of

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.errors import ArtifactForbidden, ArtifactInvalid, ArtifactUnreachable
from trimtab_operator.domain.outcome import Done, Retry
from trimtab_operator.reconcilers.modelversion import reconcile

# --- a report is given --------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenCase:
    name: str
    ready: tuple[str, str]
    says: str = ""
    version: ModelVersion = field(default_factory=lambda: a_version(evaluation=GIVEN))
    registry: dict[str, Any] = field(default_factory=dict)


GIVEN_CASES = [
    GivenCase("a report about this artifact makes it Ready", ("True", "Ready")),
    GivenCase(
        "a gate that is met is told with its numbers",
        ("True", "Ready"),
        "1 of 1 gates passed",
        a_version(
            evaluation=GIVEN | {"gates": [{"metric": "RougeL", "atLeast": 0.3}]},
        ),
    ),
    GivenCase(
        "a gate that is missed is told with its numbers",
        ("False", "GateFailed"),
        "RougeL 0.4 is below 0.5",
        a_version(evaluation=GIVEN | {"gates": [{"metric": "RougeL", "atLeast": 0.5}]}),
    ),
    GivenCase(
        "a figure that was not measured is no pass",
        ("False", "GateUndecided"),
        "Bleu was not measured",
        a_version(evaluation=GIVEN | {"gates": [{"metric": "Bleu", "atMost": 1}]}),
    ),
    GivenCase(
        "a report about another artifact is of no use",
        ("False", "ReportInvalid"),
        "not about",
        registry={"report": a_report("bot-2")},
    ),
    GivenCase(
        "a report made with another base is of no use",
        ("False", "ReportInvalid"),
        "made with base",
        registry={"report": a_report(baseDigest=digest_of("else"))},
    ),
    GivenCase(
        "a report on other data is of no use",
        ("False", "ReportInvalid"),
        "made on data",
        a_version(evaluation=GIVEN | {"dataset": {"uri": uri_of("data")}}),
    ),
    GivenCase(
        "a report without a fingerprint is of no use",
        ("False", "ReportInvalid"),
        "no fingerprint",
        registry={
            "report": a_report(fingerprint={"dtype": "float32", "tolerance": 1, "sequences": []})
        },
    ),
    GivenCase(
        "a report that is no report is of no use",
        ("False", "ReportInvalid"),
        "artifactDigest",
        registry={"report": b"{}"},
    ),
    GivenCase(
        "an adapter of another base is refused",
        ("False", "BaseMismatch"),
        "belongs to base",
        registry={"artifact": an_artifact(base="else")},
    ),
    GivenCase(
        "an adapter of another rank is refused",
        ("False", "RankMismatch"),
        "says 64",
        registry={"artifact": an_artifact(rank=64)},
    ),
    GivenCase(
        "a full model that is called an adapter is refused",
        ("False", "UnsupportedModel"),
        "says Full",
        registry={"artifact": an_artifact("Full")},
    ),
    GivenCase(
        "an image that is no model of ours is refused with the remedy",
        ("False", "UnsafeFormat"),
        "trimtab_pipelines push",
        registry={"artifact": {"layers": []}},
    ),
]


@pytest.mark.parametrize("case", GIVEN_CASES, ids=lambda c: c.name)
async def test_a_given_report(case: GivenCase) -> None:
    fake = world_of(case.version, **case.registry)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == case.ready
    ready = find(seen(fake).status.conditions, "Ready")
    assert ready is not None
    assert case.says in ready.message
    assert fake.cluster.of_kind("Job") == [], "a given report starts no pod"


async def test_one_visit_makes_a_version_with_a_report_ready() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    assert await reconcile(KEY, fake.world) == Done()
    assert told(fake, "Ready") == ("True", "Ready")
    assert seen(fake).status.size_bytes == 42
    assert seen(fake).status.base_digest == digest_of("base")
    assert [e.reason for e in fake.cluster.events.values()].count("Ready") == 1


async def test_a_registry_that_does_not_answer_leaves_it_unknown_and_is_asked_again() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    fake.registry.error = ArtifactUnreachable("registry.internal:5000 does not answer")
    outcome = await settle(reconcile, KEY, fake)
    assert isinstance(outcome, Retry)
    assert told(fake, "Ready") == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")


async def test_bytes_that_are_not_what_their_digest_says_are_refused() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    fake.registry.error = ArtifactInvalid("sha256:1 is not sha256:2")
    await settle(reconcile, KEY, fake)
    assert told(fake, "ArtifactVerified") == ("False", "DigestMismatch")


async def test_where_the_operator_may_not_look_a_pod_of_the_namespace_does() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    fake.registry.error = ArtifactForbidden("401")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("Unknown", "Evaluating")
    assert len(fake.cluster.of_kind("Job")) == 1


async def test_a_version_that_is_ready_never_asks_the_registry_again() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    await settle(reconcile, KEY, fake)
    fake.registry.error = ArtifactUnreachable("down")
    assert await settle(reconcile, KEY, fake) == Done()
    assert told(fake, "Ready") == ("True", "Ready")


# --- a base by reference ------------------------------------------------------------------------

BY_NAME = {"modelVersion": {"name": "base"}}


@pytest.mark.parametrize(
    ("base", "ready"),
    [
        pytest.param(
            None, ("Unknown", "BaseMissing"), id="a base that does not exist is waited for"
        ),
        pytest.param(
            a_version("base", kind="Full"),
            ("Unknown", "BaseNotReady"),
            id="a base that is not Ready is waited for",
        ),
        pytest.param(a_ready_version("base"), ("False", "BaseNotFull"), id="an adapter is no base"),
        pytest.param(
            a_ready_version("base", kind="Full"), ("True", "Ready"), id="a full, Ready base will do"
        ),
    ],
)
async def test_a_base_by_reference(base: ModelVersion | None, ready: tuple[str, str]) -> None:
    version = a_version(base=BY_NAME, evaluation=GIVEN)
    fake = world_of(version, *([base] if base else []))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ready


async def test_a_base_is_compared_by_its_digest() -> None:
    fake = world_of(
        a_version(base=BY_NAME, evaluation=GIVEN),
        a_ready_version("base", kind="Full"),
        artifact=an_artifact(base="else"),
    )
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "BaseMismatch")


# --- who uses it --------------------------------------------------------------------------------

READY = a_ready_version(evaluation=GIVEN)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        pytest.param(
            a_service(
                models={"bot": {"name": "bot-1"}},
                status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
            ),
            "InferenceService chat (active for bot)",
            id="a service that serves it",
        ),
        pytest.param(
            a_service(
                models={"bot": {"name": "bot-1"}},
                status={"models": [{"name": "bot", "candidateVersion": "bot-1"}]},
            ),
            "InferenceService chat (candidate for bot)",
            id="a service that is loading it",
        ),
        pytest.param(
            a_service(models={"bot": {"name": "bot-1"}}),
            "InferenceService chat (named for bot)",
            id="a service that names it and does not serve it yet",
        ),
        pytest.param(
            a_service(base={"name": "tiny", "modelVersion": {"name": "bot-1"}}),
            "InferenceService chat (base)",
            id="a service whose base it is",
        ),
        pytest.param(a_job(base="bot-1"), "FineTuneJob train (base)", id="a job that trains on it"),
        pytest.param(
            a_version("bot-2", base={"modelVersion": {"name": "bot-1"}}),
            "ModelVersion bot-2 (base)",
            id="a version whose base it is",
        ),
    ],
)
async def test_a_version_in_use_is_protected(user: Any, says: str) -> None:
    fake = world_of(READY, user)
    await settle(reconcile, KEY, fake)
    assert told(fake, "InUse") == ("True", "InUse")
    assert seen(fake).metadata.finalizers == ["trimtab.dev/in-use"]
    in_use = find(seen(fake).status.conditions, "InUse")
    assert in_use is not None
    assert says in in_use.message


async def test_deleting_a_version_waits_for_its_users_and_says_so() -> None:
    service = a_service(
        models={"bot": {"name": "bot-1"}},
        status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
    )
    fake = world_of(READY, service)
    await settle(reconcile, KEY, fake)
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}
    )
    await settle(reconcile, KEY, fake)
    assert told(fake, "InUse") == ("True", "DeletionWaits")
    fake.cluster.take_away("InferenceService", service.key)
    await reconcile(KEY, fake.world)
    assert fake.cluster.get(ModelVersion, KEY) is None


@pytest.mark.parametrize(
    ("finalizers", "ready"),
    [
        pytest.param([], ("True", "Ready"), id="its users still need to know"),
        pytest.param(["foregroundDeletion"], ("Unknown", "Deleting"), id="its Jobs go first"),
    ],
)
async def test_what_is_lost_of_a_version_whose_deletion_waits_is_found_out_again(
    finalizers: list[str], ready: tuple[str, str]
) -> None:
    fake = world_of(READY, a_service(models={"bot": {"name": "bot-1"}}))
    await settle(reconcile, KEY, fake)
    lost = fake.cluster.objects["ModelVersion", KEY]
    lost["metadata"] |= {
        "deletionTimestamp": "2026-01-02T00:00:00Z",
        "finalizers": [*lost["metadata"]["finalizers"], *finalizers],
    }
    lost["status"] = {}
    fake.cluster.edit("ModelVersion", KEY, {})
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ready
    assert told(fake, "InUse") == ("True", "DeletionWaits")


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(
            a_job(base="bot-1", conditions=[condition("Complete")]), id="a job that is complete"
        ),
        pytest.param(a_job(base="bot-1", conditions=[condition("Failed")]), id="a job that failed"),
        pytest.param(
            a_service(
                models={"other": {"name": "bot-2"}},
                status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
            ),
            id="a service whose spec no longer has the model",
        ),
    ],
)
async def test_who_is_done_with_a_version_does_not_hold_it(user: Any) -> None:
    fake = world_of(READY, user)
    await settle(reconcile, KEY, fake)
    assert told(fake, "InUse") == ("False", "NotInUse")
    assert seen(fake).metadata.finalizers == []


async def test_producers_are_remembered_after_their_jobs_are_gone() -> None:
    fake = world_of(READY, a_job("first", modelVersion="bot-1"))
    await settle(reconcile, KEY, fake)
    fake.cluster.take_away("FineTuneJob", (NAMESPACE, "first"))
    fake.cluster.add(a_job("second", modelVersion="bot-1"))
    await settle(reconcile, KEY, fake)
    assert [p.fine_tune_job for p in seen(fake).status.producers] == ["first", "second"]


# --- crashes ------------------------------------------------------------------------------------

Prepare = Callable[[FakeWorld], None]


def with_service(fake: FakeWorld) -> None:
    fake.cluster.add(
        a_service(
            models={"bot": {"name": "bot-1"}},
            status={"models": [{"name": "bot", "activeVersion": "bot-1"}]},
        )
    )


@pytest.mark.parametrize("writes", range(14))
@pytest.mark.parametrize(
    "version",
    [a_version(), a_version(evaluation=GIVEN), a_version(status=ready_status())],
    ids=["an evaluation is started", "a report is given", "it is ready"],
)
async def test_a_crash_between_writes_leaves_no_trace(version: ModelVersion, writes: int) -> None:
    calm, shaken = world_of(version), world_of(version)
    with_service(calm)
    await settle(reconcile, KEY, calm)
    dying = FakeCluster(dies_after=writes)
    for each in (version,):
        dying.add(each)
    shaken.cluster = dying
    with_service(shaken)
    with suppress(Crash):
        await settle(reconcile, KEY, shaken)
    dying.revive()
    await settle(reconcile, KEY, shaken)
    assert dying.state == calm.cluster.state
