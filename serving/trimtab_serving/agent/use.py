"""Which of the engine's names are in use by requests right now."""

from collections import Counter
from collections.abc import Callable


class Use:
    """Counts requests by engine name and tells when a name is no longer used."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.on_unused: Callable[[], None] = lambda: None

    def enter(self, name: str) -> None:
        self._counts[name] += 1

    def leave(self, name: str) -> None:
        self._counts[name] -= 1
        if self._counts[name] <= 0:
            del self._counts[name]
            self.on_unused()

    def is_used(self, name: str) -> bool:
        return name in self._counts

    @property
    def total(self) -> int:
        return self._counts.total()
