"""The entries of a mounted Secret: one file each.

The directory is looked at again and again, because the kubelet swaps its content when the Secret
changes; nothing is restarted for it.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0

State = tuple[tuple[str, int, int, int], ...]


class SecretFiles:
    """A directory that a Secret is mounted at."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._state: State | None = None
        self._looked = float("-inf")

    def changed(self) -> dict[str, bytes] | None:
        """All entries by name where they are others than before; looks once a second at most."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        try:
            files = [
                path for path in self._directory.iterdir() if path.name[0] != "." and path.is_file()
            ]
            state: State = tuple(sorted(_identity(path) for path in files))
            if state == self._state:
                return None
            found = {path.name: path.read_bytes().strip() for path in files}
        except OSError as fault:
            # The kubelet swaps a link in one step, so this is a missing mount: the last ones stay.
            logger.warning("the Secret in %s cannot be read: %s", self._directory, fault)
            return None
        self._state = state
        return found


def _identity(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return path.name, found.st_mtime_ns, found.st_size, found.st_ino
