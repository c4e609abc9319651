"""Addresses of artifacts."""

import re
from dataclasses import dataclass, replace

from trimtab_oci.errors import InvalidReference

SCHEME = "oci://"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")


@dataclass(frozen=True)
class Reference:
    """A registry, a repository in it, and optionally a tag or a digest (which wins)."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read `[oci://]host[:port]/path[:tag][@sha256:...]`."""
        rest, at, digest = text.removeprefix(SCHEME).partition("@")
        registry, slash, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        if not slash or not _HOST.fullmatch(registry) or not _REPOSITORY.fullmatch(repository):
            raise InvalidReference(
                f"{text!r} is not of the form oci://registry/name, lower case, with a tag or digest"
            )
        if colon and not _TAG.fullmatch(tag):
            raise InvalidReference(f"{text!r} has no valid tag after ':'")
        if at and not DIGEST.fullmatch(digest):
            raise InvalidReference(f"{text!r} has no digest of the form sha256:<64 hex> after '@'")
        return cls(registry, repository, tag or None, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository, without scheme, tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def identifier(self) -> str:
        """What the registry's API is asked for."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> "Reference":
        """The same repository at a digest."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> "Reference":
        """The same repository at a tag."""
        if not _TAG.fullmatch(tag):
            raise InvalidReference(f"{tag!r} is not a valid tag")
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.name}{tag}{digest}"
