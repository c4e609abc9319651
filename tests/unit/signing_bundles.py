"""Bundles of OpenSSF model signing: what proves something, and what is said of those that do not."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from model_signing import hashing, signing, verifying
from tests.signers import (
    NOW,
    YEAR,
    certificate,
    certificate_signed,
    folder,
    key_signed,
    new_key,
    private_pem,
    public_pem,
)

from trimtab_api.documents import SigningMethod
from trimtab_api.reasons import FailureReason
from trimtab_oci.signatures import SignatureFault, Trust, key_identity, verify
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.signing.files import hashes_of
from trimtab_pipelines.signing.signer import Identity, sign

FILES = {"adapter_config.json": "a1" * 32, "adapter_model.safetensors": "b2" * 32}
REPORT = "c3" * 32
KEY, OTHER = new_key(), new_key()


def trusting(place: Path, **entries: bytes) -> Trust:
    return Trust.load(folder(place / "trust", **entries))


def refused(bundle: bytes, trust: Trust, **changes: Any) -> tuple[FailureReason, str]:
    arguments = {"files": FILES, "report": REPORT, "now": NOW, **changes}
    with pytest.raises(SignatureFault) as fault:
        verify(bundle, trust=trust, **arguments)
    return fault.value.reason, fault.value.message


def test_a_key_proves_files_and_report(tmp_path: Path) -> None:
    trust = trusting(tmp_path, a_pub=public_pem(OTHER), b_pub=public_pem(KEY))
    proof = verify(key_signed(tmp_path, KEY, FILES, REPORT), FILES, REPORT, trust, NOW)
    assert (proof.signer, proof.is_report_covered) == (key_identity(public_pem(KEY)), True)


def test_files_alone_may_be_signed_before_there_is_a_report(tmp_path: Path) -> None:
    trust = trusting(tmp_path, a_pub=public_pem(KEY))
    proof = verify(key_signed(tmp_path, KEY, FILES), FILES, REPORT, trust, NOW)
    assert not proof.is_report_covered


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "other weights": (
        {"files": FILES | {"adapter_model.safetensors": "00" * 32}},
        "adapter_model.safetensors is not what was signed",
    ),
    "a file that nobody signed": (
        {"files": FILES | {"chat_template.jinja": "00" * 32}},
        "chat_template.jinja is not covered by the signature",
    ),
    "a file that is gone": (
        {"files": {"adapter_config.json": "a1" * 32}},
        "adapter_model.safetensors was signed and is not there",
    ),
    "a report that was changed after signing": (
        {"report": "00" * 32},
        "evaluation-report.json is not what was signed",
    ),
}


@pytest.mark.parametrize("case", CHANGED.values(), ids=CHANGED.keys())
def test_what_is_not_what_was_signed_is_named(
    tmp_path: Path, case: tuple[dict[str, Any], str]
) -> None:
    changes, says = case
    trust = trusting(tmp_path, a_pub=public_pem(KEY))
    found = refused(key_signed(tmp_path, KEY, FILES, REPORT), trust, **changes)
    assert found == (FailureReason.SIGNATURE_INVALID, says)


def test_a_signature_by_another_key_is_nobodys(tmp_path: Path) -> None:
    bundle = key_signed(tmp_path, OTHER, FILES, REPORT)
    reason, says = refused(bundle, trusting(tmp_path, a_pub=public_pem(KEY)))
    assert reason is FailureReason.SIGNER_UNKNOWN
    assert key_identity(public_pem(OTHER))[:16] in says
    assert "1 keys" in says


def test_a_bundle_that_names_a_trusted_key_and_was_made_by_another_is_invalid(
    tmp_path: Path,
) -> None:
    forged = json.loads(key_signed(tmp_path, OTHER, FILES, REPORT))
    forged["verificationMaterial"]["publicKey"]["hint"] = key_identity(public_pem(KEY))
    found = refused(json.dumps(forged).encode(), trusting(tmp_path, a_pub=public_pem(KEY)))
    assert found[0] is FailureReason.SIGNATURE_INVALID
    assert "has not made this signature" in found[1]


def test_a_statement_that_was_changed_is_invalid_although_it_fits_the_files(
    tmp_path: Path,
) -> None:
    bundle = json.loads(key_signed(tmp_path, KEY, FILES, REPORT))
    other = json.loads(key_signed(tmp_path, OTHER, FILES | {"x": "00" * 32}, REPORT))
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    files = FILES | {"x": "00" * 32}
    trust = trusting(tmp_path, a_pub=public_pem(KEY))
    assert refused(json.dumps(bundle).encode(), trust, files=files)[0] == "SignatureInvalid"


def test_what_a_signer_has_left_out_is_not_signed(tmp_path: Path) -> None:
    """The library passes over the paths that a bundle lists as ignored; weights would be free then."""
    model = folder(tmp_path / "bot", config_json=b"{}", model_safetensors=b"weights")
    key = folder(tmp_path / "keys", key_pem=private_pem(KEY), a_pub=public_pem(KEY))
    left_out = hashing.Config().set_ignored_paths(paths=["model.safetensors"])
    bundle = tmp_path / "bot.sig"
    signer = signing.Config().use_elliptic_key_signer(private_key=key / "key.pem")
    signer.set_hashing_config(left_out).sign(model, bundle)
    theirs = verifying.Config().use_elliptic_key_verifier(public_key=key / "a.pub")
    theirs.verify(model, bundle)
    found = refused(bundle.read_bytes(), Trust.load(key), files=hashes_of(model))
    assert found == (
        FailureReason.SIGNATURE_INVALID,
        "model.safetensors is not covered by the signature",
    )


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda bundle: bundle[: len(bundle) // 2],
    "empty": lambda _: b"",
    "no bundle": lambda _: b"[]",
    "no text": lambda _: b"\xff\xfe\x00",
    "without a payload": lambda bundle: bundle.replace(b"payload", b"nothing"),
    "without a signer": lambda bundle: bundle.replace(b"publicKey", b"nothing"),
    "about an image": lambda bundle: _with_statement(bundle, predicateType="https://slsa.dev/v1"),
    "over shards": lambda bundle: _with_statement(
        bundle, predicate={"serialization": {"method": "shards", "hash_type": "sha256"}}
    ),
}


def _with_statement(bundle: bytes, **changes: Any) -> bytes:
    wire = json.loads(bundle)
    statement = json.loads(base64.b64decode(wire["dsseEnvelope"]["payload"])) | changes
    wire["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(wire).encode()


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_bundle_is_invalid(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    trust = trusting(tmp_path, a_pub=public_pem(KEY))
    bundle = broken(key_signed(tmp_path, KEY, FILES, REPORT))
    assert refused(bundle, trust)[0] is FailureReason.SIGNATURE_INVALID


def test_a_trusted_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    trust = trusting(tmp_path, a_pub=b"-----BEGIN", b_crt=b"nothing", README=b"for people")
    says = refused(key_signed(tmp_path, KEY, FILES), trust)[1]
    assert "a.pub is no PEM that can be read" in says
    assert "b.crt" in says
    assert "README" not in says


def test_a_missing_folder_of_trust_trusts_nobody(tmp_path: Path) -> None:
    reason, says = refused(key_signed(tmp_path, KEY, FILES), Trust.load(tmp_path / "nothing"))
    assert (reason, "0 keys" in says) == (FailureReason.SIGNER_UNKNOWN, True)


# --- certificates -------------------------------------------------------------------------------

AUTHORITY = new_key()
CA = certificate("Release CA", AUTHORITY)
LEAF = certificate("release@example.com", KEY, ("Release CA", AUTHORITY))


def test_a_certificate_proves_as_its_authority_is_trusted(tmp_path: Path) -> None:
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    proof = verify(bundle, FILES, REPORT, trusting(tmp_path, ca_crt=CA), NOW)
    assert proof.signer == "CN=release@example.com"


@pytest.mark.parametrize(
    ("allowed", "is_believed"),
    [
        pytest.param([], True, id="nobody named: everybody whom the authority vouches for"),
        pytest.param(["CN=release@example.com"], True, id="named"),
        pytest.param(["CN=other", "CN=release\\40example.com"], True, id="named, and escaped"),
        pytest.param(["CN=release@example.com.evil"], False, id="a longer name"),
        pytest.param(["O=release@example.com"], False, id="another attribute"),
        pytest.param(["CN=release@example.com,O=Example"], False, id="more than it says"),
        pytest.param(["no subject"], False, id="what is no subject"),
    ],
)
def test_whose_certificates_count(tmp_path: Path, allowed: list[str], is_believed: bool) -> None:
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    trust = replace(trusting(tmp_path, ca_crt=CA), subjects=tuple(allowed))
    if is_believed:
        assert verify(bundle, FILES, REPORT, trust, NOW).signer == "CN=release@example.com"
        return
    reason, says = refused(bundle, trust)
    assert reason is FailureReason.SIGNER_UNKNOWN
    assert "CN=release@example.com is not among certificateSubjects" in says
    assert ("no subject is no subject in the form of RFC 4514" in says) == ("no subject" in allowed)


def test_a_named_subject_is_nothing_without_an_authority(tmp_path: Path) -> None:
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    other = trusting(tmp_path, ca_crt=certificate("Release CA", new_key()))
    trust = replace(other, subjects=("CN=release@example.com",))
    assert refused(bundle, trust)[0] is FailureReason.SIGNER_UNKNOWN


def test_subjects_are_about_certificates_alone(tmp_path: Path) -> None:
    trust = replace(trusting(tmp_path, a_pub=public_pem(KEY)), subjects=("CN=release",))
    assert verify(key_signed(tmp_path, KEY, FILES), FILES, REPORT, trust, NOW).signer


def test_a_certificate_of_another_authority_is_nobodys(tmp_path: Path) -> None:
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    other = certificate("Release CA", new_key())
    reason, says = refused(bundle, trusting(tmp_path, ca_crt=other))
    assert (reason, "CN=release@example.com" in says) == (FailureReason.SIGNER_UNKNOWN, True)


def test_a_certificate_is_nobodys_where_only_keys_are_trusted(tmp_path: Path) -> None:
    """The operating system's authorities are no signers of models."""
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    trust = trusting(tmp_path, a_pub=public_pem(KEY))
    assert refused(bundle, trust)[0] is FailureReason.SIGNER_UNKNOWN


def test_a_certificate_that_has_ended_since_proves_nothing(tmp_path: Path) -> None:
    leaf = certificate("r", KEY, ("Release CA", AUTHORITY), ends=NOW + timedelta(days=1))
    bundle = certificate_signed(tmp_path, KEY, leaf, FILES)
    trust = trusting(tmp_path, ca_crt=CA)
    assert verify(bundle, FILES, REPORT, trust, NOW).signer == "CN=r"
    reason, says = refused(bundle, trust, now=NOW + timedelta(days=2))
    assert (reason, "ended on 2026-06-02" in says) == (FailureReason.SIGNATURE_INVALID, True)
    assert refused(bundle, trust, now=NOW - 2 * YEAR)[0] is FailureReason.SIGNATURE_INVALID


def test_weights_that_a_certificate_has_not_signed_are_named(tmp_path: Path) -> None:
    bundle = certificate_signed(tmp_path, KEY, LEAF, FILES)
    files = FILES | {"adapter_model.safetensors": "00" * 32}
    found = refused(bundle, trusting(tmp_path, ca_crt=CA), files=files)
    assert found == (
        FailureReason.SIGNATURE_INVALID,
        "adapter_model.safetensors is not what was signed",
    )


# --- what a Secret may hold ---------------------------------------------------------------------

PEM = private_pem(KEY)
RSA = private_pem(rsa.generate_private_key(65537, 2048))
ENDED = certificate("r", KEY, ("Release CA", AUTHORITY), ends=NOW - timedelta(days=1))
SECRETS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "nothing": ({}, "SigningKeyMissing", "there is no Secret signer"),
    "no key": ({"other": b"x"}, "SigningKeyMissing", "has no entry key.pem"),
    "no certificate": ({"key_pem": PEM}, "SigningKeyMissing", "has no entry certificate.pem"),
    "no PEM": ({"key_pem": b"x"}, "SigningKeyUnusable", "no PEM key that can be read"),
    "an RSA key": ({"key_pem": RSA}, "SigningKeyUnusable", "no ECDSA key"),
    "an encrypted key without its password": (
        {"key_pem": private_pem(KEY, b"right")},
        "SigningKeyUnusable",
        "add its password",
    ),
    "a wrong password": (
        {"key_pem": private_pem(KEY, b"right"), "password": b"wrong"},
        "SigningKeyUnusable",
        "is password the right one",
    ),
    "a password too many": (
        {"key_pem": PEM, "password": b"x"},
        "SigningKeyUnusable",
        "remove password",
    ),
    "another key's certificate": (
        {
            "key_pem": PEM,
            "certificate_pem": certificate("r", OTHER, ("Release CA", AUTHORITY)),
        },
        "SigningKeyUnusable",
        "belongs to another key",
    ),
    "a certificate that has ended": (
        {"key_pem": PEM, "certificate_pem": ENDED},
        "SigningKeyUnusable",
        "renew it",
    ),
    "a server's certificate": (
        {
            "key_pem": PEM,
            "certificate_pem": certificate("r", KEY, ("Release CA", AUTHORITY), may_sign=False),
        },
        "SigningKeyUnusable",
        "may not sign",
    ),
}


@pytest.mark.parametrize("case", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_of_no_use_is_told_by_its_entry(
    tmp_path: Path, case: tuple[dict[str, bytes], str, str]
) -> None:
    entries, reason, says = case
    secret = folder(tmp_path / "secret", **entries)
    identity = Identity(SigningMethod.CERTIFICATE, secret, "signer")
    with pytest.raises(RunError) as fault:
        sign("bot", FILES, identity, NOW)
    assert fault.value.reason == reason
    assert says in fault.value.message


def test_an_encrypted_key_signs_with_its_password(tmp_path: Path) -> None:
    secret = folder(tmp_path / "s", key_pem=private_pem(KEY, b"right"), password=b"right\n")
    bundle, signer = sign("bot", FILES, Identity(SigningMethod.KEY, secret, "signer"), NOW)
    proof = verify(bundle, FILES, REPORT, trusting(tmp_path, a_pub=public_pem(KEY)), NOW)
    assert proof.signer == signer == key_identity(public_pem(KEY))
