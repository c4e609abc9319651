"""Which version of a model a request goes to: pure, so that shares can be proven.

The table's weights are shares of the requests. A request with a session stays on one version for
as long as the weights stay, and on a version whose weight only grows; the others are spread by
chance. A salt of the table draws anew who falls where, so that no rollout meets the users of the
last one first.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trimtab_api.routing import RoutedModel, RoutedVersion, RoutingTable

POINTS = 2**64


@dataclass(frozen=True, slots=True)
class Route:
    """A public name with the versions that have a share of it.

    Their order is that of their names, whatever the weights: when a share grows, its sessions stay.
    """

    model: str
    versions: tuple[RoutedVersion, ...]
    total: int
    salt: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether versions are being compared here."""
        return bool(self.salt) or len(self.versions) > 1

    @classmethod
    def of(cls, model: RoutedModel) -> "Route":
        weighted = sorted(
            (version for version in model.versions if version.weight > 0),
            key=lambda version: version.version,
        )
        return cls(
            model=model.name,
            versions=tuple(weighted),
            total=sum(version.weight for version in weighted),
            salt=model.salt or "",
        )


def routes_of(table: RoutingTable) -> dict[str, Route]:
    return {model.name: Route.of(model) for model in table.models}


def by_preference(route: Route, point: float) -> Sequence[RoutedVersion]:
    """The versions in the order in which to try them; `point` in [0, 1) chooses the first.

    The others follow because a version that no engine holds right now must not cost its requests
    while another one that has traffic can answer them.
    """
    if len(route.versions) < 2:
        return route.versions
    left = point * route.total
    for index, version in enumerate(route.versions):
        left -= version.weight
        if left < 0:
            return (version, *route.versions[:index], *route.versions[index + 1 :])
    return route.versions


def point_of(route: Route, session: bytes | None, chance: Callable[[], float]) -> float:
    """Where in [0, 1) a request falls: fixed for a session, by chance without one."""
    if session is None:
        return chance()
    return hash_of(route, session) / POINTS


def hash_of(route: Route, session: bytes, purpose: bytes = b"") -> int:
    """A number in [0, 2**64) for a session; numbers for different purposes tell nothing of each other."""
    salted = b"%b\0%b" % (route.salt.encode(), session) if route.salt else session
    digest = hashlib.blake2b(
        salted, digest_size=8, key=route.model.encode()[:64], person=purpose
    ).digest()
    return int.from_bytes(digest, "big")
