"""Ids of responses that any gateway of the service can verify later.

An id holds when it was made, which version answered and whether the exchange was kept, and an HMAC
over that whose key is derived from the caller's API key. So it proves by itself that the same key
made the request, and gateways share nothing but the Secrets that are mounted into all of them. Where
ids have a secret of their own it goes into the HMAC as well, and then not even the holder of a key
can make an id that no gateway gave him.
"""

import base64
import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_serving.keys import Caller
from trimtab_serving.secretfiles import SecretFiles

_BODY: Final = struct.Struct(">BI8s8s")  # flags, seconds, nonce, version
_MAC_BYTES: Final = 12
_KEPT: Final = 1
_FORM: Final = re.compile(r"(?:chatcmpl|cmpl)-([A-Za-z0-9_-]{44})")


@dataclass(frozen=True, slots=True)
class ResponseId:
    """What an id says; `nonce` is what one response is known by in files."""

    nonce: str
    seconds: int
    version_tag: bytes
    is_kept: bool


def version_tag(model: str, version: str) -> bytes:
    """A version in so few bytes that an id can hold them."""
    return hashlib.sha256(f"{model}\0{version}".encode()).digest()[:8]


class ResponseIds:
    """Makes ids and reads them."""

    def __init__(
        self,
        service: str,
        secret: Path | None,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._service = service.encode()
        self._files = None if secret is None else SecretFiles(secret, clock)
        self._wall = wall
        # The last signs, all verify: a new entry is added before an old one goes.
        self._secrets: list[bytes] = []

    def make(self, caller: Caller, tag: bytes, *, is_kept: bool) -> tuple[ResponseId, bytes] | None:
        """A new id and its letters, without the prefix that tells what kind of answer it is.

        None where there is nothing to sign with: an id that anybody could make would prove nothing.
        """
        nonce, seconds = secrets.token_bytes(8), int(self._wall())
        body = _BODY.pack(_KEPT if is_kept else 0, seconds, nonce, tag)
        macs = self._macs(caller, body)
        if not macs:
            return None
        letters = base64.urlsafe_b64encode(body + macs[-1])
        return ResponseId(nonce.hex(), seconds, tag, is_kept), letters

    def read(self, caller: Caller, text: str) -> ResponseId | None:
        """What an id says that was made for this caller; None for any other."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        data = base64.urlsafe_b64decode(found[1])
        body, mac = data[: _BODY.size], data[_BODY.size :]
        if not any(hmac.compare_digest(mac, own) for own in self._macs(caller, body)):
            return None
        flags, seconds, nonce, tag = _BODY.unpack(body)
        return ResponseId(nonce.hex(), seconds, tag, bool(flags & _KEPT))

    def age_seconds(self, response: ResponseId) -> float:
        return self._wall() - response.seconds

    def _macs(self, caller: Caller, body: bytes) -> list[bytes]:
        if self._files is not None and (found := self._files.changed()) is not None:
            self._secrets = [found[name] for name in sorted(found) if found[name]]
        message = b"%b\0%b" % (self._service, body)
        keys = [caller.signing + secret for secret in self._secrets]
        if self._files is None and caller.signing:
            keys = [caller.signing]
        return [hmac.digest(key, message, "sha256")[:_MAC_BYTES] for key in keys]
