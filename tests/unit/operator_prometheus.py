"""The port Metrics against a server that speaks Prometheus's API, well and badly."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from trimtab_operator.adapters.prometheus import Prometheus
from trimtab_operator.adapters.recordings import recorded, recorded_values
from trimtab_operator.domain.errors import (
    MetricsError,
    MetricsRefused,
    MetricsUnavailable,
    MetricsUnusable,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MATRIX = {
    "resultType": "matrix",
    "result": [{"metric": {"__name__": "a_total", "pod": "p"}, "values": [[1.5, "3"], [6.5, "7"]]}],
}


class Server:
    """Answers every query alike, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = {"status": "success", "data": MATRIX}
        self.status = 200
        self.text: str | None = None
        self.asked: list[dict[str, str]] = []

    async def query(self, request: web.Request) -> web.Response:
        self.asked.append({k: str(v) for k, v in (await request.post()).items()})
        if self.text is not None:
            return web.Response(text=self.text, status=self.status)
        return web.json_response(self.answer, status=self.status)

    def gives(self, kind: str, result: Any) -> None:
        self.answer = {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.fixture
async def served() -> AsyncIterator[tuple[Server, Prometheus]]:
    server = Server()
    app = web.Application()
    app.router.add_post("/prom/api/v1/query", server.query)
    app.router.add_post("/prom/api/v1/query_range", server.query)
    async with TestServer(app) as running, aiohttp.ClientSession() as session:
        yield server, Prometheus(session, str(running.make_url("/prom/")))


async def test_raw_samples_at_the_times_of_their_scrapes(served: tuple[Server, Prometheus]) -> None:
    server, prometheus = served
    (series,) = await prometheus.samples('{a="b"}', NOW - timedelta(seconds=90), NOW)
    assert series.name == "a_total"
    assert [(s.time, s.value) for s in series.samples] == [(1.5, 3.0), (6.5, 7.0)]
    assert server.asked == [{"query": '{a="b"}[90000ms]', "time": f"{NOW.timestamp():.3f}"}]


async def test_what_an_expression_gave_step_by_step(served: tuple[Server, Prometheus]) -> None:
    server, prometheus = served
    step = timedelta(seconds=5)
    (series,) = await prometheus.values("x", NOW - timedelta(seconds=90), NOW, step)
    assert [s.value for s in series.samples] == [3.0, 7.0]
    (asked,) = server.asked
    assert float(asked["end"]) - float(asked["start"]) == 90
    assert asked["step"] == "5.000"
    server.gives("vector", [])
    with pytest.raises(MetricsUnusable, match="no series"):
        await prometheus.values("x", NOW, NOW, step)


async def test_hours_are_asked_for_in_pieces_and_each_sample_is_there_once(
    served: tuple[Server, Prometheus],
) -> None:
    server, prometheus = served
    start = NOW - timedelta(minutes=70)
    (series,) = await recorded(prometheus, "{}", start, NOW)
    assert [s.time for s in series.samples] == [1.5, 6.5]
    assert [a["query"] for a in server.asked] == ["{}[1800000ms]", "{}[1800000ms]", "{}[600000ms]"]
    server.asked.clear()
    (series,) = await recorded_values(prometheus, "x", start, NOW, timedelta(seconds=7))
    assert len(series.samples) == 2
    begins = [float(a["start"]) - start.timestamp() for a in server.asked]
    assert [b % 7 for b in begins] == [0.0] * 3, "all moments are steps of one ladder"
    assert begins == [0.0, 1806.0, 3612.0]


async def test_one_number(served: tuple[Server, Prometheus]) -> None:
    server, prometheus = served
    server.gives("vector", [{"metric": {}, "value": [1, "0.25"]}])
    assert await prometheus.scalar("x", NOW) == 0.25
    server.gives("scalar", [1, "3"])
    assert await prometheus.scalar("3", NOW) == 3.0
    server.gives("vector", [])
    assert await prometheus.scalar("x", NOW) is None


BAD: dict[str, tuple[dict[str, Any], type[MetricsError], str]] = {
    "a syntax error": (
        {
            "answer": {"status": "error", "errorType": "bad_data", "error": "parse error"},
            "status": 400,
        },
        MetricsRefused,
        "parse error",
    ),
    "an overload": (
        {"answer": {"status": "error", "errorType": "timeout", "error": "too slow"}, "status": 503},
        MetricsUnavailable,
        "too slow",
    ),
    "a page of a proxy": ({"text": "<html>", "status": 502}, MetricsUnavailable, "502"),
    "a list": ({"answer": []}, MetricsUnusable, "no object"),
}


@pytest.mark.parametrize(("given", "kind", "says"), BAD.values(), ids=BAD)
async def test_an_answer_that_is_none(
    served: tuple[Server, Prometheus], given: dict[str, Any], kind: type[MetricsError], says: str
) -> None:
    server, prometheus = served
    vars(server).update(given)
    with pytest.raises(kind, match=says):
        await prometheus.scalar("x", NOW)


SHAPES: dict[str, tuple[str, Any]] = {
    "several numbers": ("vector", [{"value": [1, "1"]}, {"value": [1, "2"]}]),
    "a string": ("string", [1, "x"]),
    "a sample without a value": ("vector", [{"value": [1]}]),
    "a value that is no number": ("vector", [{"value": [1, "much"]}]),
    "series that are none": ("vector", "x"),
}


@pytest.mark.parametrize(("kind", "result"), SHAPES.values(), ids=SHAPES)
async def test_a_result_of_the_wrong_shape(
    served: tuple[Server, Prometheus], kind: str, result: Any
) -> None:
    server, prometheus = served
    server.gives(kind, result)
    with pytest.raises(MetricsUnusable):
        await prometheus.scalar("x", NOW)


async def test_numbers_instead_of_series(served: tuple[Server, Prometheus]) -> None:
    server, prometheus = served
    server.gives("vector", [])
    with pytest.raises(MetricsUnusable, match="no series"):
        await prometheus.samples("{}", NOW, NOW)


async def test_nobody_is_there() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(MetricsUnavailable, match="does not answer"):
            await Prometheus(session, "http://127.0.0.1:9").scalar("x", NOW)
        with pytest.raises(MetricsUnavailable, match=r"set prometheus\.url"):
            await Prometheus(session, "").scalar("x", NOW)
