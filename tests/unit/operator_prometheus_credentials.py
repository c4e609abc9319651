"""Who asks Prometheus, and whom its certificate is held against: by real TLS on loopback."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError
from tests.rolloutworld import flows, in_rollout, rollout_of
from tests.websites import Authority, make_authority

from trimtab_api.reasons import RolloutReason
from trimtab_operator.adapters.prometheus import Credentials, Prometheus
from trimtab_operator.domain.errors import MetricsForbidden, MetricsUnavailable
from trimtab_operator.settings import PrometheusSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE = {"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}


@dataclass
class Server:
    """Answers whoever has the token."""

    folder: Path
    authority: Authority
    token: str = "right"
    refusal: int = 403
    seen: list[str] = field(default_factory=list)
    url: str = ""

    async def query(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization", ""))
        if self.seen[-1] == f"Bearer {self.token}":
            return web.json_response(ONE)
        return web.Response(status=self.refusal, headers={"Location": "/login"}, text="<html>")

    def credentials(self, text: str = "right\n") -> Credentials:
        file = self.folder / "token"
        file.write_text(text)
        return Credentials(file, self.authority.ca)

    async def asked(self, credentials: Credentials | None) -> float | None:
        async with aiohttp.ClientSession() as session:
            return await Prometheus(session, self.url, credentials).scalar("1", NOW)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[Server]:
    found = Server(tmp_path, authority)
    app = web.Application()
    app.router.add_post("/api/v1/query", found.query)
    running = TestServer(app)
    await running.start_server(ssl=authority.context())
    found.url = f"https://127.0.0.1:{running.port}"
    yield found
    await running.close()


async def test_the_token_goes_with_each_query_and_the_certificate_is_held_against_the_ca(
    server: Server,
) -> None:
    assert await server.asked(server.credentials()) == 1.0
    assert server.seen == ["Bearer right"]


async def test_a_token_that_is_renewed_counts_at_once(server: Server) -> None:
    credentials = server.credentials("old")
    async with aiohttp.ClientSession() as session:
        prometheus = Prometheus(session, server.url, credentials)
        with pytest.raises(MetricsForbidden):
            await prometheus.scalar("1", NOW)
        server.credentials("right")
        assert await prometheus.scalar("1", NOW) == 1.0


async def test_a_ca_that_is_renewed_counts_at_once(server: Server, tmp_path: Path) -> None:
    ca = tmp_path / "bundle.crt"
    ca.write_bytes(make_authority(tmp_path).ca.read_bytes())
    credentials = Credentials(server.credentials().token_file, ca)
    async with aiohttp.ClientSession() as session:
        prometheus = Prometheus(session, server.url, credentials)
        with pytest.raises(MetricsForbidden, match=r"not trusted.*prometheus\.ca"):
            await prometheus.scalar("1", NOW)
        assert server.seen == []  # the token was not told to a stranger
        ca.write_bytes(server.authority.ca.read_bytes())
        assert await prometheus.scalar("1", NOW) == 1.0


REFUSALS = {
    401: "does not know this one; see prometheus.bearerToken",
    403: "may not query; grant it",
    302: "wants a login; see prometheus.bearerToken",
    308: "set prometheus.url",
}


@pytest.mark.parametrize(("status", "remedy"), REFUSALS.items(), ids=map(str, REFUSALS))
async def test_a_refusal_says_what_to_do(server: Server, status: int, remedy: str) -> None:
    server.refusal = status
    with pytest.raises(MetricsForbidden, match=remedy) as told:
        await server.asked(server.credentials("wrong"))
    assert str(status) in str(told.value)
    assert len(server.seen) == 1  # and nothing was sent on to where it points


async def test_without_a_token_none_is_sent(server: Server) -> None:
    with pytest.raises(MetricsForbidden):
        await server.asked(Credentials(None, server.authority.ca))
    assert server.seen == [""]


@pytest.mark.parametrize("text", ["", "\n", "two words", "br\nken", "\u00fc"])
async def test_a_file_that_holds_no_token_is_never_sent(server: Server, text: str) -> None:
    with pytest.raises(MetricsForbidden, match="token"):
        await server.asked(server.credentials(text))
    assert server.seen == []


async def test_files_that_are_missing_are_named(server: Server, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(MetricsForbidden, match=r"nothing.*prometheus\.bearerToken"):
        await server.asked(Credentials(nothing, server.authority.ca))
    with pytest.raises(MetricsForbidden, match=r"nothing.*prometheus\.ca"):
        await server.asked(Credentials(None, nothing))


async def test_a_ca_that_is_none_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(MetricsForbidden, match=r"ca\.crt"):
        await server.asked(Credentials(None, tmp_path / "ca.crt"))


async def test_a_server_that_is_down_is_no_question_of_credentials(server: Server) -> None:
    server.url = "https://127.0.0.1:9"
    with pytest.raises(MetricsUnavailable, match="does not answer"):
        await server.asked(server.credentials())


def test_a_token_goes_by_tls_or_not_at_all() -> None:
    with pytest.raises(ValidationError, match="https alone"):
        PrometheusSettings(url="http://prometheus:9090", token_file="/token")
    assert PrometheusSettings(url="https://thanos:9091", token_file="/token").token_file


async def test_a_rollout_that_may_not_ask_holds_and_says_so() -> None:
    fake, traffic = await in_rollout()
    fake.metrics.error = MetricsForbidden("Prometheus at thanos:9091 answers 403: grant it")
    await flows(fake, traffic, 120, stable=(50, 2), candidate=(50, 2))
    status = rollout_of(fake)
    assert (status.verdict, status.reason) == ("Hold", RolloutReason.METRICS_UNAVAILABLE)
    assert "answers 403" in (status.message or "")
