"""ModelVersion from what the pod that signs says to what status says."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from tests.batchjobs import fails, job_of, succeeds, waits
from tests.fakes import Crash, FakeCluster, FakeWorld, settle
from tests.servingbuilders import (
    NAMESPACE,
    a_version,
    condition,
    ready_status,
    uri_of,
)
from tests.versionworld import GIVEN, KEY, seen, told, world_of

from trimtab_api.documents import EvaluationResult, RunFailure, SigningResult
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_operator.domain.conditions import find
from trimtab_operator.domain.errors import ArtifactUnreachable, Forbidden
from trimtab_operator.domain.outcome import Done
from trimtab_operator.reconcilers.modelversion import reconcile

BUNDLE = uri_of("bundle")
RESULT = SigningResult(bundle_uri=BUNDLE, signer="5a" * 32, is_report_covered=True)
BY_KEY = {"key": {"secretName": "release"}}
EXISTING = {"existing": {"trust": {"name": "signers"}}}


def to_sign(signing: dict[str, Any] = BY_KEY, **more: Any) -> ModelVersion:
    version = a_version(evaluation=more.pop("evaluation", GIVEN), **more)
    wire = version.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["spec"]["signing"] = signing
    return ModelVersion.model_validate(wire)


def failed(reason: str, message: str) -> SigningResult:
    return SigningResult(failure=RunFailure(reason=reason, message=message))


def message(fake: FakeWorld, kind: str = "Signed") -> str:
    found = find(seen(fake).status.conditions, kind)
    assert found is not None
    return found.message


def retry(fake: FakeWorld, value: str = "1") -> None:
    fake.cluster.edit(
        "ModelVersion", KEY, {"metadata": {"annotations": {"trimtab.dev/retry": value}}}
    )


async def test_a_version_is_ready_once_it_is_signed() -> None:
    fake = world_of(to_sign())
    await settle(reconcile, KEY, fake)
    assert told(fake, "Evaluated") == ("True", "ReportVerified")
    assert told(fake, "Signed") == ("Unknown", "Signing")
    assert told(fake, "Ready") == ("Unknown", "Signing")
    succeeds(fake.cluster, "sign", RESULT)
    assert await settle(reconcile, KEY, fake) == Done(timedelta(hours=1))
    assert told(fake, "Signed") == ("True", "Signed")
    assert told(fake, "Ready") == ("True", "Ready")
    signature = seen(fake).status.signature
    assert signature is not None
    assert (signature.bundle, signature.report) == (BUNDLE, uri_of("report"))
    assert "the files and the report" in message(fake)


async def test_nobody_asks_for_a_signature_and_nothing_is_said_of_one() -> None:
    fake = world_of(a_version(evaluation=GIVEN))
    await settle(reconcile, KEY, fake)
    assert find(seen(fake).status.conditions, "Signed") is None
    assert fake.cluster.of_kind("Job") == []


async def test_what_misses_a_gate_is_never_signed() -> None:
    gates = GIVEN | {"gates": [{"metric": "RougeL", "atLeast": 0.9}]}
    fake = world_of(to_sign(evaluation=gates))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "NotSigned")
    assert told(fake, "Ready") == ("False", "GateFailed")
    assert fake.cluster.of_kind("Job") == []


async def test_an_evaluation_comes_before_the_signature_and_both_keep_their_jobs() -> None:
    fake = world_of(to_sign(evaluation={}))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "NotSigned")
    succeeds(fake.cluster, "evaluate", EvaluationResult(report_uri=uri_of("report")))
    await settle(reconcile, KEY, fake)
    succeeds(fake.cluster, "sign", RESULT)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("True", "Ready")
    assert len(fake.cluster.of_kind("Job")) == 2
    fake.clock.advance(hours=2)
    await settle(reconcile, KEY, fake)
    assert fake.cluster.of_kind("Job") == []
    assert told(fake, "Ready") == ("True", "Ready")


FINAL = {
    "a Secret that is not there": ("SigningKeyMissing", "create it"),
    "a signature by somebody unknown": ("SignerUnknown", "is not trusted"),
    "no signature": ("SignatureMissing", "attach"),
    "a signature over something else": ("SignatureInvalid", "is not what was signed"),
}


@pytest.mark.parametrize(("reason", "says"), FINAL.values(), ids=FINAL.keys())
async def test_what_cannot_be_signed_or_verified_is_not_ready_until_it_is_tried_again(
    reason: str, says: str
) -> None:
    fake = world_of(to_sign(EXISTING))
    await settle(reconcile, KEY, fake)
    fails(fake.cluster, "sign", result=failed(reason, says))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("False", reason)
    assert told(fake, "Ready") == ("False", reason)
    assert message(fake) == says
    retry(fake)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "Signing")
    succeeds(fake.cluster, "sign", RESULT)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("True", "SignatureVerified")


async def test_a_failure_is_remembered_after_its_pod_is_gone() -> None:
    fake = world_of(to_sign())
    await settle(reconcile, KEY, fake)
    fails(fake.cluster, "sign", result=failed("SigningKeyMissing", "no Secret"))
    await settle(reconcile, KEY, fake)
    for pod in fake.cluster.of_kind("Pod"):
        fake.cluster.take_away("Pod", (NAMESPACE, pod["metadata"]["name"]))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("False", "SigningKeyMissing")


async def test_a_registry_that_is_down_is_tried_again_by_itself() -> None:
    fake = world_of(to_sign())
    await settle(reconcile, KEY, fake)
    fails(fake.cluster, "sign", result=failed("RegistryUnreachable", "no answer"))
    fake.clock.advance(minutes=2)
    await settle(reconcile, KEY, fake)
    assert not job_of(fake.cluster, "sign").get("status"), "another Job, that has just begun"
    assert told(fake, "Signed")[0] == "Unknown"


async def test_a_result_that_only_the_registry_has_left_is_read_there() -> None:
    fake = world_of(to_sign())
    await settle(reconcile, KEY, fake)
    succeeds(fake.cluster, "sign")
    fake.registry.error = ArtifactUnreachable("down")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    tag = json.loads(fake.cluster.one("ConfigMap")["data"]["run.json"])["output"]
    fake.registry.documents[f"oci://{tag['repository']}:{tag['resultTag']}"] = (
        RESULT.model_dump_json().encode()
    )
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("True", "Signed")


async def test_an_image_that_cannot_be_pulled_is_told() -> None:
    fake = world_of(to_sign())
    await settle(reconcile, KEY, fake)
    waits(fake.cluster, "sign", "ErrImagePull", "no such image")
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "ImagePullFailed")


async def test_a_quota_that_admits_no_job_takes_nothing_of_the_evaluation_back() -> None:
    fake = world_of(to_sign())
    fake.cluster.fails = lambda _, manifest: (
        Forbidden("exceeded quota") if manifest.get("kind") == "Job" else None
    )
    await settle(reconcile, KEY, fake)
    assert told(fake, "Evaluated") == ("True", "ReportVerified")
    assert told(fake, "Signed") == ("Unknown", "JobRefused")
    assert told(fake, "Ready") == ("Unknown", "JobRefused")
    assert "the signature cannot be started" in message(fake)


SIGNED = ready_status(
    conditions=[condition(c) for c in ("ArtifactVerified", "Evaluated", "Signed", "Ready")],
    signature={"bundle": BUNDLE, "signer": "5a" * 32, "report": uri_of("report")},
)


async def test_a_good_version_stays_ready_while_it_is_signed_anew() -> None:
    fake = world_of(to_sign(status=SIGNED))
    await settle(reconcile, KEY, fake)
    assert fake.cluster.of_kind("Job") == []
    retry(fake)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "Signing")
    assert told(fake, "Ready") == ("True", "Ready")
    another = SigningResult(bundle_uri=uri_of("another"), signer="me")
    succeeds(fake.cluster, "sign", another)
    await settle(reconcile, KEY, fake)
    signature = seen(fake).status.signature
    assert signature is not None
    assert (signature.bundle, signature.requested) == (uri_of("another"), "1")
    assert "the files alone" in message(fake)


async def test_a_quota_that_admits_no_other_job_takes_nothing_of_a_good_signature_back() -> None:
    fake = world_of(to_sign(status=SIGNED))
    await settle(reconcile, KEY, fake)
    retry(fake)
    fake.cluster.fails = lambda _, manifest: (
        Forbidden("exceeded quota") if manifest.get("kind") == "Job" else None
    )
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed") == ("Unknown", "JobRefused")
    assert told(fake, "Ready") == ("True", "Ready")


async def test_another_try_to_sign_is_no_other_evaluation() -> None:
    gates = {"gates": [{"metric": "RougeL", "notWorseThan": "Champion"}]}
    fake = world_of(to_sign(evaluation=gates))
    await settle(reconcile, KEY, fake)
    rouge = MetricValue(metric=Metric.ROUGE_L, value=0.4)
    found = EvaluationResult(report_uri=uri_of("report"), examples=200, metrics=[rouge])
    succeeds(fake.cluster, "evaluate", found)
    await settle(reconcile, KEY, fake)
    fails(fake.cluster, "sign", result=failed("SigningKeyMissing", "no Secret"))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "SigningKeyMissing")
    retry(fake)
    await settle(reconcile, KEY, fake)
    assert told(fake, "Evaluated") == ("True", "Evaluated")
    assert told(fake, "Signed") == ("Unknown", "Signing")


async def test_a_request_that_was_served_and_is_taken_back_signs_nothing() -> None:
    signature = {"bundle": BUNDLE, "signer": "5a" * 32, "requested": "1"}
    fake = world_of(to_sign(status=SIGNED | {"signature": signature}))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Signed")[0] == "True"
    assert fake.cluster.of_kind("Job") == []


async def test_one_that_is_no_longer_trusted_is_not_ready() -> None:
    fake = world_of(to_sign(EXISTING, status=SIGNED))
    retry(fake)
    await settle(reconcile, KEY, fake)
    fails(fake.cluster, "sign", result=failed("SignerUnknown", "revoked"))
    await settle(reconcile, KEY, fake)
    assert told(fake, "Ready") == ("False", "SignerUnknown")


@pytest.mark.parametrize("writes", range(8))
async def test_a_crash_between_writes_leaves_no_trace(writes: int) -> None:
    calm, shaken = world_of(to_sign()), world_of(to_sign())
    await settle(reconcile, KEY, calm)
    dying = FakeCluster(dies_after=writes)
    dying.add(to_sign())
    shaken.cluster = dying
    with suppress(Crash):
        await settle(reconcile, KEY, shaken)
    dying.revive()
    await settle(reconcile, KEY, shaken)
    assert dying.state == calm.cluster.state
