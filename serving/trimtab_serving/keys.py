"""API keys from a mounted Secret: one file, one key.

Keys are compared by keyed hash, so that neither the comparison's time nor a dump of our memory
tells much about them.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_serving import openai
from trimtab_serving.secretfiles import SecretFiles

logger = logging.getLogger(__name__)

BEARER: Final = b"bearer "
LONGEST_KEY_BYTES: Final = 4096
# Derived from a key, good for one purpose; the key cannot be found from it.
_SIGNING: Final = b"trimtab: response ids of this key"
# What a key is called where it must not be told: in metrics and in status.
_NAMING: Final = b"trimtab: id of a key"
_ID_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as a key tells.

    `name` is the hash of the key in this process alone; `signing` and `id` are the same wherever the
    key is.
    """

    name: bytes = b""
    signing: bytes = b""
    id: str = ""


ANYBODY: Final = Caller()


def id_of(key: bytes) -> str:
    """Enough of a hash to tell keys apart, and too little to show one."""
    return hmac.digest(_NAMING, key, "sha256").hex()[:_ID_LENGTH]


class ApiKeys:
    """The keys that open the door; without a directory it stands open."""

    def __init__(self, directory: Path | None, clock: Callable[[], float]) -> None:
        self._files = None if directory is None else SecretFiles(directory, clock)
        self._pepper = secrets.token_bytes(32)
        self._callers: dict[bytes, Caller] = {}
        self._refresh()

    @property
    def count(self) -> int:
        return len(self._callers)

    @property
    def are_needed(self) -> bool:
        return self._files is not None

    def check(self, authorization: bytes | None) -> Caller:
        """Whose key it is; raises ApiError unless the header holds one that is valid now."""
        if self._files is None:
            return ANYBODY
        self._refresh()
        if not authorization or authorization[:7].lower() != BEARER:
            raise openai.missing_key()
        presented = self._hash(authorization[7:].strip()[:LONGEST_KEY_BYTES])
        known = self._callers.get(presented)
        if known is None or not hmac.compare_digest(known.name, presented):
            raise openai.wrong_key()
        return known

    def _hash(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._pepper, digest_size=32).digest()

    def _refresh(self) -> None:
        found = self._files.changed() if self._files is not None else None
        if found is None:
            return
        callers = [
            Caller(self._hash(key), hmac.digest(key, _SIGNING, "sha256"), id_of(key))
            for key in found.values()
            if key
        ]
        self._callers = {caller.name: caller for caller in callers}
        logger.info("%d API keys are valid now", len(self._callers))
