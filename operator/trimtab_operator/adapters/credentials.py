"""Where the API server is and as whom we come: in a pod what the kubelet mounts, else a kubeconfig.

A service account is an address, a certificate and a token. The library that understands kubeconfigs
(contexts, plugins, OIDC) takes more memory than all of our own code, so only they load it.
"""

import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from trimtab_operator.adapters.wire import Place
from trimtab_operator.domain.errors import ClusterUnreachable

MOUNTED: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet replaces a token long before it ends; for each request it need not be read.
TOKEN_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Credentials:
    """The server, and what each request says about who sends it."""

    place: Place
    authorization: Callable[[], Awaitable[str | None]]


class ServiceAccount:
    """Whom a pod comes as; the token is another one every hour."""

    def __init__(
        self,
        folder: Path = MOUNTED,
        environment: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._host = environment.get("KUBERNETES_SERVICE_HOST", "")
        self._port = environment.get("KUBERNETES_SERVICE_PORT") or "443"
        self._now = now
        self._token = ""
        self._read_again_at = now()

    @property
    def is_there(self) -> bool:
        """Whether this is a pod that may talk to its API server."""
        return bool(self._host) and (self._folder / "token").is_file()

    def credentials(self) -> Credentials:
        """Raises OSError where the cluster's certificate is missing, or is none."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        url = f"https://{host}:{self._port}"
        tls = ssl.create_default_context(cafile=self._folder / "ca.crt")
        return Credentials(Place(url, tls, proxy=proxy_for(url)), self.authorization)

    async def authorization(self) -> str:
        """What to say now. A token that cannot be read is no reason to forget the one before."""
        now = self._now()
        if now >= self._read_again_at:
            try:
                self._token = (self._folder / "token").read_text().strip() or self._token
            except OSError as error:
                if not self._token:
                    message = f"the token of the service account cannot be read: {error}"
                    raise ClusterUnreachable(message) from error
            self._read_again_at = now + TOKEN_SECONDS
        return f"Bearer {self._token}"


async def found(kubeconfig: str | None = None) -> Credentials:
    """Those of the pod, or of a kubeconfig: the one that is named, else the user's."""
    account = ServiceAccount()
    if kubeconfig is None and account.is_there:
        return account.credentials()
    return await _of_kubeconfig(kubeconfig)


async def _of_kubeconfig(path: str | None) -> Credentials:
    # Not at the top: see above.
    from kubernetes.aio import client, config  # noqa: PLC0415
    from kubernetes.aio.client import rest  # noqa: PLC0415

    settings = client.Configuration()
    await config.load_kube_config(path, client_configuration=settings)
    place = Place(
        url=settings.host,
        tls=rest.RESTClientObject(settings).ssl_context,
        server_name=settings.tls_server_name,
        proxy=settings.proxy or proxy_for(settings.host),
    )

    async def authorization() -> str | None:
        token: str | None = await settings.get_api_key_with_prefix("BearerToken")
        return token.strip() if token else None

    return Credentials(place, authorization)


def proxy_for(address: str) -> str | None:
    """The proxy that the environment names for this address, if it names one."""
    url = urlsplit(address)
    if url.hostname is None or proxy_bypass(url.netloc):
        return None
    return getproxies().get(url.scheme)
