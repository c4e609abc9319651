"""InferenceService: the base that its engines mount, mirrored or by reference."""

import json
from typing import Any

import pytest
from tests.fakes import FakeWorld, settle
from tests.servicelife import KEY, seen, table, told, world_of
from tests.servingbuilders import (
    NAMESPACE,
    a_ready_version,
    a_service,
    a_version,
    digest_of,
    uri_of,
)

from trimtab_api.v1alpha1 import ModelVersion
from trimtab_operator.domain.errors import ArtifactUnreachable
from trimtab_operator.reconcilers.inferenceservice import reconcile


async def test_a_base_from_a_hub_is_mirrored_by_a_pod_with_the_users_secret() -> None:
    base = {
        "name": "tiny",
        "uri": "hf://Org/Tiny",
        "revision": "abc",
        "credentials": {"secretName": "hub"},
    }
    fake = world_of(a_service(base=base))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "PreparingBase")
    job = fake.cluster.one("Job")
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["base-credentials"]["secret"] == {"secretName": "hub"}
    finish(fake, job)
    tag = f"oci://registry.internal:5000/trimtab/base/org/tiny:run-{seen(fake).metadata.uid}-prepare-0"
    fake.registry.error = ArtifactUnreachable("down")
    await settle(reconcile, KEY, fake)
    assert told(fake) == ("Unknown", "RegistryUnreachable")
    fake.registry.error = None
    made = {"base": {"uri": uri_of("base"), "digest": digest_of("base")}}
    fake.registry.documents[tag] = json.dumps(made).encode()
    await settle(reconcile, KEY, fake)
    assert seen(fake).status.base_uri == uri_of("base")
    assert len(fake.cluster.of_kind("Deployment")) == 2


async def test_a_base_that_cannot_be_had_is_said() -> None:
    fake = world_of(a_service(base={"name": "tiny", "uri": "pvc://models/tiny"}))
    await settle(reconcile, KEY, fake)
    job = fake.cluster.one("Job")
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert "/claims/models" in {m["mountPath"] for m in mounts}
    finish(fake, job, failure={"reason": "UnsafeFormat", "message": "model.bin is a pickle"})
    await settle(reconcile, KEY, fake)
    assert told(fake, "EngineReady") == ("False", "UnsafeFormat")
    assert fake.cluster.of_kind("Deployment") == []


def finish(fake: FakeWorld, job: dict[str, Any], failure: dict[str, str] | None = None) -> None:
    kind = "Failed" if failure else "Complete"
    fake.cluster.edit(
        "Job",
        (NAMESPACE, job["metadata"]["name"]),
        {"status": {"conditions": [{"type": kind, "status": "True", "reason": "x"}]}},
    )
    if failure:
        ended = {"exitCode": 42, "message": json.dumps({"failure": failure})}
        fake.cluster.add(
            {
                "kind": "Pod",
                "metadata": {
                    **job["spec"]["template"]["metadata"],
                    "name": "prepare",
                    "namespace": NAMESPACE,
                    "ownerReferences": [
                        {"kind": "Job", "name": job["metadata"]["name"], "uid": "j"}
                    ],
                },
                "status": {
                    "phase": "Failed",
                    "containerStatuses": [{"name": "prepare", "state": {"terminated": ended}}],
                },
            }
        )


@pytest.mark.parametrize(
    ("base", "ready"),
    [
        pytest.param(None, ("Unknown", "BaseMissing"), id="there is no such version"),
        pytest.param(
            a_version("base", kind="Full"), ("Unknown", "BaseNotReady"), id="it is not Ready"
        ),
        pytest.param(a_ready_version("base"), ("False", "BaseNotFull"), id="it is an adapter"),
        pytest.param(
            a_ready_version("base", kind="Full"), ("False", "Starting"), id="it is full and Ready"
        ),
    ],
)
async def test_a_base_by_reference(base: Any, ready: tuple[str, str]) -> None:
    service = a_service(base={"name": "tiny", "modelVersion": {"name": "base"}})
    fake = world_of(service, *([base] if base else []))
    await settle(reconcile, KEY, fake)
    assert told(fake) == ready


async def test_what_vouches_for_the_base_is_in_the_table() -> None:
    signed = a_ready_version("base", kind="Full")
    proof = {"bundle": uri_of("sig"), "signer": "ab" * 32}
    wire = signed.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["status"]["signature"] = proof
    service = a_service(
        base={"name": "tiny", "modelVersion": {"name": "base"}},
        signatures={"trust": {"name": "signers"}, "covers": "AdaptersAndBase"},
    )
    fake = world_of(service, ModelVersion.model_validate(wire))
    await settle(reconcile, KEY, fake)
    (base,) = table(fake).models[0].versions
    assert (base.signature, base.digest) == (proof["bundle"], digest_of("base"))
    assert told(fake, "AdaptersReady") == ("False", "NoEngineReady")
