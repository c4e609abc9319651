"""Signatures over a version: who makes them, and whom a service trusts."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.rules import exactly_one
from trimtab_api.v1alpha1.common import NamedReference, SecretReference


class SigningKey(SecretReference):
    """A Secret with `key.pem`, an ECDSA key on P-256, P-384 or P-521, and `password` if it is encrypted."""


class SigningCertificate(SecretReference):
    """A Secret with `key.pem`, `certificate.pem`, `chain.pem` for intermediates, and `password` if the key is encrypted."""


class SigstoreIdentity(ApiModel):
    """The pod's own service account (`default`) as an identity that Sigstore certifies."""

    trust: Annotated[
        NamedReference,
        Field(
            description="ConfigMap of this namespace with trust-config.json, a Sigstore client trust configuration: "
            "where Fulcio and Rekor are, and whom to believe them."
        ),
    ]
    audience: Annotated[
        str,
        Field(
            min_length=1,
            max_length=256,
            description="Audience of the service account's token; what Fulcio expects.",
        ),
    ] = "sigstore"


class ExistingSignature(ApiModel):
    """A signature that somebody has made elsewhere and attached to the artifact."""

    trust: Annotated[
        NamedReference,
        Field(
            description="ConfigMap of this namespace with the signers that are trusted: public keys as *.pub, "
            "CA certificates as *.crt, both PEM; for Sigstore trust-config.json and identities.json."
        ),
    ]


class Signing(ApiModel):
    """How artifact and evaluation report are signed (OpenSSF model signing)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "key",
            "certificate",
            "sigstore",
            "existing",
            what="signing",
            remedy="name what to sign with, or with existing the signers to trust",
        ),
    )

    key: Annotated[SigningKey | None, Field(description="Sign with a key.")] = None
    certificate: Annotated[
        SigningCertificate | None, Field(description="Sign with a key and its certificate.")
    ] = None
    sigstore: Annotated[
        SigstoreIdentity | None,
        Field(description="Sign without a key, as the namespace's service account, by Sigstore."),
    ] = None
    existing: Annotated[
        ExistingSignature | None,
        Field(description="Sign nothing: the signature is attached already, and is verified."),
    ] = None


class SignatureStatus(ApiModel):
    """The signature that was made or found."""

    bundle: Annotated[
        str, Field(max_length=1024, description="The Sigstore bundle in the registry.")
    ]
    signer: Annotated[
        str,
        Field(
            max_length=512,
            description="Who signed: the SHA-256 of a public key, the subject of a certificate, or an identity and its issuer.",
        ),
    ]
    report: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="The evaluation report that is signed too; empty where the signature covers the files alone.",
        ),
    ] = None
    requested: Annotated[
        str | None,
        Field(max_length=253, description="The last request to sign again that was served."),
    ] = None


CertificateSubject = Annotated[
    str,
    Field(
        min_length=3,
        max_length=512,
        pattern=r"^[A-Za-z0-9.]+=[^,]",
        description="Subject of a certificate.",
    ),
]


class SignedParts(StrEnum):
    """What has to be signed."""

    ADAPTERS = "Adapters"
    ADAPTERS_AND_BASE = "AdaptersAndBase"


class SignaturePolicy(ApiModel):
    """What engines demand of a version before they load it."""

    trust: Annotated[
        NamedReference,
        Field(
            description="ConfigMap of this namespace with the signers that are trusted: public keys as *.pub, "
            "CA certificates as *.crt, both PEM; for Sigstore trust-config.json and identities.json. A change counts "
            "from the next load on."
        ),
    ]
    certificate_subjects: Annotated[
        list[CertificateSubject],
        Field(
            max_length=32,
            description="Subjects whose certificates count, as RFC 4514 writes them: CN=release,O=Example. Empty means "
            "every subject that a trusted authority vouches for. Public keys and Sigstore's identities count as before.",
        ),
    ] = Field(default_factory=list)
    covers: Annotated[
        SignedParts,
        Field(
            description="AdaptersAndBase: engines answer nothing before the signature of the base has been verified over "
            "the files that they have mounted. baseModel has to be a ModelVersion then."
        ),
    ] = SignedParts.ADAPTERS
