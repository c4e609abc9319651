"""Which version of a model a request goes to: pure, so that shares can be proven.

The table's weights are shares of the requests. A request with a session stays on one version for
as long as the weights stay; the others are spread by chance.
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


def point_of(model: str, session: bytes | None, chance: Callable[[], float]) -> float:
    """Where in [0, 1) a request falls: fixed for a session, by chance without one."""
    if session is None:
        return chance()
    digest = hashlib.blake2b(session, digest_size=8, key=model.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / POINTS
