"""What a judge is asked and what its words count for, without a network."""

import pytest
from tests.chatserver import MODEL, Answering, Reply, chat_server

from trimtab_api.documents.evaluation import JudgeRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.judge import Judge
from trimtab_pipelines.evaluation.intervals import estimate
from trimtab_pipelines.evaluation.said import Answer, Example, Observations, Said
from trimtab_pipelines.evaluation.suites.judging import (
    Judged,
    Match,
    asked,
    judged,
    matches_of,
    score,
    verdict_in,
)
from trimtab_pipelines.runtime import RunError


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("Both are fine, A says more.\nVerdict: A", 1.0, id="the first"),
        pytest.param("verdict: **B**.", 0.0, id="the second, in bold"),
        pytest.param("Verdict: tie", 0.5, id="a tie"),
        pytest.param("Verdict: a tie", 0.5, id="a tie with its article"),
        pytest.param("Verdict: Answer B", 0.0, id="named as an answer"),
        pytest.param("Verdict: A? No. Verdict: B", 0.0, id="the last one counts"),
        pytest.param("[A]", 1.0, id="a letter alone"),
        pytest.param("Answer A is a good answer.", None, id="an opinion without a verdict"),
        pytest.param("Verdict: both", None, id="another word"),
        pytest.param("Verdict: ABBA", None, id="a word that begins so"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_verdict_is_read_or_there_is_none(answer: str, expected: float | None) -> None:
    assert verdict_in(answer) == expected


@pytest.mark.parametrize(
    ("when_first", "when_second", "expected"),
    [
        pytest.param(1.0, 0.0, 1.0, id="wins in both places"),
        pytest.param(0.0, 1.0, 0.0, id="loses in both places"),
        pytest.param(1.0, 1.0, 0.5, id="the first place wins"),
        pytest.param(0.5, 0.0, 0.75, id="a tie and a win"),
        pytest.param(None, 0.0, None, id="one verdict is missing"),
    ],
)
def test_the_mean_of_both_places_counts(
    when_first: float | None, when_second: float | None, expected: float | None
) -> None:
    assert score(when_first, when_second) == expected


def test_the_judge_sees_both_answers_in_either_place_and_what_counts() -> None:
    match = Match("Why?", "because", "since", reference="as it is")
    first = asked(match, "It is short.", is_own_first=True)
    second = asked(match, None, is_own_first=False)
    assert "Answer A:\nbecause\n\nAnswer B:\nsince" in first.messages[1][1]
    assert "Answer A:\nsince\n\nAnswer B:\nbecause" in second.messages[1][1]
    assert "as it is" in first.messages[1][1]
    assert "It is short." in first.messages[0][1]
    assert first.temperature == 0


def observed(count: int, answer: str = "own {}") -> Observations:
    records = [{"prompt": f"Q{n}?", "completion": f"reference {n}"} for n in range(count)]
    examples = [Example(n, r, [1], [1, 2], [0, 2], is_cut=False) for n, r in enumerate(records)]
    answers = [Answer(answer.format(n), 2, is_finished=True) for n in range(count)]
    return Observations(examples, Said([(1.0, 1)] * count, answers))


def run_at(url: str, **changes: object) -> JudgeRun:
    wire = {"endpoint": {"url": url, "model": MODEL, "concurrency": 8}, **changes}
    return JudgeRun(judge=Judge.model_validate(wire), url=url)


def found(answering: Answering, count: int = 40, **changes: object) -> tuple[Judged, int]:
    base = Said([], [Answer(f"base {n}", 2, is_finished=True) for n in range(count)])
    with chat_server(answering) as server:
        result = judged(run_at(server.url, **changes), observed(count), base)
        return result, len(server.requests)


def first_answer(shown: str) -> str:
    return shown.partition("Answer A:\n")[2].partition("\n")[0]


def prefers(start: str) -> Answering:
    return lambda shown: f"Verdict: {'A' if first_answer(shown).startswith(start) else 'B'}"


def win_rate(result: Judged) -> float:
    assert result.measure is not None
    return estimate(result.measure.rows, result.measure.statistic).value


@pytest.mark.parametrize(
    ("answering", "rate", "inconsistent"),
    [
        pytest.param(prefers("own"), 1.0, 0, id="always the version"),
        pytest.param(prefers("reference"), 0.0, 0, id="always the other side"),
        pytest.param(lambda _: "Verdict: A", 0.5, 40, id="always what is shown first"),
        pytest.param(lambda _: "Verdict: tie", 0.5, 0, id="nobody"),
    ],
)
def test_the_win_rate_is_free_of_the_place(
    answering: Answering, rate: float, inconsistent: int
) -> None:
    result, requests = found(answering)
    assert win_rate(result) == rate
    assert (result.counts.examples, result.counts.inconsistent) == (40, inconsistent)
    assert requests == 80


def test_the_base_is_judged_against_on_request_and_only_so_many_examples() -> None:
    result, requests = found(prefers("base"), against="Base", maxExamples=10)
    assert win_rate(result) == 0.0
    assert (result.counts.examples, requests) == (10, 20)


def test_equal_answers_are_not_asked_about() -> None:
    with chat_server(lambda _: "Verdict: A") as server:
        result = judged(run_at(server.url), observed(5, "reference {}"), None)
    assert win_rate(result) == 0.5
    assert server.requests == []


def test_without_answers_or_a_base_there_is_no_figure() -> None:
    run = run_at("http://127.0.0.1:1/v1", against="Base")
    assert matches_of(run, observed(3), None) == []
    silent = Observations(observed(3).examples, Said([(1.0, 1)] * 3, []))
    assert judged(run_at("http://127.0.0.1:1/v1"), silent, None).figures() == {}


def test_answers_off_format_are_left_out_and_counted() -> None:
    def slurred(shown: str) -> str:
        return "Hard to say." if "Q7?" in shown else "Verdict: A"

    result, _ = found(slurred)
    assert (result.counts.examples, result.counts.off_format) == (39, 1)


@pytest.mark.parametrize(
    ("answering", "requests"),
    [
        pytest.param(lambda _: "I like both.", 64, id="always, found out with the first ones"),
        pytest.param(
            lambda shown: Reply("" if int(shown.partition("?")[0].rpartition("Q")[2]) % 3 else "A"),
            80,
            id="often",
        ),
    ],
)
def test_a_judge_that_cannot_be_understood_is_a_failure(
    answering: Answering, requests: int
) -> None:
    with chat_server(answering) as server, pytest.raises(RunError) as caught:
        judged(run_at(server.url), observed(40), None)
    assert caught.value.reason is FailureReason.ANSWERS_OFF_FORMAT
    assert "the judge teacher has no verdict that can be read" in caught.value.message
    assert len(server.requests) == requests


def test_a_judge_that_refuses_ends_the_evaluation() -> None:
    with (
        chat_server(lambda _: Reply(status=422, body=b'{"error": "too long"}')) as server,
        pytest.raises(RunError) as caught,
    ):
        judged(run_at(server.url), observed(3), None)
    assert caught.value.reason is FailureReason.ENDPOINT_REFUSED
    assert "the judge" in caught.value.message
    assert "too long" in caught.value.message
