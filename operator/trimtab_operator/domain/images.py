"""Which image a pod really runs, in a form that later pods can be given.

A tag may move; what a node has found under it does not. A node names an image that it has pulled
as `repository@sha256:...`, and that name is good anywhere. One that was put into the node by hand
it knows by a bare digest, or under a name of its own: no registry answers to that, so that pods go
on with the configured reference, and the digest is kept for the record.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_operator.domain.manifests import Manifest, get

# Container runtimes put a scheme before it (docker-pullable://) or leave out the algorithm.
_IMAGE_ID: Final = re.compile(
    r"^(?:[a-z-]+://)?(?:(?P<repository>[^@\s]+)@)?(?:sha256:)?(?P<digest>[0-9a-f]{64})$"
)
_DOCKER_HUB: Final = "docker.io"


@dataclass(frozen=True)
class Image:
    """`reference` is what pods are given, `digest` what a node has found under it."""

    reference: str
    digest: str | None = None

    @classmethod
    def of(cls, reference: str) -> "Image":
        """An image as far as its reference tells."""
        _, _, digest = reference.partition("@")
        return cls(reference, digest or None)

    @property
    def is_fixed(self) -> bool:
        """Whether the reference can only ever mean one image."""
        return "@" in self.reference


def observed(image: Image, pods: Sequence[Manifest], containers: Collection[str]) -> Image:
    """The image after a look at pods that were given its reference, the youngest first.

    Only these containers count: others may be somebody else's sidecars.
    """
    if image.is_fixed:
        return image
    found = next((f for p in pods for f in _found(p, containers)), None)
    if found is None:
        return image
    repository, digest = found
    if repository == _repository(image.reference):
        return Image(f"{repository}@{digest}", digest)
    return Image(image.reference, digest)


def _found(pod: Manifest, containers: Collection[str]) -> Iterator[tuple[str | None, str]]:
    for part in ("containerStatuses", "initContainerStatuses"):
        for status in get(pod, "status", part, default=[]):
            said = _IMAGE_ID.match(status.get("imageID") or "")
            if said and status.get("name") in containers:
                yield said["repository"], f"sha256:{said['digest']}"


def _repository(reference: str) -> str:
    """The full name without tag, as nodes write it: trimtab/x:dev is docker.io/trimtab/x."""
    folder, slash, name = reference.rpartition("/")
    path = folder + slash + name.partition(":")[0]
    host = path.partition("/")[0]
    if not slash:
        return f"{_DOCKER_HUB}/library/{path}"
    is_host = "." in host or ":" in host or host == "localhost"
    return path if is_host else f"{_DOCKER_HUB}/{path}"
