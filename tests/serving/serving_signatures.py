"""The agent with a policy: nothing is loaded whose signature does not verify, and it says why."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.servingkit import (
    BASE,
    BASE_DIGEST,
    REPORT_TYPE,
    base_version,
    eventually,
    fingerprint_of,
)
from tests.servingstack import AgentWorld, agent_world
from tests.signers import Key, folder, key_signed, new_key, public_pem

from trimtab_api.documents.evaluation import EvaluationReport
from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_oci import Reference, RegistryClient
from trimtab_oci.signatures import ANNOTATIONS, BUNDLE_TYPE
from trimtab_pipelines.signing.files import hashes_of

KEY, OTHER = new_key(), new_key()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    trust = folder(tmp_path / "trust", release_pub=public_pem(KEY))
    async with agent_world(tmp_path, trust) as world:
        yield world


async def signed(
    world: AgentWorld,
    version: RoutedVersion,
    key: Key = KEY,
    *,
    about: str | None = None,
    cut: bool = False,
) -> RoutedVersion:
    """The version with a bundle over its files (or those of `about`) and its report."""
    voice = about or version.version.removesuffix("-1")
    files = await asyncio.to_thread(hashes_of, world.directory / "source" / voice)
    reference = Reference.parse(version.uri or "")
    async with RegistryClient(plain_http=True) as registry:
        report = await registry.document(Reference.parse(version.report or ""))
        bundle = await asyncio.to_thread(
            key_signed, world.directory, key, files, hashlib.sha256(report).hexdigest()
        )
        pushed = await registry.push_document(
            Reference.parse(f"oci://{reference.name}"),
            bundle[: len(bundle) // 2] if cut else bundle,
            artifact_type=BUNDLE_TYPE,
            subject=reference,
            media_type=BUNDLE_TYPE,
            annotations=ANNOTATIONS,
        )
    return version.model_copy(update={"signature": str(pushed)})


async def test_a_version_that_somebody_trusted_has_signed_is_loaded(world: AgentWorld) -> None:
    red = await signed(world, await world.publish("red"))
    world.route(red)
    await world.loaded(red)
    assert world.agent.board.report.verifies_signatures


async def test_a_version_without_a_signature_never_reaches_the_engine(world: AgentWorld) -> None:
    red = await world.publish("red")
    world.route(red)
    reason, says = await world.failed(red)
    assert (reason, "spec.signing" in str(says)) == ("SignatureMissing", True)
    assert world.engine.loads == []


async def test_a_signature_by_another_key_is_refused_until_the_key_is_trusted(
    world: AgentWorld,
) -> None:
    red = await signed(world, await world.publish("red"), OTHER)
    world.route(red)
    reason, says = await world.failed(red)
    assert (reason, "is not trusted" in str(says)) == ("SignerUnknown", True)
    assert world.engine.loads == []
    folder(world.directory / "trust", second_pub=public_pem(OTHER))
    await world.loaded(red)


async def test_a_signature_over_another_artifact_is_refused(world: AgentWorld) -> None:
    red, _ = await world.publish("red"), await world.publish("blue")
    red = await signed(world, red, about="blue")
    world.route(red)
    reason, says = await world.failed(red)
    assert (reason, "is not what was signed" in str(says)) == ("SignatureInvalid", True)
    assert world.engine.loads == []


async def test_a_signature_that_is_cut_off_is_refused(world: AgentWorld) -> None:
    red = await signed(world, await world.publish("red"), cut=True)
    world.route(red)
    assert (await world.failed(red))[0] == "SignatureInvalid"


async def test_another_report_than_the_signed_one_is_refused(world: AgentWorld) -> None:
    red = await signed(world, await world.publish("red"))
    reference = Reference.parse(red.report or "")
    async with RegistryClient(plain_http=True) as registry:
        report = await registry.document(reference)
        changed = await registry.push_document(
            Reference.parse(f"oci://{reference.name}"),
            report.replace(b'"examples": 0', b'"examples": 9'),
            artifact_type="application/vnd.trimtab.evaluation-report.v1+json",
        )
    world.route(red.model_copy(update={"report": str(changed)}))
    reason, says = await world.failed(red)
    assert (reason, "evaluation-report.json" in str(says)) == ("SignatureInvalid", True)


async def test_a_signature_that_the_registry_has_lost_is_missing(world: AgentWorld) -> None:
    red = await signed(world, await world.publish("red"))
    world.registry.manifests.pop(str(Reference.parse(red.signature or "").digest))
    world.route(red)
    assert (await world.failed(red))[0] == "SignatureMissing"


async def test_what_is_loaded_stays_when_its_signer_is_trusted_no_more(world: AgentWorld) -> None:
    red, blue = await signed(world, await world.publish("red")), await world.publish("blue")
    blue = await signed(world, blue)
    world.route(red)
    await world.loaded(red)
    (world.directory / "trust/release.pub").unlink()
    world.route(red, blue)
    assert (await world.failed(blue))[0] == "SignerUnknown"
    assert world.pod.state("red-1") == "Loaded"


async def test_a_restarted_engine_gets_its_version_back_while_the_registry_is_away(
    world: AgentWorld,
) -> None:
    red = await signed(world, await world.publish("red"))
    world.route(red)
    await world.loaded(red)
    world.registry.failures[:] = [503] * 100
    world.engine.forget()
    await eventually(lambda: len(world.engine.loads) == 2)
    await world.loaded(red)


async def test_without_a_policy_nobody_looks_at_signatures(tmp_path: Path) -> None:
    async with agent_world(tmp_path) as world:
        red = await world.publish("red")
        world.route(red)
        await world.loaded(red)
        assert not world.agent.board.report.verifies_signatures


# --- the base -----------------------------------------------------------------------------------


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    """An agent that has the base beside it, and looks at its signature too."""
    trust = folder(tmp_path / "trust", release_pub=public_pem(KEY))
    base = folder(tmp_path / "base", config_json=b"{}", model_safetensors=b"weights")
    async with agent_world(tmp_path, trust, base) as world:
        yield world


async def signed_base(world: AgentWorld, key: Key = KEY) -> RoutedVersion:
    """The base as the operator names it, with a bundle over the files as they are now."""
    files = await asyncio.to_thread(hashes_of, world.directory / "base")
    report = EvaluationReport(
        artifact_digest=BASE_DIGEST, kind=ArtifactKind.FULL, fingerprint=fingerprint_of(BASE)
    )
    document = json.dumps(report.to_wire()).encode()
    bundle = await asyncio.to_thread(
        key_signed, world.directory, key, files, hashlib.sha256(document).hexdigest()
    )
    place = Reference.parse(f"oci://{world.registry.address}/models/base")
    async with RegistryClient(plain_http=True) as registry:
        reported = await registry.push_document(place, document, artifact_type=REPORT_TYPE)
        pushed = await registry.push_document(
            place, bundle, artifact_type=BUNDLE_TYPE, media_type=BUNDLE_TYPE
        )
    return base_version().model_copy(update={"report": str(reported), "signature": str(pushed)})


async def test_a_signed_base_answers_and_so_do_adapters_over_it(strict: AgentWorld) -> None:
    base, red = await signed_base(strict), await signed(strict, await strict.publish("red"))
    strict.route(base, red)
    await strict.loaded(base, red)
    assert strict.agent.keeper.serves(BASE)
    assert strict.agent.board.report.verifies_base


async def test_over_a_base_without_a_signature_nothing_is_loaded(strict: AgentWorld) -> None:
    base, red = await signed_base(strict), await signed(strict, await strict.publish("red"))
    base = base.model_copy(update={"signature": None})
    strict.route(base, red)
    for version in (base, red):
        reason, says = await strict.failed(version)
        assert (reason, "tiny-base has no signature" in str(says)) == ("SignatureMissing", True)
    assert strict.engine.loads == []
    assert not strict.agent.keeper.serves(BASE)


async def test_a_base_that_is_mounted_otherwise_than_it_was_signed_is_refused(
    tmp_path: Path,
) -> None:
    trust = folder(tmp_path / "trust", release_pub=public_pem(KEY))
    folder(tmp_path / "base", config_json=b"{}", model_safetensors=b"weights")
    mounted = folder(tmp_path / "mounted", config_json=b"{}", model_safetensors=b"others")
    async with agent_world(tmp_path, trust, mounted) as world:
        base, red = await signed_base(world), await signed(world, await world.publish("red"))
        world.route(base, red)
        for version in (base, red):
            reason, says = await world.failed(version)
            assert reason == "SignatureInvalid"
            assert "model.safetensors is not what was signed" in str(says)


async def test_a_base_by_another_signer_waits_until_the_signer_is_trusted(
    strict: AgentWorld,
) -> None:
    base = await signed_base(strict, OTHER)
    strict.route(base)
    assert (await strict.failed(base))[0] == "SignerUnknown"
    folder(strict.directory / "trust", second_pub=public_pem(OTHER))
    await strict.loaded(base)


async def test_loads_that_all_look_at_the_base_first_do_not_disturb_each_other(
    strict: AgentWorld,
) -> None:
    base, store = await signed_base(strict), strict.agent.store
    for _ in range(10):
        found = await asyncio.gather(*(store.reported(base, plain_http=True) for _ in range(30)))
        assert len({record.report for record in found}) == 1
        store.remove(base.digest)
