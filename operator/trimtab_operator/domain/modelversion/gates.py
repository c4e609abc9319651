"""Gates: the figures of an evaluation against what the version must show.

Each rule names the fault that it finds. A figure that was not measured never passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trimtab_api.v1alpha1.evaluated import EvaluationStatus, GateResult, MetricValue, Verdict
from trimtab_api.v1alpha1.evaluation import OF_LABELS, SUITE_METRICS, Gate, Metric
from trimtab_api.v1alpha1.modelversion import Opponents
from trimtab_operator.domain.modelversion import comparisons


@dataclass(frozen=True)
class Fault:
    """Why a gate is not passed."""

    message: str
    verdict: Verdict = Verdict.FAIL


Rule = Callable[[Gate, MetricValue | None], Fault | None]


def figure_missing(gate: Gate, measured: MetricValue | None) -> Fault | None:
    """Without held-out data there is nothing to judge, and silence is no pass."""
    if measured is None:
        return Fault(f"{gate.metric} was not measured; {_needs(gate.metric)}", Verdict.UNKNOWN)
    return None


def not_a_number(gate: Gate, measured: MetricValue | None) -> Fault | None:
    """Comparisons with NaN are all false, so that it would slip through the others."""
    if measured is not None and measured.value != measured.value:
        return Fault(f"{gate.metric} is not a number")
    return None


def too_low(gate: Gate, measured: MetricValue | None) -> Fault | None:
    if measured is not None and gate.at_least is not None and measured.value < gate.at_least:
        return Fault(f"{gate.metric} {_text(measured.value)} is below {_text(gate.at_least)}")
    return None


def too_high(gate: Gate, measured: MetricValue | None) -> Fault | None:
    if measured is not None and gate.at_most is not None and measured.value > gate.at_most:
        return Fault(f"{gate.metric} {_text(measured.value)} is above {_text(gate.at_most)}")
    return None


RULES: tuple[Rule, ...] = (figure_missing, not_a_number, too_low, too_high)


def judge(
    gates: Sequence[Gate], evaluation: EvaluationStatus, opponents: Opponents | None = None
) -> tuple[GateResult, ...]:
    """What becomes of each gate, in the order of the spec."""
    by_metric = {m.metric: m for m in evaluation.metrics}
    return tuple(
        _judge_one(gate, by_metric.get(gate.metric), evaluation, opponents) for gate in gates
    )


def failed(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """The gates that did not pass, those that are known to be missed first."""
    missed = [r for r in results if not r.passed]
    return tuple(sorted(missed, key=lambda r: r.verdict is Verdict.UNKNOWN))


def _judge_one(
    gate: Gate,
    measured: MetricValue | None,
    evaluation: EvaluationStatus,
    opponents: Opponents | None,
) -> GateResult:
    for rule in RULES:
        if fault := rule(gate, measured):
            return GateResult(
                metric=gate.metric, passed=False, verdict=fault.verdict, message=fault.message
            )
    if gate.not_worse_than:
        return comparisons.judge(gate, evaluation.comparisons, opponents)
    value = "" if measured is None else f" {_text(measured.value)}"
    return GateResult(
        metric=gate.metric,
        passed=True,
        verdict=Verdict.PASS,
        message=f"{gate.metric}{value} is {_bounds(gate)}",
    )


def _needs(metric: Metric) -> str:
    if metric is Metric.FORGETTING:
        return "it needs a base: an adapter's, or the parent of a full version"
    if metric is Metric.JUDGE_WIN_RATE:
        return (
            "the judge needs held-out questions with answers (spec.evaluation.dataset), and, with "
            "against: Base, an adapter"
        )
    if metric in SUITE_METRICS:
        return "it needs cases of that kind in its suite that fit into the context"
    if metric in OF_LABELS:
        return "it needs held-out records with a label"
    return "it needs held-out data (spec.evaluation.dataset)"


def _bounds(gate: Gate) -> str:
    parts = []
    if gate.at_least is not None:
        parts.append(f"at least {_text(gate.at_least)}")
    if gate.at_most is not None:
        parts.append(f"at most {_text(gate.at_most)}")
    return " and ".join(parts) or "without bounds"


def _text(value: float) -> str:
    return f"{value:.4g}"
