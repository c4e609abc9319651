"""Bounds of a difference against the margin: Pass, Fail, Unknown, and how many examples would tell."""

import pytest

from trimtab_api.v1alpha1.evaluated import (
    BestVersion,
    Comparison,
    EvaluationStatus,
    GateResult,
    MetricValue,
    Verdict,
)
from trimtab_api.v1alpha1.evaluation import Gate, Metric, Opponent
from trimtab_api.v1alpha1.modelversion import ArtifactKind, Contender, Opponents
from trimtab_operator.domain.modelversion.comparisons import examples_needed, verdict_of
from trimtab_operator.domain.modelversion.gates import failed, judge

GATE = Gate(metric=Metric.ROUGE_L, not_worse_than=Opponent.CHAMPION)


def measured(low: float | None, high: float | None, n: int = 1000, **more: object) -> Comparison:
    middle = None if low is None or high is None else (low + high) / 2
    return Comparison.model_validate(
        {
            "version": "a",
            "metric": "RougeL",
            "confidence": 0.95,
            "value": 0.4,
            "difference": middle,
            "low": low,
            "high": high,
            "deviation": 0.232,
            "examples": n,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("low", "high", "n", "verdict"),
    [
        pytest.param(-0.0199, 0.01, 1000, "Pass", id="even the lower bound is above"),
        pytest.param(-0.02, 0.01, 1000, "Unknown", id="the lower bound is the margin"),
        pytest.param(-0.05, 0.01, 1000, "Unknown", id="the margin lies within"),
        pytest.param(-0.05, -0.02, 1000, "Unknown", id="the upper bound is the margin"),
        pytest.param(-0.05, -0.0201, 1000, "Fail", id="even the upper bound is below"),
        pytest.param(0.1, 0.2, 99, "Unknown", id="a few examples say nothing good"),
        pytest.param(-0.2, -0.1, 99, "Unknown", id="a few examples say nothing bad"),
        pytest.param(0.1, 0.2, 100, "Pass", id="a hundred are enough"),
        pytest.param(None, None, 0, "Unknown", id="nothing was measured"),
        pytest.param(float("nan"), float("nan"), 1000, "Unknown", id="not a number"),
    ],
)
def test_the_verdict(low: float | None, high: float | None, n: int, verdict: str) -> None:
    assert verdict_of(measured(low, high, n), 0.02) == verdict


@pytest.mark.parametrize(
    ("margin", "expected"), [(0.01, 3328), (0.02, 832), (0.03, 370), (0.05, 134), (0.5, 100)]
)
def test_the_number_of_examples_that_would_tell(margin: float, expected: int) -> None:
    assert examples_needed(0.232, margin, 0.95) == pytest.approx(expected, abs=3)


def opponents(*best: str, problem: str | None = None) -> Opponents:
    names = dict.fromkeys(["a", *best])
    return Opponents(
        champion="a",
        reason="active in 1 InferenceService",
        best=[BestVersion(metric=Metric.ROUGE_L, version=name) for name in best],
        contenders=[
            Contender(name=name, uri="oci://x/y@sha256:1", kind=ArtifactKind.FULL, problem=problem)
            for name in names
        ],
    )


def judged(*found: Comparison, against: Opponents | None, gate: Gate = GATE) -> GateResult:
    evaluation = EvaluationStatus(
        examples=1000,
        metrics=[MetricValue(metric=gate.metric, value=0.4)],
        comparisons=list(found),
    )
    (result,) = judge([gate], evaluation, against)
    return result


def test_an_undecided_gate_says_how_many_examples_it_needs() -> None:
    result = judged(measured(-0.05, 0.01, 200), against=opponents())
    assert (result.passed, result.verdict, result.examples_needed) == (False, "Unknown", 832)
    assert "it needs about 832 examples" in result.message
    assert "margin 0.02, 200 examples" in result.message


def test_where_the_formula_says_less_than_there_was_more_is_asked_for_all_the_same() -> None:
    result = judged(measured(-0.03, -0.019, 5000), against=opponents())
    assert result.examples_needed == 5001
    assert "more than 5000" in result.message


def test_the_best_so_far_must_be_stood_against_too() -> None:
    champion, best = measured(-0.01, 0.01), measured(-0.06, -0.03, version="b")
    result = judged(champion, best, against=opponents("b"))
    assert (result.verdict, result.champion, result.difference) == ("Fail", "b", -0.045)
    assert "the best version so far, b" in result.message


def test_a_fail_outweighs_an_unknown_and_an_unknown_a_pass() -> None:
    good, open_ = measured(-0.01, 0.01), measured(-0.06, 0.03, version="b")
    assert judged(good, open_, against=opponents("b")).verdict is Verdict.UNKNOWN
    bad = measured(-0.06, -0.03)
    assert judged(bad, open_, against=opponents("b")).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("found", "against", "says"),
    [
        pytest.param([], opponents(), "was not compared with the champion a", id="no comparison"),
        pytest.param([measured(0, 1, confidence=0.9)], opponents(), "was not compared", id="another confidence"),
        pytest.param([measured(0, 1, version="z")], opponents(), "was not compared", id="another version"),
        pytest.param([measured(None, None, 0, problem="UnsafeFormat: a pickle")], opponents(), "a pickle; restore it", id="a contender that cannot be loaded"),
        pytest.param([], opponents(problem="it is gone"), "it is gone; restore it", id="a contender that is gone"),
        pytest.param([measured(None, None, 0)], opponents(), "no example was answered by both", id="nothing in common"),
        pytest.param([measured(0, 1)], None, "before a champion was chosen", id="nobody was chosen"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_unknown(
    found: list[Comparison], against: Opponents | None, says: str
) -> None:
    result = judged(*found, against=against)
    assert (result.passed, result.verdict) == (False, Verdict.UNKNOWN)
    assert says in result.message


def test_without_a_champion_the_gate_does_not_apply() -> None:
    result = judged(against=Opponents(reason="no other version of the model is Ready or active"))
    assert (result.passed, result.verdict) == (True, Verdict.PASS)
    assert "no other version" in result.message


def test_margin_and_confidence_are_those_of_the_gate() -> None:
    gate = Gate(
        metric=Metric.ROUGE_L, not_worse_than=Opponent.CHAMPION, margin=0.1, confidence=0.99
    )
    found = measured(-0.08, 0.0, confidence=0.99)
    assert judged(found, against=opponents(), gate=gate).passed
    assert not judged(measured(-0.08, 0.0), against=opponents(), gate=gate).passed


def test_what_is_known_to_be_missed_is_told_first() -> None:
    unknown = GateResult(metric=Metric.LOSS, passed=False, verdict=Verdict.UNKNOWN, message="?")
    fail = GateResult(metric=Metric.BLEU, passed=False, verdict=Verdict.FAIL, message="!")
    assert failed([unknown, fail]) == (fail, unknown)
