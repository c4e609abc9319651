"""Signing with an identity instead of a key: Sigstore's Fulcio certifies it, Rekor keeps a record.

The identity is the pod's service account, by a token that is projected for this audience alone. Where
Fulcio and Rekor are, and whom to believe them, says the same file that verifiers read.
"""

from collections.abc import Mapping
from pathlib import Path

from google.protobuf import json_format

# Not among the library's published names, hence the narrow range in pyproject.toml. Its own signer
# asks the issuer for a page that only interactive logins need, and that a cluster does not have.
from model_signing._signing.signing import Payload
from requests import RequestException
from sigstore import dsse
from sigstore.errors import Error
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityError, IdentityToken
from sigstore.sign import SigningContext

from trimtab_api.reasons import FailureReason
from trimtab_oci.signatures import TRUST_CONFIG, KnownFiles
from trimtab_pipelines.runtime import RunError


def sign_as(
    model: str, hashes: Mapping[str, str], token: Path, trust: Path, source: str, audience: str
) -> tuple[bytes, str]:
    """The bundle over files of which the hashes are known, and the identity that signed."""
    context = SigningContext.from_trust_config(_configuration(trust, source))
    try:
        identity = IdentityToken(token.read_text().strip(), audience)
    except (OSError, IdentityError) as fault:
        raise RunError(
            FailureReason.SIGNING_KEY_UNUSABLE,
            f"the service account's token for audience {audience} is of no use: {fault}",
        ) from fault
    payload = Payload(KnownFiles(model, hashes).hash(model))
    statement = dsse.Statement(json_format.MessageToJson(payload.statement.pb).encode())
    try:
        with context.signer(identity) as signer:
            bundle = signer.sign_dsse(statement)
    except RequestException as fault:
        raise RunError(
            FailureReason.SOURCE_UNREACHABLE, f"Sigstore does not answer: {fault}"
        ) from fault
    except Exception as fault:  # its clients raise classes of their own that they do not publish
        raise RunError(
            FailureReason.SIGNING_KEY_UNUSABLE, f"Sigstore has not signed: {_told(fault)}"
        ) from fault
    return bundle.to_json().encode(), f"{identity.identity} (by {identity.issuer})"


def _configuration(trust: Path, source: str) -> ClientTrustConfig:
    file = trust / TRUST_CONFIG
    try:
        return ClientTrustConfig.from_json(file.read_text())
    except FileNotFoundError as fault:
        raise RunError(
            FailureReason.SIGNING_KEY_MISSING,
            f"ConfigMap {source} is not there or has no entry {TRUST_CONFIG}, a Sigstore client trust "
            "configuration; create it, and set the annotation trimtab.dev/retry of the ModelVersion to a new value",
        ) from fault
    except (ValueError, Error) as fault:
        raise RunError(
            FailureReason.SIGNING_KEY_UNUSABLE,
            f"{TRUST_CONFIG} of ConfigMap {source} is no Sigstore client trust configuration",
        ) from fault


def _told(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
