"""What rollouts and decisions say about the routing of one name, as plain values.

Between `courses`, which decides, and `routing`, which follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from trimtab_api.routing import RoutedVersion
from trimtab_api.v1alpha1.inferenceservice import ServedModel
from trimtab_api.v1alpha1.rollout import ModelRuling, RollbackStatus, RolloutStatus
from trimtab_operator.domain.finding import Finding


@dataclass(frozen=True)
class Course:
    """The share of a candidate beside its stable version; both by digest."""

    stable: str
    candidate: str
    weight: int
    salt: str

    def is_of(self, stable: RoutedVersion, candidate: RoutedVersion) -> bool:
        """Whether it is about this pair."""
        return (stable.digest, candidate.digest) == (self.stable, self.candidate)


@dataclass(frozen=True)
class Direction:
    """Everything that steers one name beside its spec."""

    course: Course | None = None
    barred: Mapping[str, Finding] = field(default_factory=dict)
    # Why the name stays with what it has.
    pin: str | None = None
    # The digest of what has just lost its requests.
    leaving: str | None = None


@dataclass(frozen=True)
class Moving:
    """One name whose adapter goes with the base: that of the present base, and that of the new one."""

    name: str
    stable: RoutedVersion
    candidate: RoutedVersion


@dataclass(frozen=True)
class Change:
    """Another base that is to take the place of the present one."""

    model: ServedModel
    # Why it is given no engines.
    hold: Finding | None = None
    # What its engines lack before it may have requests.
    lacking: Finding | None = None
    companions: tuple[Moving, ...] = ()
    # Whether it answered before the present one, which is taken back.
    is_way_back: bool = False


@dataclass(frozen=True)
class Record:
    """What status keeps about one name beside its routing."""

    rollout: RolloutStatus | None = None
    last_rollback: RollbackStatus | None = None
    rulings: tuple[ModelRuling, ...] = ()


STRAIGHT: Final = Direction()
NOWHERE: Final[Mapping[str, Direction]] = MappingProxyType({})
NOTHING_RECORDED: Final = Record()
