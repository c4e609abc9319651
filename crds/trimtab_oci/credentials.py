"""Credentials as Docker and Kubernetes store them.

Only what is written in the file is used: credential helpers are programs, and our images have none.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trimtab_oci.errors import RegistryForbidden

FILE_NAMES = (".dockerconfigjson", "config.json")
# Docker Hub's entry is filed under this address, whatever host is asked.
_HUB_KEYS = ("index.docker.io/v1", "index.docker.io", "docker.io")
_HUB_HOSTS = {"docker.io", "index.docker.io", "registry-1.docker.io"}


@dataclass(frozen=True)
class Credentials:
    """A user and a password or token; neither shows in a log."""

    username: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class DockerConfig:
    """The `auths` of a Docker config.json; keys are hosts, or hosts with the beginning of a path."""

    entries: Mapping[str, Credentials] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str | None) -> "DockerConfig":
        """Read a file, or a directory that holds one (a mounted Secret). What is not there is empty."""
        if path is None:
            return cls()
        place = Path(path)
        files = [place / name for name in FILE_NAMES] if place.is_dir() else [place]
        for file in files:
            if file.is_file():
                return cls.parse(file.read_text(encoding="utf-8"), str(file))
        return cls()

    @classmethod
    def parse(cls, text: str, origin: str = "credentials") -> "DockerConfig":
        """Read the JSON form."""
        try:
            auths = json.loads(text).get("auths", {})
            return cls(
                {_key(name): entry for name, value in auths.items() if (entry := _entry(value))}
            )
        except (ValueError, AttributeError, binascii.Error) as error:
            # The text may hold a password: say where, never what.
            raise RegistryForbidden(f"{origin} is not a Docker config.json") from error

    def for_repository(self, registry: str, repository: str) -> Credentials | None:
        """The entry with the longest matching key."""
        wanted = f"{registry}/{repository}"
        candidates = [
            wanted[:end] for end in range(len(wanted), 0, -1) if wanted[end : end + 1] in {"", "/"}
        ]
        if registry in _HUB_HOSTS:
            candidates += _HUB_KEYS
        return next((self.entries[c] for c in candidates if c in self.entries), None)


def _key(name: str) -> str:
    bare = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    if bare == "index.docker.io/v1":
        return bare
    return bare.removesuffix("/v1").removesuffix("/v2")


def _entry(value: Mapping[str, str]) -> Credentials | None:
    if auth := value.get("auth"):
        username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        return Credentials(username, password)
    if "username" in value and "password" in value:
        return Credentials(value["username"], value["password"])
    return None
