"""The suite Judge in the whole stage: a real, tiny model, and a judge on loopback."""

import re
from pathlib import Path

import pytest
from tests.chatserver import MODEL, Reply, chat_server
from tests.evaluationkit import World
from tests.ociserver import FakeRegistry
from tests.pods import pairs
from tests.tinymodels import save_base

from trimtab_api import names
from trimtab_api.documents.evaluation import JudgeRun, SuiteRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.evaluation import Metric, SuiteName
from trimtab_api.v1alpha1.judge import Judge

RECORDS = pairs(12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), context=512)


@pytest.fixture
def world(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, registry, monkeypatch)


def suite(url: str, **changes: object) -> SuiteRun:
    judge = Judge.model_validate({"endpoint": {"url": url, "model": MODEL}, **changes})
    return SuiteRun(name=SuiteName.JUDGE, judge=JudgeRun(judge=judge, url=url))


def reference_wins(shown: str) -> str:
    found = re.search(r"Q(\d+)\?", shown)
    assert found
    number = found[1]
    is_first = f"Answer A:\nA{number}." in shown
    return f"Verdict: {'A' if is_first else 'B'}"


def test_the_win_rate_is_a_figure_with_an_interval_and_the_counts_are_told(
    world: World, base: Path
) -> None:
    root = world.mount(base)
    world.secret("judge", OPENAI_API_KEY="sk-judge")
    with chat_server(reference_wins, key="sk-judge") as server:
        result = world.evaluate(
            world.adapter(root), root, data=world.data(RECORDS), suites=[suite(server.url)]
        )
    assert world.exit_code == 0, result
    rate = next(value for value in result.metrics if value.metric is Metric.JUDGE_WIN_RATE)
    assert (rate.value, rate.low, rate.high) == (0.0, 0.0, 0.0), "a random model never wins"
    assert result.judge is not None
    assert (result.judge.examples, result.judge.off_format) == (result.examples, 0)
    assert world.report(result).judge == result.judge
    assert len(server.requests) == 2 * result.examples


def test_a_full_version_has_no_base_to_be_judged_against(world: World, base: Path) -> None:
    root = world.mount(base)
    with chat_server(reference_wins) as server:
        result = world.evaluate(
            root, None, data=world.data(RECORDS), suites=[suite(server.url, against="Base")]
        )
    assert world.exit_code == 0
    assert Metric.JUDGE_WIN_RATE not in {value.metric for value in result.metrics}
    assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "reason", "exit_code"),
    [
        pytest.param(
            Reply("A difficult question."),
            FailureReason.ANSWERS_OFF_FORMAT,
            names.EXIT_USER_ERROR,
            id="off format",
        ),
        pytest.param(
            Reply(status=503, headers={"Retry-After": "0"}),
            FailureReason.ENDPOINT_UNREACHABLE,
            names.EXIT_RETRYABLE,
            id="down",
        ),
    ],
)
def test_a_judge_that_fails_ends_the_evaluation_with_the_reason(
    world: World, base: Path, reply: Reply, reason: FailureReason, exit_code: int
) -> None:
    root = world.mount(base)
    with chat_server(lambda _: reply) as server:
        result = world.evaluate(root, None, data=world.data(RECORDS), suites=[suite(server.url)])
    assert world.exit_code == exit_code
    assert result.failure is not None
    assert result.failure.reason == reason
    assert result.report_uri is None
