"""API keys from a mounted Secret: one file, one key.

Keys are compared by keyed hash, so that neither the comparison's time nor a dump of our memory
tells much about them. The directory is looked at again and again, because the kubelet swaps its
content when the Secret changes; nothing is restarted for a new key.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trimtab_serving import openai

logger = logging.getLogger(__name__)

BEARER: Final = b"bearer "
LOOK_SECONDS: Final = 1.0
LONGEST_KEY_BYTES: Final = 4096

State = tuple[tuple[str, int, int, int], ...]


class ApiKeys:
    """The keys that open the door; without a directory it stands open."""

    def __init__(self, directory: Path | None, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._pepper = secrets.token_bytes(32)
        self._hashes: dict[bytes, bytes] = {}
        self._state: State | None = None
        self._looked = float("-inf")
        self._refresh()

    @property
    def count(self) -> int:
        return len(self._hashes)

    @property
    def are_needed(self) -> bool:
        return self._directory is not None

    def check(self, authorization: bytes | None) -> None:
        """Raises ApiError unless the header holds a key that is valid now."""
        if self._directory is None:
            return
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._refresh()
        if not authorization or authorization[:7].lower() != BEARER:
            raise openai.missing_key()
        presented = self._hash(authorization[7:].strip()[:LONGEST_KEY_BYTES])
        known = self._hashes.get(presented)
        if known is None or not hmac.compare_digest(known, presented):
            raise openai.wrong_key()

    def _hash(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._pepper, digest_size=32).digest()

    def _refresh(self) -> None:
        if self._directory is None:
            return
        self._looked = self._clock()
        try:
            files = [
                path for path in self._directory.iterdir() if path.name[0] != "." and path.is_file()
            ]
            state: State = tuple(sorted(_identity(path) for path in files))
            if state == self._state:
                return
            keys = [path.read_bytes().strip() for path in files]
        except OSError as fault:
            # The kubelet swaps a link in one step, so this is a missing mount: the last keys stay.
            logger.warning("the API keys cannot be read: %s", fault)
            return
        hashes = [self._hash(key) for key in keys if key]
        self._hashes = {value: value for value in hashes}
        self._state = state
        logger.info("%d API keys are valid now", len(self._hashes))


def _identity(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return path.name, found.st_mtime_ns, found.st_size, found.st_ino
