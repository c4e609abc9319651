"""Keys and certificates of a test's own, in the form of mounted Secrets and ConfigMaps."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trimtab_api.documents import SigningMethod
from trimtab_oci.signatures import REPORT_NAME
from trimtab_pipelines.signing.signer import Identity, sign

NOW = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: Key | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate(
    subject: str,
    key: Key,
    issuer: tuple[str, Key] | None = None,
    *,
    begins: datetime = NOW - YEAR,
    ends: datetime = NOW + 20 * YEAR,
    may_sign: bool = True,
) -> bytes:
    """A certificate as PEM; without an issuer it is a CA's own."""
    by, signs = issuer or (subject, key)
    usages = [ExtendedKeyUsageOID.CODE_SIGNING if may_sign else ExtendedKeyUsageOID.SERVER_AUTH]
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        made = made.add_extension(_usage(signature=may_sign), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return made.sign(signs, hashes.SHA256()).public_bytes(Encoding.PEM)


def folder(place: Path, **entries: bytes) -> Path:
    """Entries as the kubelet mounts them; `_` stands for the dot of a name."""
    place.mkdir(parents=True, exist_ok=True)
    for name, content in entries.items():
        (place / name.replace("_", ".")).write_bytes(content)
    return place


def key_signed(place: Path, key: Key, files: Mapping[str, str], report: str | None = None) -> bytes:
    """A bundle over these hashes."""
    secret = folder(place / f"secret-{id(key)}", key_pem=private_pem(key))
    covered = {**files, **({REPORT_NAME: report} if report else {})}
    return sign("bot", covered, Identity(SigningMethod.KEY, secret, "signer"), NOW)[0]


def certificate_signed(
    place: Path, key: Key, leaf: bytes, files: Mapping[str, str], now: datetime = NOW
) -> bytes:
    secret = folder(place / f"secret-{id(key)}", key_pem=private_pem(key), certificate_pem=leaf)
    return sign("bot", files, Identity(SigningMethod.CERTIFICATE, secret, "signer"), now)[0]


def _usage(*, signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=not signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
