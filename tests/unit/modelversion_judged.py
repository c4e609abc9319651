"""What a judge and a harness have found, on its way from the pod to the gates and to status."""

import pytest
from tests.servingbuilders import a_version, uri_of

from trimtab_api.documents import EvaluationResult
from trimtab_api.v1alpha1.evaluated import EvaluationStatus, MetricValue, Verdict
from trimtab_api.v1alpha1.evaluation import Gate, Metric
from trimtab_api.v1alpha1.harness import HarnessFigure
from trimtab_api.v1alpha1.judge import JudgeCounts
from trimtab_operator.domain.modelversion import gates
from trimtab_operator.domain.modelversion.verdict import of_result

COUNTS = JudgeCounts(examples=90, off_format=10, inconsistent=7)


def test_the_counts_of_a_judge_are_in_status() -> None:
    version = a_version(evaluation={"dataset": {"uri": uri_of("data")}})
    rate = MetricValue(metric=Metric.JUDGE_WIN_RATE, value=0.6, low=0.5, high=0.7)
    found = of_result(version, EvaluationResult(examples=100, metrics=[rate], judge=COUNTS))
    assert found.evaluation is not None
    assert found.evaluation.judge == COUNTS


def test_the_tasks_of_a_harness_are_in_status_one_by_one() -> None:
    version = a_version(evaluation={"dataset": {"uri": uri_of("data")}})
    figure = HarnessFigure(task="capitals", metric="acc", value=0.6, low=0.5, high=0.7, examples=90)
    found = of_result(version, EvaluationResult(harness=[figure]))
    assert found.evaluation is not None
    assert found.evaluation.harness == [figure]


@pytest.mark.parametrize(
    ("rate", "verdict", "told"),
    [
        pytest.param(0.6, Verdict.PASS, "0.6", id="it wins often enough"),
        pytest.param(0.4, Verdict.FAIL, "below 0.5", id="it loses too often"),
        pytest.param(None, Verdict.UNKNOWN, "against: Base, an adapter", id="nobody has judged"),
    ],
)
def test_a_gate_judges_the_win_rate(rate: float | None, verdict: Verdict, told: str) -> None:
    gate = Gate(metric=Metric.JUDGE_WIN_RATE, at_least=0.5)
    metrics = [] if rate is None else [MetricValue(metric=gate.metric, value=rate)]
    (result,) = gates.judge([gate], EvaluationStatus(metrics=metrics))
    assert result.verdict is verdict
    assert told in result.message
