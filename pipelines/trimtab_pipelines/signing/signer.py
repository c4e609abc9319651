"""Making a signature with what a Secret holds; every fault of the Secret is told by its entry."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from model_signing import signing

from trimtab_api.documents import SigningMethod
from trimtab_api.reasons import FailureReason
from trimtab_oci.signatures import KnownFiles, key_identity
from trimtab_pipelines.runtime import RunError

KEY: Final = "key.pem"
PASSWORD: Final = "password"  # noqa: S105 - the entry's name
CERTIFICATE: Final = "certificate.pem"
CHAIN: Final = "chain.pem"
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_SIGNS_CODE: Final = ExtendedKeyUsageOID.CODE_SIGNING


@dataclass(frozen=True)
class Identity:
    """With what is signed: a mounted Secret, and its name for people."""

    method: SigningMethod
    secret: Path
    source: str


def sign(
    model: str, hashes: Mapping[str, str], identity: Identity, now: datetime
) -> tuple[bytes, str]:
    """The bundle over files of which the hashes are known, and its signer."""
    secret, source = identity.secret, identity.source
    key = _private_key(secret, source)
    config = signing.Config().set_hashing_config(KnownFiles(model, hashes))
    with tempfile.TemporaryDirectory(prefix="signing-") as folder:
        place = Path(folder)
        # In the clear, in the pod's own scratch space: the library takes keys by path, and its
        # passwords in a form that the reader of the key does not accept.
        clear = place / KEY
        clear.touch(mode=0o600)
        clear.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        if identity.method is SigningMethod.KEY:
            config.use_elliptic_key_signer(private_key=clear)
            signer = key_identity(
                key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            )
        else:
            signer = _certified(key, secret, source, now)
            # The library takes no empty chain; a second copy of the certificate adds nothing to it.
            chain = secret / (CHAIN if (secret / CHAIN).is_file() else CERTIFICATE)
            config.use_certificate_signer(
                private_key=clear,
                signing_certificate=secret / CERTIFICATE,
                certificate_chain=[chain],
            )
        bundle = place / "bundle.json"
        config.sign(place, bundle)
        return bundle.read_bytes(), signer


def _private_key(secret: Path, source: str) -> ec.EllipticCurvePrivateKey:
    password = secret / PASSWORD
    given = password.read_bytes().strip() if password.is_file() else None
    try:
        key: Any = load_pem_private_key(_entry(secret, KEY, source), given)
    except TypeError as fault:
        remedy = f"remove {PASSWORD}" if given else f"add its password as {PASSWORD}"
        is_encrypted = "is not encrypted" if given else "is encrypted"
        raise _unusable(f"{KEY} of Secret {source} {is_encrypted}; {remedy}") from fault
    except ValueError as fault:
        why = f"; is {PASSWORD} the right one?" if given else ""
        raise _unusable(f"{KEY} of Secret {source} is no PEM key that can be read{why}") from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise _unusable(
            f"{KEY} of Secret {source} is no ECDSA key on P-256, P-384 or P-521; make one with "
            "`openssl ecparam -name prime256v1 -genkey -noout`"
        )
    return key


def _certified(key: ec.EllipticCurvePrivateKey, secret: Path, source: str, now: datetime) -> str:
    """The certificate's subject; one that no verifier would accept is refused here."""
    try:
        certificate = x509.load_pem_x509_certificate(_entry(secret, CERTIFICATE, source))
    except ValueError as fault:
        raise _unusable(f"{CERTIFICATE} of Secret {source} is no PEM certificate") from fault
    if certificate.public_key() != key.public_key():
        raise _unusable(f"{CERTIFICATE} of Secret {source} belongs to another key than {KEY}")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        raise _unusable(
            f"{CERTIFICATE} of Secret {source} is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d} "
            "and not now; renew it"
        )
    if not _may_sign(certificate):
        raise _unusable(
            f"{CERTIFICATE} of Secret {source} may not sign: it needs the key usage digitalSignature "
            "or the extended one codeSigning"
        )
    return certificate.subject.rfc4514_string()


def _may_sign(certificate: x509.Certificate) -> bool:
    for kind in (x509.KeyUsage, x509.ExtendedKeyUsage):
        try:
            usage = certificate.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            continue
        if isinstance(usage, x509.KeyUsage) and usage.digital_signature:
            return True
        if isinstance(usage, x509.ExtendedKeyUsage) and _SIGNS_CODE in usage:
            return True
    return False


def _entry(secret: Path, name: str, source: str) -> bytes:
    try:
        return (secret / name).read_bytes()
    except FileNotFoundError as fault:
        what = (
            f"Secret {source} has no entry {name}"
            if _has_entries(secret)
            else (f"there is no Secret {source} in this namespace, or it is empty")
        )
        raise RunError(
            FailureReason.SIGNING_KEY_MISSING,
            f"{what}; create it, and set the annotation trimtab.dev/retry of the ModelVersion to a new value",
        ) from fault


def _has_entries(secret: Path) -> bool:
    return secret.is_dir() and any(not p.name.startswith("..") for p in secret.iterdir())


def _unusable(message: str) -> RunError:
    return RunError(FailureReason.SIGNING_KEY_UNUSABLE, message)
