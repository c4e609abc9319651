"""Artifacts in an OCI registry: their format, and an asynchronous client.

Every program pushes and pulls through here, so that equal content has one digest whoever writes it
and every reader verifies what it reads. Big files go through in chunks and never as a whole.
"""

from trimtab_oci.client import RegistryClient
from trimtab_oci.credentials import Credentials, DockerConfig
from trimtab_oci.errors import (
    DigestMismatch,
    InvalidReference,
    NotFound,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
    UnsafeArtifact,
    UnsupportedArtifact,
)
from trimtab_oci.format import (
    ANNOTATION_BASE,
    ANNOTATION_FILE,
    ANNOTATION_KIND,
    ANNOTATION_RANK,
    Descriptor,
    Manifest,
)
from trimtab_oci.reference import Reference

__all__ = [
    "ANNOTATION_BASE",
    "ANNOTATION_FILE",
    "ANNOTATION_KIND",
    "ANNOTATION_RANK",
    "Credentials",
    "Descriptor",
    "DigestMismatch",
    "DockerConfig",
    "InvalidReference",
    "Manifest",
    "NotFound",
    "Reference",
    "RegistryClient",
    "RegistryError",
    "RegistryForbidden",
    "RegistryUnreachable",
    "UnsafeArtifact",
    "UnsupportedArtifact",
]
