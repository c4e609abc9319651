"""One HTTP conversation with the API server; its refusals become our errors.

Connection, TLS and tokens are kubernetes.aio's; bodies stay plain dictionaries, because turning
each into typed objects and back costs more than the request.
"""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config

from trimtab_operator.adapters.fence import Fence
from trimtab_operator.domain.errors import (
    ClusterError,
    ClusterUnreachable,
    Conflict,
    Forbidden,
    Gone,
    Refused,
)
from trimtab_operator.domain.manifests import Manifest, get

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
# Longer than bookmarks are apart where they come; for a kind without changes they may stay away.
WATCH_SILENCE_SECONDS: Final = 100.0


class AlreadyThere(Conflict):
    """An object of that name exists."""


class FieldsTaken(Conflict):
    """Somebody else manages fields that were applied."""


class Expired(ClusterError):
    """The resource version is too old: list again."""


class Api:
    """A connection to the API server."""

    def __init__(self, connection: client.ApiClient, fence: Fence | None = None) -> None:
        self._connection = connection
        self._fence = fence

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> "Api":
        """Inside a pod by its service account, else by kubeconfig."""
        settings = client.Configuration()
        settings.retries = None
        settings.connection_pool_maxsize = 64
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                await config.load_kube_config(kubeconfig, client_configuration=settings)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=settings)
        # Looked up once: aiohttp by itself reads netrc and the environment in a thread, twice per request,
        # which is as long as the request.
        settings.client_session_kwargs = {"trust_env": False}
        settings.proxy = settings.proxy or proxy_for(settings.host)
        return cls(client.ApiClient(configuration=settings))

    def fenced(self, fence: Fence) -> "Api":
        """The same connection, over which writes go only while the fence is open."""
        return Api(self._connection, fence)

    async def close(self) -> None:
        """End all conversations."""
        await self._connection.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        """One request and its answer; raises NotLeader in place of a write behind the fence."""
        if method == "GET" or self._fence is None:
            return await self._request(method, path, query, body, content_type)
        async with self._fence.write():
            return await self._request(method, path, query, body, content_type)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
    ) -> Manifest:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with await self._send(method, path, query, body, content_type, timeout) as answer:
                text = await answer.read()
                if answer.status >= 400:
                    raise _error(method, path, answer, text)
                content: Manifest = json.loads(text)
                return content
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            message = f"{method} {path}: {str(error) or type(error).__name__}"
            raise ClusterUnreachable(message) from error

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Manifest]:
        """Events of a watch until the server ends it.

        Silence ends it too: nobody can tell a quiet kind from a server that has gone away.
        """
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        asked = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        try:
            async with await self._send("GET", path, asked, None, JSON, timeout) as answer:
                if answer.status >= 400:
                    raise _error("WATCH", path, answer, await answer.read())
                async for line in answer.content:
                    event: Manifest = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise _watch_error(path, event.get("object", {}))
                    yield event
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            message = f"WATCH {path}: {str(error) or type(error).__name__}"
            raise ClusterUnreachable(message) from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it is aiohttp's own, not ours
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": JSON, "Content-Type": content_type}
        settings = self._connection.configuration
        token = await settings.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = f"{settings.host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = await self._connection.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def proxy_for(address: str) -> str | None:
    """The proxy that the environment names for this address, if it names one."""
    url = urlsplit(address)
    if url.hostname is None or proxy_bypass(url.netloc):
        return None
    return getproxies().get(url.scheme)


def _watch_error(path: str, status: Manifest) -> ClusterError:
    message = f"WATCH {path}: {status.get('message', 'ended by an error')}"
    return Expired(message) if status.get("code") == 410 else ClusterUnreachable(message)


def _error(method: str, path: str, answer: aiohttp.ClientResponse, text: bytes) -> ClusterError:
    try:
        content: Any = json.loads(text)
    except ValueError:
        content = text[:512].decode(errors="replace")
    status: dict[str, Any] = content if isinstance(content, dict) else {"message": str(content)}
    message = f"{method} {path}: {status.get('message') or answer.reason}"
    reason = status.get("reason", "")
    causes = {cause.get("reason") for cause in get(status, "details", "causes", default=[])}
    if answer.status == 404 or "NamespaceTerminating" in causes:
        return Gone(message)
    if answer.status == 409:
        if reason == "AlreadyExists":
            return AlreadyThere(message)
        return FieldsTaken(message) if "FieldManagerConflict" in causes else Conflict(message)
    if answer.status == 410:
        return Expired(message)
    if answer.status == 403:
        return Forbidden(message)
    if answer.status in {400, 405, 413, 415, 422}:
        return Refused(message)
    return ClusterUnreachable(message, after=_retry_after(answer))


def _retry_after(answer: aiohttp.ClientResponse) -> timedelta | None:
    value = answer.headers.get("Retry-After", "")
    return timedelta(seconds=min(int(value), 300)) if value.isdigit() else None
