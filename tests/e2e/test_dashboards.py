"""The dashboards' queries against the cluster's own Prometheus: there is something to see."""

import os
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from tests.e2e.world import QUESTION
from tests.unit.house_monitoring import EXPRESSIONS, asked

from trimtab_local.layout import layout_from

# Prometheus scrapes every 5 s, and what it is to scrape it learns from a file.
SEEN_WITHIN: Final = 60.0
# They begin with the first event of their kind, which a run may not have.
NOT_IN_EVERY_RUN: Final = frozenset(
    {
        "trimtab_gateway_captured_total",
        "trimtab_gateway_feedback_refused_total",
        "trimtab_gateway_feedback_total",
        "trimtab_gateway_refusals_total",
        "trimtab_gateway_throttled_total",
        "trimtab_gateway_unusual_keys",
        "trimtab_operator_drift",
        "trimtab_operator_errors_total",
        "trimtab_operator_promotions_total",
        "trimtab_operator_rollbacks_total",
        "trimtab_operator_watch_restarts_total",
        "trimtab_training_eval_loss",
    }
)
VARIABLES: Final = {"$__rate_interval": "1m", "$namespace": ".*", "$model": ".*"}


@pytest.fixture(scope="module")
def prometheus(served: str) -> Iterator[httpx.Client]:
    """Prometheus, while a service answers, streamed and not."""
    for stream in (False, True):
        body = {"model": "bot", "stream": stream, **QUESTION}
        answer = httpx.post(f"{served}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
    address = f"http://127.0.0.1:{layout_from(os.environ).ports.prometheus}"
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def found(prometheus: httpx.Client, path: str, **parameters: str) -> list[Any]:
    answer = prometheus.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    return list(data["result"] if isinstance(data, dict) else data)


def test_every_series_that_is_asked_for_was_scraped(prometheus: httpx.Client) -> None:
    wanted = {name for each in EXPRESSIONS.values() for name, _ in asked(each)} - NOT_IN_EVERY_RUN
    deadline = time.monotonic() + SEEN_WITHIN
    while missing := sorted(
        name for name in wanted if not found(prometheus, "/api/v1/series", **{"match[]": name})
    ):
        assert time.monotonic() < deadline, missing
        time.sleep(2)


@pytest.mark.parametrize("place", [place for place in EXPRESSIONS if "/$" not in place])
def test_prometheus_takes_the_query(prometheus: httpx.Client, place: str) -> None:
    query = re.sub(
        r"\$\w+", lambda variable: VARIABLES.get(variable[0], variable[0]), EXPRESSIONS[place]
    )
    found(prometheus, "/api/v1/query", query=query)
