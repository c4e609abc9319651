"""Requests to a registry: authorization, bounded retries, and errors of our own.

A token is fetched once per repository and action and used until the registry refuses it.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from trimtab_oci.credentials import DockerConfig
from trimtab_oci.errors import (
    DigestMismatch,
    NotFound,
    RegistryError,
    RegistryForbidden,
    RegistryUnreachable,
)
from trimtab_oci.reference import Reference

PULL = "pull"
PUSH = "pull,push"
DELETE = "pull,push,delete"
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')

# A body that can be sent more than once: bytes, or what opens a stream anew.
Body = bytes | Callable[[], AsyncIterator[bytes]] | None


@dataclass(frozen=True)
class Retries:
    """How often a request is tried, and how long the first pause is; pauses double."""

    attempts: int = 5
    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 8.0

    def pause(self, attempt: int, answered: str | None = None) -> float:
        """Seconds to wait after the given attempt; a server's own wish is heard within bounds."""
        wished = float(answered) if answered and answered.isdigit() else 0.0
        doubled = self.first_pause_seconds * float(2**attempt)
        return min(max(doubled, wished), self.longest_pause_seconds)


class Transport:
    """One HTTP session for any number of registries."""

    def __init__(
        self,
        *,
        plain_http: bool | Collection[str] = False,
        credentials: DockerConfig | None = None,
        ca_file: Path | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._plain_http = plain_http
        self._credentials = credentials or DockerConfig()
        self._ca_file = ca_file
        self.retries = retries or Retries()
        self._authorization: dict[tuple[str, str, str], str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context()
        if self._ca_file is not None and self._ca_file.is_file():
            context.load_verify_locations(cafile=str(self._ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit_per_host=16),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            trust_env=True,
            read_bufsize=1 << 19,
            auto_decompress=False,  # a digest is that of the bytes as they are stored
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def url(self, reference: Reference, path: str) -> URL:
        """An address below /v2/<repository>/."""
        host = _HUB.get(reference.registry, reference.registry)
        plain = (
            self._plain_http
            if isinstance(self._plain_http, bool)
            else reference.registry in self._plain_http
        )
        return URL(
            f"{'http' if plain else 'https'}://{host}/v2/{reference.repository}/{path}",
            encoded=True,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        reference: Reference,
        action: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        again: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, or an error. `again` is False for what must not be repeated here."""
        response = await self._answer(
            method, url, reference, action, headers or {}, body, again=again
        )
        try:
            yield response
        finally:
            response.release()

    async def open(
        self, url: URL, reference: Reference, action: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """A GET whose answer the caller reads and closes; the caller counts the tries."""
        return await self._answer("GET", url, reference, action, headers, None, again=True)

    async def _answer(
        self,
        method: str,
        url: URL,
        reference: Reference,
        action: str,
        headers: Mapping[str, str],
        body: Body,
        *,
        again: bool,
    ) -> aiohttp.ClientResponse:
        challenged = False
        attempt = 0
        while True:
            last = not again or attempt + 1 >= self.retries.attempts
            wished = None
            try:
                response = await self._send(method, url, reference, action, headers, body)
            except aiohttp.ClientSSLError as error:  # trying again cannot help
                raise RegistryUnreachable(
                    f"{url.host}: no trusted TLS connection: {error}"
                ) from error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if last:
                    raise RegistryUnreachable(f"{method} {url}: {_said(error)}") from error
            else:
                if response.status < 400:
                    return response
                if response.status == 401 and not challenged:
                    challenged = True
                    await self._take_challenge(response, reference, action)
                    continue
                if last or response.status not in _BUSY:
                    raise await _refusal(method, url, response)
                wished = response.headers.get("Retry-After")
                response.release()
            await asyncio.sleep(self.retries.pause(attempt, wished))
            attempt += 1

    async def _send(
        self,
        method: str,
        url: URL,
        reference: Reference,
        action: str,
        headers: Mapping[str, str],
        body: Body,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RegistryError("the registry client is used outside of its `async with`")
        sent = dict(headers)
        authorization = self._authorization.get((reference.registry, reference.repository, action))
        # An upload may be sent to another host, which must not see our credentials.
        if authorization and url.origin() == self.url(reference, "").origin():
            sent["Authorization"] = authorization
        data = body() if callable(body) else body
        return await self._session.request(method, url, headers=sent, data=data)

    async def _take_challenge(
        self, response: aiohttp.ClientResponse, reference: Reference, action: str
    ) -> None:
        challenge = response.headers.get("WWW-Authenticate", "")
        response.release()
        scheme, _, rest = challenge.partition(" ")
        given = self._credentials.for_repository(reference.registry, reference.repository)
        key = (reference.registry, reference.repository, action)
        if scheme.lower() == "basic":
            if given is None:
                raise RegistryForbidden(
                    f"{reference.name} asks for credentials and none are given for it"
                )
            self._authorization[key] = given.basic()
        elif scheme.lower() == "bearer":
            parameters = {k.lower(): quoted or bare for k, quoted, bare in _PARAMETER.findall(rest)}
            self._authorization[key] = await self._token(
                parameters, reference, action, given.basic() if given else None
            )
        else:
            raise RegistryForbidden(
                f"{reference.name} asks for an unknown kind of authorization: {scheme or 'none named'}"
            )

    async def _token(
        self, parameters: Mapping[str, str], reference: Reference, action: str, basic: str | None
    ) -> str:
        realm = parameters.get("realm", "")
        if not realm.startswith(("http://", "https://")) or self._session is None:
            raise RegistryForbidden(f"{reference.name} names no token server")
        query = {"scope": f"repository:{reference.repository}:{action}"}
        if service := parameters.get("service"):
            query["service"] = service
        headers = {"Authorization": basic} if basic else {}
        try:
            async with self._session.get(
                URL(realm).update_query(query), headers=headers
            ) as response:
                if response.status in {400, 401, 403, 404}:
                    raise RegistryForbidden(
                        f"{reference.name}: the token server answered {response.status}"
                    )
                response.raise_for_status()
                answer = json.loads(await response.read())
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RegistryUnreachable(f"{reference.name}: no token: {error}") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryForbidden(f"{reference.name}: the token server gave no token") from error


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__  # a timeout says nothing


async def _refusal(method: str, url: URL, response: aiohttp.ClientResponse) -> RegistryError:
    text = (await response.content.read(4096)).decode("utf-8", "replace").strip()
    response.release()
    code, said = _first_error(text)
    message = f"{method} {url}: {response.status} {said or response.reason or ''}".strip()
    # 405: a registry that keeps everything for ever refuses to delete in these words.
    if response.status in {401, 403, 405}:
        return RegistryForbidden(message)
    if response.status == 404:
        return NotFound(message)
    if response.status in _BUSY:
        return RegistryUnreachable(message)
    if code == "DIGEST_INVALID":
        return DigestMismatch(message)
    return RegistryError(message)


def _first_error(text: str) -> tuple[str, str]:
    try:
        first = json.loads(text)["errors"][0]
        return str(
            first.get("code", "")
        ), f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", text[:200]
