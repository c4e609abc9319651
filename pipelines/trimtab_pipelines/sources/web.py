"""Files behind https:// addresses; a proxy is taken from the environment, as everywhere."""

import logging
import ssl
import time
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError
from trimtab_pipelines.sources.access import (
    Access,
    Listed,
    forbidden,
    not_found,
    unreachable,
    unsupported,
)
from trimtab_pipelines.sources.globs import is_glob

log = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.5, 2.0)
# A server may compress on the way although it is asked not to.
_AS_IT_IS = {"Accept-Encoding": "identity"}
_LARGEST_RATIO = 200
_ALWAYS_FITTING_BYTES = 64 << 20
_TIMEOUT = httpx.Timeout(60, connect=10)


class WebReader:
    """One file of a web server."""

    def __init__(self, access: Access) -> None:
        parts = urlsplit(access.uri)
        if not parts.hostname or parts.path in {"", "/"}:
            raise unsupported(access, f"{access.uri} names no file")
        if is_glob(parts.path):
            raise unsupported(
                access, "a web server cannot list files: name each one without * and ?"
            )
        if parts.username or parts.password:
            raise unsupported(
                access, "a password does not belong into an address; put it into credentials"
            )
        self._access = access
        # What follows the question mark may be a signature, so people are shown the rest only.
        self._name = f"https://{parts.netloc}{parts.path}"
        self._file = PurePosixPath(parts.path).name

    def listed(self) -> list[Listed]:
        return [Listed(self._file, self._name)]

    def fetch(self, item: Listed) -> Path:
        target = self._access.workspace / item.key
        with self._client() as client:
            for pause in (*_PAUSES_SECONDS, None):
                try:
                    self._download(client, target)
                except httpx.TransportError as error:
                    if pause is None or _is_untrusted(error):
                        raise self._transport(error) from error
                    log.warning("%s: %s; trying again", self._name, error)
                    time.sleep(pause)
                else:
                    break
        return target

    def _client(self) -> httpx.Client:
        context = ssl.create_default_context()
        if bundle := self._access.secret.file("ca.crt"):
            context.load_verify_locations(cafile=str(bundle))
        user = self._access.secret.get("username")
        password = self._access.secret.get("password")
        auth = httpx.BasicAuth(user or "", password or "") if user or password else None
        return httpx.Client(
            verify=context,
            auth=auth,
            headers=_AS_IT_IS,
            follow_redirects=True,
            timeout=_TIMEOUT,
        )

    def _download(self, client: httpx.Client, target: Path) -> None:
        with client.stream("GET", self._access.uri) as answer:
            if answer.url.scheme != "https":
                raise forbidden(
                    self._access, f"{self._name} leads to an address without TLS; use the final one"
                )
            if answer.status_code != httpx.codes.OK:
                raise self._refused(answer.status_code)
            written = 0
            with target.open("wb") as file:
                for chunk in answer.iter_bytes(1 << 20):
                    written += file.write(chunk)
                    if written > max(
                        _ALWAYS_FITTING_BYTES, answer.num_bytes_downloaded * _LARGEST_RATIO
                    ):
                        raise self._too_large(answer.num_bytes_downloaded, written)

    def _too_large(self, received: int, written: int) -> RunError:
        return RunError(
            FailureReason.UNPACKS_TOO_LARGE,
            f"{self._access.field}: {self._name} is sent compressed, and its first {received} bytes "
            f"unpack to more than {written}; serve it as it is",
        )

    def _refused(self, status: int) -> RunError:
        if status in {401, 403, 407}:
            return forbidden(
                self._access,
                f"{self._name} answered {status}; name a Secret with username and password in "
                "its credentials",
            )
        if 400 <= status < 500 and status not in {408, 425, 429}:
            return not_found(self._access, f"{self._name} answered {status}; check the address")
        return unreachable(self._access, f"{self._name} answered {status}")

    def _transport(self, error: httpx.TransportError) -> RunError:
        if _is_untrusted(error):
            return unreachable(
                self._access,
                f"the certificate of {self._name} is not trusted; put its CA under ca.crt into "
                "the Secret of its credentials",
            )
        return unreachable(
            self._access,
            f"{self._name} cannot be reached; check the address, the network and HTTPS_PROXY "
            f"({str(error) or type(error).__name__})",
        )


def _is_untrusted(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
