"""What is counted once: the unit of the tests that compare two versions.

Requests of one user are not independent, and with sticky routing all of them meet one version. So a
user counts once per cell of time, with the request that came first in it, and not more often than
`MOST_PER_USER` in one rollout. Who says nothing of himself is routed by chance each time, and each
of his requests is a unit.

Pure: the time comes in. The figures behind the two constants are in bench/rollout.
"""

from collections.abc import Mapping
from typing import Final

from trimtab_serving.gateway.routes import POINTS, Route, hash_of

CELL_SECONDS: Final = 5.0
MOST_PER_USER: Final = 6
# Users that are remembered in all; whoever invents users fills this and no more.
MOST_USERS: Final = 65_536
_PURPOSE: Final = b"unit"


class _Users:
    """The users of one model in one rollout: in which cell each was seen last, and how often counted.

    When there are too many, half of them are forgotten for good, by their hash: a fair sample,
    where forgetting the oldest would keep those who ask most.
    """

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self._seen: dict[int, tuple[int, int]] = {}
        self._limit = POINTS

    def take(self, user: int, cell: int, most: int) -> bool:
        if user >= self._limit:
            return False
        last, count = self._seen.get(user, (-1, 0))
        if last == cell or count >= MOST_PER_USER:
            return False
        while last < 0 and len(self._seen) >= most:
            self._halve()
            if user >= self._limit:
                return False
        self._seen[user] = (cell, count + 1)
        return True

    def _halve(self) -> None:
        self._limit //= 2
        self._seen = {user: seen for user, seen in self._seen.items() if user < self._limit}

    def __len__(self) -> int:
        return len(self._seen)


class Units:
    """Says of each request, when it comes, whether it will be counted as a unit."""

    def __init__(self, most_users: int = MOST_USERS) -> None:
        self._most_users = most_users
        self._models: dict[str, _Users] = {}

    def follow(self, routes: Mapping[str, Route]) -> None:
        """A model that nothing is compared in, or whose rollout is another one, begins anew."""
        self._models = {
            name: users
            for name, users in self._models.items()
            if (route := routes.get(name)) and route.is_shared and route.salt == users.salt
        }

    def is_unit(self, route: Route, session: bytes | None, now: float) -> bool:
        if session is None or not route.is_shared:
            return True
        users = self._models.get(route.model)
        if users is None:
            users = self._models[route.model] = _Users(route.salt)
        most = max(1, self._most_users // len(self._models))
        return users.take(hash_of(route, session, _PURPOSE), int(now // CELL_SECONDS), most)

    @property
    def users(self) -> int:
        """How many are remembered."""
        return sum(map(len, self._models.values()))
