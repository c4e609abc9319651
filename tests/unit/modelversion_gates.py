"""Gates: figures against thresholds."""

import pytest

from trimtab_api.v1alpha1.evaluated import EvaluationStatus, MetricValue
from trimtab_api.v1alpha1.evaluation import Gate, Metric
from trimtab_operator.domain.modelversion.gates import judge

AT_LEAST = Gate(metric=Metric.ROUGE_L, at_least=0.3)
AT_MOST = Gate(metric=Metric.PERPLEXITY, at_most=12.0)
BETWEEN = Gate(metric=Metric.BLEU, at_least=0.1, at_most=0.9)


@pytest.mark.parametrize(
    ("gate", "value", "passed", "message"),
    [
        pytest.param(AT_LEAST, 0.3, True, "RougeL 0.3 is at least 0.3", id="equal to the least"),
        pytest.param(AT_LEAST, 0.29, False, "RougeL 0.29 is below 0.3", id="below the least"),
        pytest.param(AT_MOST, 12.0, True, "Perplexity 12 is at most 12", id="equal to the most"),
        pytest.param(AT_MOST, 12.5, False, "Perplexity 12.5 is above 12", id="above the most"),
        pytest.param(BETWEEN, 0.5, True, "Bleu 0.5 is at least 0.1 and at most 0.9", id="between"),
        pytest.param(AT_LEAST, float("nan"), False, "RougeL is not a number", id="not a number"),
        pytest.param(
            AT_LEAST,
            None,
            False,
            "RougeL was not measured; it needs held-out data (spec.evaluation.dataset)",
            id="not measured",
        ),
    ],
)
def test_gate(gate: Gate, value: float | None, passed: bool, message: str) -> None:
    metrics = [] if value is None else [MetricValue(metric=gate.metric, value=value)]
    (result,) = judge([gate], EvaluationStatus(metrics=metrics))
    assert (result.passed, result.message) == (passed, message)
