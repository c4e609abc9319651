"""The stage `sign` and the commands around it, with real keys against a registry."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.ociserver import FakeRegistry
from tests.pods import OWNER, Pod
from tests.signers import YEAR, certificate, new_key, private_pem, public_pem
from tests.sigstoreserver import ISSUER, Sigstore, identity_of, token_for

from trimtab_api.documents import SigningMethod, SigningResult, SigningRun
from trimtab_api.documents.common import Mounted, Stored
from trimtab_oci import Reference, RegistryClient
from trimtab_oci.signatures import BUNDLE_TYPE, PREDICATE, REPORT_NAME, key_identity
from trimtab_pipelines import sign
from trimtab_pipelines.__main__ import main

KEY = new_key()
REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"


class World(Pod):
    """A pod with an artifact and its report in the registry."""

    def artifact(self, name: str = "bot", kind: str = "Adapter") -> Reference:
        folder = self.root / f"source-{name}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "name": name}))
        (folder / "adapter_model.safetensors").write_bytes(name.encode() * 50)
        return self.push(folder, f"team/{name}", kind=kind)

    def report(self, artifact: Reference, about: str | None = None, examples: int = 0) -> Reference:
        report = {
            "artifactDigest": about or artifact.digest,
            "kind": "Adapter",
            "examples": examples,
            "fingerprint": {"dtype": "float32", "tolerance": 0.1, "sequences": []},
        }
        return asyncio.run(_attach(artifact, json.dumps(report).encode(), REPORT_TYPE))

    def sign(
        self, artifact: Reference, report: Reference, method: str = "Key", **changes: Any
    ) -> SigningResult:
        run = SigningRun(
            owner=OWNER,
            model="bot",
            kind=changes.pop("kind", "Adapter"),
            artifact=Stored(uri=str(artifact), digest=str(artifact.digest)),
            report=Stored(uri=str(report), digest=str(report.digest)),
            method=SigningMethod(method),
            source="release",
            output=changes.pop("output", self.output(artifact.repository)),
            **changes,
        )
        return self.run(sign.STAGE, run, SigningResult)

    def key(self) -> None:
        self.file("/credentials/signing/key.pem", private_pem(KEY))

    def trusts(self, pem: bytes) -> None:
        self.file("/trusted-signers/release.pub", pem)

    def attached(self, artifact: Reference) -> list[Any]:
        return asyncio.run(_attached(artifact))


async def _attach(artifact: Reference, content: bytes, kind: str) -> Reference:
    async with RegistryClient(plain_http=True) as registry:
        where = Reference.parse(f"oci://{artifact.name}")
        return await registry.push_document(where, content, artifact_type=kind, subject=artifact)


async def _document(uri: str) -> bytes:
    async with RegistryClient(plain_http=True) as registry:
        return await registry.document(Reference.parse(uri))


async def _attached(artifact: Reference) -> list[Any]:
    async with RegistryClient(plain_http=True) as registry:
        return await registry.referrers(artifact, BUNDLE_TYPE)


def model_signing(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    registry.failures.clear()
    return World(tmp_path, registry, monkeypatch)


def test_what_is_signed_here_verifies_with_the_public_tool(world: World, tmp_path: Path) -> None:
    artifact = world.artifact()
    report = world.report(artifact)
    world.key()
    result = world.sign(artifact, report)
    assert (world.exit_code, result.failure) == (0, None)
    assert (result.signer, result.is_report_covered) == (key_identity(public_pem(KEY)), True)
    assert [each.artifact_type for each in world.attached(artifact)] == [BUNDLE_TYPE]
    marks = world.manifest(str(result.bundle_uri)).annotations
    assert marks["dev.sigstore.bundle.predicateType"] == PREDICATE
    pulled, bundle, public = (tmp_path / n for n in ("pulled", "bot.sig", "release.pub"))
    told = main(["pull", str(artifact), str(pulled), "--report", str(report), "--plain-http"])
    assert told == 0
    bundle.write_bytes(asyncio.run(_document(result.bundle_uri or "")))
    public.write_bytes(public_pem(KEY))
    model_signing("verify", "key", pulled, "--signature", bundle, "--public_key", public)


def test_the_same_artifact_is_signed_again_beside_the_first_signature(world: World) -> None:
    artifact = world.artifact("twice")
    report = world.report(artifact)
    world.key()
    first, second = world.sign(artifact, report), world.sign(artifact, report)
    assert first.bundle_uri != second.bundle_uri, "ECDSA draws another number each time"
    assert len(world.attached(artifact)) == 2


def test_a_certificate_signs_and_is_named(world: World) -> None:
    artifact = world.artifact("certified")
    authority, now = new_key(), datetime.now(UTC)
    leaf = certificate("release", KEY, ("CA", authority), begins=now - YEAR, ends=now + YEAR)
    world.key()
    world.file("/credentials/signing/certificate.pem", leaf)
    result = world.sign(artifact, world.report(artifact), "Certificate")
    assert (result.signer, world.exit_code) == ("CN=release", 0)


def test_a_certificate_that_has_ended_signs_nothing(world: World) -> None:
    artifact = world.artifact("ended")
    now = datetime.now(UTC)
    leaf = certificate("release", KEY, ("CA", new_key()), begins=now - 2 * YEAR, ends=now - YEAR)
    world.key()
    world.file("/credentials/signing/certificate.pem", leaf)
    result = world.sign(artifact, world.report(artifact), "Certificate")
    assert result.failure is not None
    assert (result.failure.reason, world.exit_code) == ("SigningKeyUnusable", 42)
    assert world.attached(artifact) == []


def test_a_missing_secret_is_final_and_says_what_to_do(world: World) -> None:
    artifact = world.artifact("keyless")
    result = world.sign(artifact, world.report(artifact))
    assert result.failure is not None
    assert (result.failure.reason, world.exit_code) == ("SigningKeyMissing", 42)
    assert "there is no Secret release" in result.failure.message


def test_a_full_version_is_signed_where_it_is_mounted(world: World) -> None:
    artifact = world.artifact("full", kind="Full")
    (world.root / "models").mkdir()
    (world.root / "models/candidate").symlink_to(world.root / "source-full")
    world.key()
    mounted = Mounted(uri=str(artifact), digest=str(artifact.digest), path="/models/candidate")
    report = world.report(artifact)
    assert world.sign(artifact, report, kind="Full", mounted=mounted).bundle_uri
    weights = world.root / "source-full/adapter_model.safetensors"
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    result = world.sign(artifact, report, kind="Full", mounted=mounted)
    assert result.failure is not None
    assert result.failure.reason == "DigestMismatch"


def test_a_report_about_another_artifact_is_never_signed(world: World) -> None:
    artifact = world.artifact("astray")
    world.key()
    result = world.sign(artifact, world.report(artifact, about="sha256:" + "0" * 64))
    assert result.failure is not None
    assert result.failure.reason == "ReportInvalid"
    assert world.attached(artifact) == []


def test_a_registry_that_goes_away_during_the_push_is_waited_for(world: World) -> None:
    artifact = world.artifact("patient")
    report = world.report(artifact)
    world.key()
    # Manifest, two blobs and the report are read; then the push meets a registry that is down.
    world.registry.failures[:] = [0] * 6 + [503] * 12
    result = world.sign(artifact, report)
    assert (world.exit_code, result.failure) == (0, None)
    assert world.registry.failures == []
    assert len(world.attached(artifact)) == 1


def test_what_lies_in_a_registry_of_others_is_signed_beside_it(world: World) -> None:
    artifact = world.artifact("foreign")
    world.key()
    output = world.output("ours/bot")
    result = world.sign(artifact, world.report(artifact), output=output)
    assert "ours/bot@sha256:" in str(result.bundle_uri)
    assert world.attached(artifact) == []


# --- signatures that were made elsewhere --------------------------------------------------------


def signed_outside(world: World, tmp_path: Path, artifact: Reference, report: str = "") -> None:
    """The way of a key that never enters the cluster: pull, sign by the public tool, attach."""
    key, bundle = tmp_path / "outside.pem", tmp_path / "outside.sig"
    key.write_bytes(private_pem(KEY))
    pulled = tmp_path / "outside"
    more = ["--report", report] if report else []
    assert main(["pull", str(artifact), str(pulled), *more, "--plain-http"]) == 0
    model_signing("sign", "key", pulled, "--signature", bundle, "--private_key", key)
    assert main(["attach", str(artifact), str(bundle), "--plain-http"]) == 0


@pytest.mark.parametrize("with_report", [True, False], ids=["with its report", "files alone"])
def test_a_signature_made_by_the_public_tool_is_verified(
    world: World, tmp_path: Path, with_report: bool
) -> None:
    artifact = world.artifact(f"brought-{with_report}".lower())
    report = world.report(artifact)
    signed_outside(world, tmp_path, artifact, str(report) if with_report else "")
    world.trusts(public_pem(KEY))
    result = world.sign(artifact, report, "Existing")
    assert (result.failure, result.signer) == (None, key_identity(public_pem(KEY)))
    assert result.is_report_covered is with_report
    assert len(world.attached(artifact)) == 1, "nothing is signed again"


def test_of_several_signatures_one_that_is_good_will_do(world: World, tmp_path: Path) -> None:
    artifact = world.artifact("several")
    asyncio.run(_attach(artifact, b"{", BUNDLE_TYPE))
    signed_outside(world, tmp_path, artifact)
    world.trusts(public_pem(KEY))
    assert world.sign(artifact, world.report(artifact), "Existing").bundle_uri


def test_a_signature_by_another_key_is_refused(world: World, tmp_path: Path) -> None:
    artifact = world.artifact("others")
    signed_outside(world, tmp_path, artifact)
    world.trusts(public_pem(new_key()))
    result = world.sign(artifact, world.report(artifact), "Existing")
    assert result.failure is not None
    assert (result.failure.reason, world.exit_code) == ("SignerUnknown", 42)


def test_a_report_that_was_made_after_the_signature_is_not_covered_by_it(
    world: World, tmp_path: Path
) -> None:
    artifact = world.artifact("newer")
    signed_outside(world, tmp_path, artifact, str(world.report(artifact)))
    world.trusts(public_pem(KEY))
    result = world.sign(artifact, world.report(artifact, examples=9), "Existing")
    assert result.failure is not None
    assert result.failure.reason == "SignatureInvalid"
    assert REPORT_NAME in result.failure.message


def test_no_signature_at_all_says_how_to_make_one(world: World) -> None:
    artifact = world.artifact("bare")
    world.trusts(public_pem(KEY))
    result = world.sign(artifact, world.report(artifact), "Existing")
    assert result.failure is not None
    assert result.failure.reason == "SignatureMissing"
    assert "trimtab_pipelines attach" in result.failure.message


# --- the commands -------------------------------------------------------------------------------


def test_what_cannot_be_attached_or_pulled_is_told(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = str(world.artifact("commands"))
    broken = world.file("broken.sig", "{")
    cases = {
        f"attach {artifact} {broken}": "SignatureInvalid",
        f"attach {artifact} {tmp_path}/none.sig": "none.sig",
        f"attach oci://{world.registry.address}/team/commands:v1 {broken}": "SignatureInvalid",
        f"pull oci://{world.registry.address}/team/commands:v1 {tmp_path}/new": "names no digest",
        f"pull {artifact} {world.root}": "is not empty",
    }
    for command, says in cases.items():
        assert main([*command.split(), "--plain-http"]) == 1, command
        assert says in capsys.readouterr().err, command


# --- Sigstore -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sigstore() -> Iterator[Sigstore]:
    with Sigstore().running() as running:
        yield running


def keyless(world: World, artifact: Reference) -> SigningResult:
    return world.sign(artifact, world.report(artifact), "Sigstore", audience="sigstore")


def test_a_service_account_signs_by_sigstore_and_verifies_offline(
    world: World, sigstore: Sigstore
) -> None:
    artifact = world.artifact("keyless")
    sigstore.trusted_by(world.root / "trusted-signers", identity_of())
    world.file("/credentials/signing/token", token_for(identity_of()))
    result = keyless(world, artifact)
    assert (world.exit_code, result.failure) == (0, None)
    assert result.signer == f"{identity_of()} (by {ISSUER})"
    assert len(sigstore.entries) == 1
    verified = world.sign(artifact, world.report(artifact), "Existing")
    assert (verified.failure, verified.signer) == (None, result.signer)
    assert len(sigstore.entries) == 1, "verifying asks nobody"
    sigstore.trusted_by(world.root / "trusted-signers", identity_of("somebody-else"))
    refused = world.sign(artifact, world.report(artifact), "Existing")
    assert refused.failure is not None
    assert refused.failure.reason == "SignerUnknown"


def test_another_sigstore_is_not_believed(world: World, sigstore: Sigstore) -> None:
    artifact = world.artifact("other-sigstore")
    sigstore.trusted_by(world.root / "trusted-signers", identity_of())
    world.file("/credentials/signing/token", token_for(identity_of()))
    assert keyless(world, artifact).bundle_uri
    with Sigstore().running() as other:
        other.trusted_by(world.root / "trusted-signers", identity_of())
        result = world.sign(artifact, world.report(artifact), "Existing")
    assert result.failure is not None
    assert result.failure.reason == "SignatureInvalid"


@pytest.mark.parametrize(
    ("token", "refuses", "reason", "says"),
    [
        pytest.param("", "", "SigningKeyUnusable", "audience sigstore", id="no token"),
        pytest.param(
            token_for(identity_of(), "vault"), "", "SigningKeyUnusable", "audience", id="another's"
        ),
        pytest.param(
            token_for(identity_of()),
            "issuer is not known",
            "SigningKeyUnusable",
            "Sigstore has not signed",
            id="a token that Fulcio does not take",
        ),
    ],
)
def test_what_sigstore_does_not_sign_is_told(
    world: World, sigstore: Sigstore, token: str, refuses: str, reason: str, says: str
) -> None:
    artifact = world.artifact("refused")
    sigstore.trusted_by(world.root / "trusted-signers")
    world.file("/credentials/signing/token", token)
    sigstore.refuses = refuses
    try:
        result = keyless(world, artifact)
    finally:
        sigstore.refuses = ""
    assert result.failure is not None
    assert (result.failure.reason, says in result.failure.message) == (reason, True)


def test_a_sigstore_that_is_away_is_tried_again(world: World) -> None:
    artifact = world.artifact("away")
    with Sigstore().running() as gone:
        gone.trusted_by(world.root / "trusted-signers")
    world.file("/credentials/signing/token", token_for(identity_of()))
    result = keyless(world, artifact)
    assert result.failure is not None
    assert (result.failure.reason, world.exit_code) == ("SourceUnreachable", 1)


def test_without_a_configuration_nobody_knows_where_sigstore_is(world: World) -> None:
    artifact = world.artifact("nowhere")
    result = world.sign(artifact, world.report(artifact), "Sigstore", audience="sigstore")
    assert result.failure is not None
    assert (result.failure.reason, world.exit_code) == ("SigningKeyMissing", 42)
    world.file("/trusted-signers/trust-config.json", "{}")
    result = world.sign(artifact, world.report(artifact), "Sigstore", audience="sigstore")
    assert result.failure is not None
    assert result.failure.reason == "SigningKeyUnusable"
