"""Signing: the task of a pod that signs a version, or verifies a signature that is there."""

from enum import StrEnum

from trimtab_api.documents.common import Mounted, Output, Owner, RunFailure, Stored
from trimtab_api.model import ApiModel
from trimtab_api.v1alpha1.modelversion import ArtifactKind


class SigningMethod(StrEnum):
    """With what is signed; EXISTING signs nothing and verifies what is attached."""

    KEY = "Key"
    CERTIFICATE = "Certificate"
    SIGSTORE = "Sigstore"
    EXISTING = "Existing"


class SigningRun(ApiModel):
    """The task of a signing pod.

    Key and certificate are mounted at `names.SIGNING_CREDENTIALS_PATH`, and so is the identity's
    token (`names.IDENTITY_TOKEN`). Trusted signers and Sigstore's configuration are at
    `names.TRUST_PATH`. A full version is mounted; an adapter is fetched.
    """

    owner: Owner
    model: str
    kind: ArtifactKind
    artifact: Stored
    mounted: Mounted | None = None
    report: Stored
    method: SigningMethod
    source: str
    audience: str | None = None
    output: Output


class SigningResult(ApiModel):
    """The bundle and who made it; or a failure."""

    bundle_uri: str | None = None
    signer: str | None = None
    is_report_covered: bool = False
    failure: RunFailure | None = None
