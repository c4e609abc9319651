"""The port `Metrics` on Prometheus's HTTP API, and on whatever speaks it.

Raw samples come from a range selector in an instant query: `rate` and `increase` would extrapolate,
and a range query would resample. Every answer is bounded in time and size and read strictly: what
is no number of the asked form is an error, never a figure.
"""

import json
import math
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.errors import (
    MetricsForbidden,
    MetricsRefused,
    MetricsUnavailable,
    MetricsUnusable,
)
from trimtab_operator.domain.series import RawSeries
from trimtab_operator.settings import PrometheusSettings

SECONDS: Final = 5.0
ANSWER_BYTES: Final = 32 * 2**20
CHUNK_BYTES: Final = 2**16
MESSAGE_LENGTH: Final = 256
_WHY_LENGTH: Final = 160
_REFUSALS: Final = {
    301: "the address has moved; set prometheus.url in the chart to where it leads",
    302: "it wants a login; see prometheus.bearerToken in the chart",
    307: "the address has moved; set prometheus.url in the chart to where it leads",
    308: "the address has moved; set prometheus.url in the chart to where it leads",
    401: "it wants a token, or does not know this one; see prometheus.bearerToken in the chart",
    403: "the token's owner may not query; grant it, or give another by prometheus.bearerToken in the chart",
}


@dataclass(frozen=True)
class Credentials:
    """Files to ask with: a bearer token, and the certificates that the server's is held against.

    The kubelet renews both, so that they are read when they are needed.
    """

    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def of(cls, settings: PrometheusSettings) -> "Credentials":
        """As the chart says; empty is none."""
        token, ca = settings.token_file, settings.ca_file
        return cls(Path(token) if token else None, Path(ca) if ca else None)

    def headers(self) -> dict[str, str]:
        """What says who asks."""
        if self.token_file is None:
            return {}
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise MetricsForbidden(
                f"the token for Prometheus cannot be read: {error}; see prometheus.bearerToken in the chart"
            ) from error
        if not token or any(not "!" <= letter <= "~" for letter in token):
            raise MetricsForbidden(f"{self.token_file} holds no token for Prometheus")
        return {"Authorization": f"Bearer {token}"}


class _Trust:
    """The certificates that are trusted, as the file has them now."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._state: tuple[int, int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | bool:
        """True is those of the image."""
        if self._file is None:
            return True
        try:
            found = self._file.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._context is None or state != self._state:
                self._context = ssl.create_default_context(cafile=str(self._file))
                self._state = state
        except (OSError, ValueError) as error:
            raise MetricsForbidden(
                f"the certificates in {self._file} cannot be used: {error}; see prometheus.ca in the chart"
            ) from error
        return self._context


class Prometheus:
    """One server; without a url every question is answered by what to do about it."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, credentials: Credentials | None = None
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._credentials = credentials or Credentials()
        self._trust = _Trust(self._credentials.ca_file)

    async def samples(self, selector: str, start: datetime, end: datetime) -> Sequence[RawSeries]:
        """Every series of a selector with its raw samples in (start, end]."""
        milliseconds = max(math.ceil((end - start).total_seconds() * 1000), 1)
        data = await self._at(f"{selector}[{milliseconds}ms]", end)
        if data.get("resultType") != "matrix":
            raise MetricsUnusable(f"{selector} gave a {data.get('resultType')}, no series")
        return [_series(each) for each in _list(data)]

    async def scalar(self, query: str, at: datetime) -> float | None:
        """The one number that an expression gives."""
        data = await self._at(query, at)
        kind = data.get("resultType")
        if kind == "scalar":
            return _value(data.get("result"))
        if kind != "vector":
            raise MetricsUnusable(f"it gives a {kind}; one number is needed")
        found = _list(data)
        if len(found) > 1:
            raise MetricsUnusable(
                f"it gives {len(found)} numbers; one is needed: aggregate them, by sum() for example"
            )
        return _value(found[0].get("value")) if found else None

    async def values(
        self, query: str, start: datetime, end: datetime, step: timedelta
    ) -> Sequence[RawSeries]:
        """What an expression gives at start, a step later, and so on until end; for looking back."""
        asked = {
            "query": query,
            "start": f"{start.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{step.total_seconds():.3f}",
        }
        data = await self._asked("query_range", asked)
        if data.get("resultType") != "matrix":
            raise MetricsUnusable(f"{query} gave a {data.get('resultType')}, no series")
        return [_series(each) for each in _list(data)]

    async def _at(self, query: str, at: datetime) -> dict[str, Any]:
        return await self._asked("query", {"query": query, "time": f"{at.timestamp():.3f}"})

    async def _asked(self, path: str, form: Mapping[str, str]) -> dict[str, Any]:
        if not self._url:
            raise MetricsUnavailable(
                "the operator was given no Prometheus to ask; set prometheus.url in the chart"
            )
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        where = urlsplit(self._url).netloc
        headers, trusted = self._credentials.headers(), self._trust.context()
        try:
            async with self._session.post(
                f"{self._url}/api/v1/{path}",
                data=form,
                timeout=timeout,
                headers=headers,
                ssl=trusted,
                allow_redirects=False,  # a token is for this server, and a login page is no answer
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        raise MetricsUnusable(f"the answer is larger than {ANSWER_BYTES} bytes")
                status = response.status
        except aiohttp.ClientConnectorCertificateError as error:
            why = f"the certificate of Prometheus at {where} is not trusted: {error.certificate_error}"
            raise MetricsForbidden(
                f"{why[:_WHY_LENGTH]}; prometheus.ca in the chart names its CA"
            ) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise MetricsUnavailable(
                f"Prometheus at {where} does not answer: {why}"[:MESSAGE_LENGTH]
            ) from error
        if status in _REFUSALS:
            raise MetricsForbidden(f"Prometheus at {where} answers {status}: {_REFUSALS[status]}")
        return _data(bytes(body), status, where)


def _data(body: bytes, status: int, where: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise MetricsUnavailable(f"{where} answered {status}, and no JSON") from error
    if not isinstance(answer, dict):
        raise MetricsUnusable(f"{where} answered no object")
    if answer.get("status") == "success" and isinstance(answer.get("data"), dict):
        data: dict[str, Any] = answer["data"]
        return data
    why = str(answer.get("error") or f"status {status}")[:MESSAGE_LENGTH]
    if answer.get("errorType") in {"bad_data", "execution"}:
        raise MetricsRefused(why)
    raise MetricsUnavailable(f"Prometheus at {where} cannot answer: {why}")


def _list(data: dict[str, Any]) -> list[dict[str, Any]]:
    found = data.get("result")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise MetricsUnusable("the result is no list of series")
    return found


def _series(each: dict[str, Any]) -> RawSeries:
    labels, values = each.get("metric"), each.get("values", [])
    if not isinstance(labels, dict) or not isinstance(values, list):
        raise MetricsUnusable("a series has no labels or no values")
    samples = (_pair(value) for value in values)
    return RawSeries(
        {str(k): str(v) for k, v in labels.items()}, tuple(Sample(*pair) for pair in samples)
    )


def _value(given: object) -> float:
    return _pair(given)[1]


def _pair(given: object) -> tuple[float, float]:
    if not isinstance(given, list) or len(given) != 2:
        raise MetricsUnusable("a sample is no pair of time and value")
    try:
        return float(given[0]), float(given[1])
    except (TypeError, ValueError) as error:
        raise MetricsUnusable(f"{given!r} is no sample"[:MESSAGE_LENGTH]) from error
