"""What can go wrong with a registry, in the order in which a caller cares.

* RegistryError
  + RegistryUnreachable    network, TLS or server trouble; trying again later can help
  + RegistryForbidden      credentials are missing or not accepted
  + NotFound               no such repository, manifest or blob
  + DigestMismatch         the bytes are not what their digest says
  + InvalidReference       an address that cannot be read
  + UnsafeArtifact         an artifact that must not be unpacked
    - UnsupportedArtifact  an artifact of a form that Trimtab does not know

The library's own exception is always the cause.
"""


class RegistryError(Exception):
    """Base of all; itself raised only for answers that fit nothing else."""


class RegistryUnreachable(RegistryError):
    """Network, TLS or server trouble, after all tries."""


class RegistryForbidden(RegistryError):
    """Credentials are missing or not accepted."""


class NotFound(RegistryError):
    """No such repository, manifest or blob."""


class DigestMismatch(RegistryError):
    """The bytes are not what their digest says."""


class InvalidReference(RegistryError, ValueError):
    """An address that cannot be read."""


class UnsafeArtifact(RegistryError):
    """An artifact that must not be unpacked: links, devices, paths that leave the directory."""


class UnsupportedArtifact(UnsafeArtifact):
    """An artifact of a form that Trimtab does not know."""
