"""Signatures over an artifact's files and its report: OpenSSF model signing, in a Sigstore bundle.

Signing and serving programs verify through here, so that both mean the same by "signed". The
library judges the signature. That it covers every file is held against hashes that the caller has
taken itself, since a bundle may list paths that it leaves out. Nothing is asked of a network: who
is trusted lies in a folder. The library takes a second to import and is no part of every image:
whoever needs this module imports it late.
"""

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from model_signing import hashing, manifest, verifying

# Not among the library's published names, hence the narrow range in pyproject.toml.
from model_signing._hashing.hashing import Digest
from OpenSSL.crypto import X509StoreContextError

from trimtab_api.reasons import FailureReason

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE: Final = "https://model_signing/signature/v1.0"
# As other tools mark what a bundle in a registry is about.
ANNOTATIONS: Final = {
    "dev.sigstore.bundle.content": "dsse-envelope",
    "dev.sigstore.bundle.predicateType": PREDICATE,
}
# Sigstore, among the files of trust: its client trust configuration, and who is known to it.
TRUST_CONFIG: Final = "trust-config.json"
IDENTITIES: Final = "identities.json"
OIDC_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
# The report's name among the files that are signed.
REPORT_NAME: Final = "evaluation-report.json"
NAMED_AT_MOST: Final = 3


class SignatureFault(Exception):
    """A signature that proves nothing; the reason says to whom it matters."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Proof:
    """What a good signature proves."""

    signer: str
    is_report_covered: bool


@dataclass(frozen=True)
class Identity:
    """Somebody whom Sigstore knows: a subject alternative name, and who vouches for it."""

    identity: str
    issuer: str


@dataclass(frozen=True)
class Trust:
    """Whose signatures count. `problems` are files that could not be read, for the message."""

    keys: Mapping[str, Path]
    authorities: tuple[Path, ...]
    identities: tuple[Identity, ...] = ()
    sigstore: Path | None = None
    # Whose certificates count; everybody's whom an authority vouches for, where nobody is named.
    subjects: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def load(cls, directory: Path, subjects: Iterable[str] = ()) -> "Trust":
        """Public keys are *.pub, CA certificates *.crt, both PEM; Sigstore has two files of its own."""
        keys: dict[str, Path] = {}
        authorities: list[Path] = []
        identities: tuple[Identity, ...] = ()
        problems: list[str] = []
        for file in sorted(directory.glob("*")) if directory.is_dir() else ():
            try:
                if file.suffix == ".pub":
                    keys[key_identity(file.read_bytes())] = file
                elif file.suffix == ".crt" and x509.load_pem_x509_certificates(file.read_bytes()):
                    authorities.append(file)
                elif file.name == IDENTITIES:
                    known = json.loads(file.read_bytes())
                    identities = tuple(
                        Identity(str(i["identity"]), str(i["issuer"])) for i in known
                    )
            except (ValueError, TypeError, KeyError, OSError):
                form = "list of identity and issuer" if file.name == IDENTITIES else "PEM"
                problems.append(f"{file.name} is no {form} that can be read")
        sigstore = directory / TRUST_CONFIG
        found = sigstore if sigstore.is_file() else None
        return cls(keys, tuple(authorities), identities, found, tuple(subjects), tuple(problems))

    def unknown(self, who: str) -> SignatureFault:
        """The fault of a signer that nobody has named."""
        known = (
            f"{len(self.keys)} keys, {len(self.authorities)} CA certificates and "
            f"{len(self.identities)} identities are trusted"
        )
        said = "; ".join([f"{who} is not trusted", known, *self.problems])
        return SignatureFault(FailureReason.SIGNER_UNKNOWN, said)


@dataclass(frozen=True)
class _Bundle:
    """A bundle as it describes itself; nothing of it is believed yet."""

    files: Mapping[str, str]
    key: str | None
    certificates: tuple[x509.Certificate, ...]
    is_keyless: bool


def key_identity(public_key_pem: bytes) -> str:
    """How bundles name a public key: the SHA-256 of its PEM form."""
    key = load_pem_public_key(public_key_pem)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def verify(
    bundle: bytes, files: Mapping[str, str], report: str, trust: Trust, now: datetime
) -> Proof:
    """What the bundle proves about files and report, all as SHA-256; SignatureFault if nothing.

    A signature may cover the files alone, since a model can be signed before it is evaluated here.
    One that covers a report must be about this very report.
    """
    said = _read(bundle)
    is_report_covered = REPORT_NAME in said.files
    actual = {**files, **({REPORT_NAME: report} if is_report_covered else {})}
    files_known = KnownFiles("", actual)
    if said.key is not None:
        who, verifier = _by_key(said.key, trust)
        signer = said.key
    elif said.is_keyless:
        signer, verifier = _by_identity(said.certificates[0], trust)
        who = signer
    else:
        signer = said.certificates[0].subject.rfc4514_string()
        who = f"the certificate of {signer}"
        _check_subject(said.certificates[0].subject, trust)
        _check_dates(said.certificates, now)
        verifier = _by_authority(who, trust)
    _judge(verifier.set_hashing_config(files_known), bundle, trust, who, said.files, actual)
    return Proof(signer, is_report_covered)


def _by_key(key: str, trust: Trust) -> tuple[str, verifying.Config]:
    who = f"the key {key[:16]}"
    if key not in trust.keys:
        raise trust.unknown(who)
    return who, verifying.Config().use_elliptic_key_verifier(public_key=trust.keys[key])


def _by_authority(who: str, trust: Trust) -> verifying.Config:
    # With an empty list the library would trust whatever the operating system does.
    if not trust.authorities:
        raise trust.unknown(who)
    return verifying.Config().use_certificate_verifier(certificate_chain=trust.authorities)


def _check_subject(subject: x509.Name, trust: Trust) -> None:
    """Names are compared, not texts: blanks and escapes may be written in more than one way."""
    if not trust.subjects:
        return
    unreadable: list[str] = []
    for text in trust.subjects:
        try:
            if x509.Name.from_rfc4514_string(text) == subject:
                return
        except ValueError:
            unreadable.append(f"{text} is no subject in the form of RFC 4514")
    said = f"the certificate of {subject.rfc4514_string()} is not among certificateSubjects"
    raise SignatureFault(FailureReason.SIGNER_UNKNOWN, "; ".join([said, *unreadable])[:1024])


def _by_identity(certificate: x509.Certificate, trust: Trust) -> tuple[str, verifying.Config]:
    """Sigstore's certificates live for minutes; its log says that they lived when they were used."""
    names, issuer = _alternative_names(certificate), _issuer(certificate)
    who = f"{' '.join(sorted(names)) or 'nobody'} (by {issuer})"
    known = [i for i in trust.identities if i.identity in names and i.issuer == issuer]
    if not known or trust.sigstore is None:
        raise trust.unknown(who)
    verifier = verifying.Config().use_sigstore_verifier(
        identity=known[0].identity, oidc_issuer=known[0].issuer, trust_config=trust.sigstore
    )
    return who, verifier


def _alternative_names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    kinds = (x509.RFC822Name, x509.UniformResourceIdentifier)
    return {name for kind in kinds for name in found.get_values_for_type(kind)}


def _issuer(certificate: x509.Certificate) -> str:
    for extension in certificate.extensions:
        if extension.oid == OIDC_ISSUER and isinstance(extension.value, x509.UnrecognizedExtension):
            return extension.value.value.decode(errors="replace")
    return ""


def check_readable(bundle: bytes) -> None:
    """SignatureFault unless it is a bundle that `verify` could judge."""
    _read(bundle)


class KnownFiles(hashing.Config):  # type: ignore[misc] # the library publishes no types
    """Hashes that are known stand for files on disk; nothing of them is ever ignored."""

    def __init__(self, model: str, hashes: Mapping[str, str]) -> None:
        super().__init__()
        self._model = model
        self._hashes = hashes

    def add_ignored_paths(self, **_: object) -> None:
        """A file that the signer left out is a file that is not signed."""

    def hash(self, model_path: object, *, files_to_hash: object = None) -> manifest.Manifest:
        """The manifest of what is there; the parameters have the library's names."""
        del model_path, files_to_hash
        items = [
            manifest.FileManifestItem(path=Path(name), digest=Digest("sha256", bytes.fromhex(hex_)))
            for name, hex_ in self._hashes.items()
        ]
        how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        kind = manifest.SerializationType.from_args(how)
        return manifest.Manifest(self._model, items, kind)


def _judge(
    verifier: verifying.Config,
    bundle: bytes,
    trust: Trust,
    who: str,
    signed: Mapping[str, str],
    actual: Mapping[str, str],
) -> None:
    with tempfile.TemporaryDirectory(prefix="signature-") as folder:
        file = Path(folder) / "bundle.json"
        file.write_bytes(bundle)
        try:
            verifier.verify(Path(folder), file)
        except X509StoreContextError as fault:
            raise trust.unknown(f"{who} ({fault})") from fault
        except InvalidSignature as fault:
            raise _invalid(f"{who} has not made this signature") from fault
        except Exception as fault:  # whatever makes the library fail is no signature
            found = _difference(signed, actual) or f"the signature cannot be verified: {fault}"
            raise _invalid(found[:512]) from fault


def _difference(signed: Mapping[str, str], actual: Mapping[str, str]) -> str | None:
    changed = [name for name in signed.keys() & actual.keys() if signed[name] != actual[name]]
    if changed:
        return f"{_listed(changed)} is not what was signed"
    if added := actual.keys() - signed.keys():
        return f"{_listed(added)} is not covered by the signature"
    if missing := signed.keys() - actual.keys():
        return f"{_listed(missing)} was signed and is not there"
    return None


def _check_dates(certificates: Iterable[x509.Certificate], now: datetime) -> None:
    """The library takes a certificate to be as old as its signature; without a timestamp nobody knows."""
    for each in certificates:
        who = each.subject.rfc4514_string()
        if now > each.not_valid_after_utc:
            ended = each.not_valid_after_utc.date().isoformat()
            raise _invalid(f"the certificate of {who} ended on {ended}; sign again with a new one")
        if now < each.not_valid_before_utc:
            begins = each.not_valid_before_utc.date().isoformat()
            raise _invalid(f"the certificate of {who} is not valid before {begins}")


def _read(bundle: bytes) -> _Bundle:
    try:
        wire = json.loads(bundle)
        material = wire["verificationMaterial"]
        statement = json.loads(base64.b64decode(wire["dsseEnvelope"]["payload"], validate=True))
        if statement["predicateType"] != PREDICATE:
            raise _invalid(f"it is about {statement['predicateType']}, not a signature of a model")
        predicate = statement["predicate"]
        how = predicate["serialization"]
        if (how["method"], how["hash_type"]) != ("files", "sha256"):
            raise _invalid(
                f"it covers {how['method']} by {how['hash_type']}; sign whole files by sha256"
            )
        files = {str(each["name"]): str(each["digest"]) for each in predicate["resources"]}
        key = material.get("publicKey", {}).get("hint")
        chain = material.get("x509CertificateChain", {}).get("certificates", [])
        keyless = material.get("certificate")
        certificates = tuple(
            x509.load_der_x509_certificate(base64.b64decode(each["rawBytes"]))
            for each in ([keyless] if keyless else chain)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _invalid("the bundle is cut off or no Sigstore bundle") from fault
    if not (key or certificates):
        raise _invalid("it names neither a key nor a certificate")
    return _Bundle(files, str(key) if key else None, certificates, bool(keyless))


def _invalid(message: str) -> SignatureFault:
    return SignatureFault(FailureReason.SIGNATURE_INVALID, message)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - NAMED_AT_MOST
    return ", ".join(ordered[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
