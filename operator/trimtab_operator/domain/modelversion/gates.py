"""Gates: the figures of an evaluation against what the version must show.

Each rule names the fault that it finds. A figure that was not measured never passes.
"""

from collections.abc import Callable, Sequence

from trimtab_api.v1alpha1.common import Gate
from trimtab_api.v1alpha1.modelversion import GateResult, MetricValue

Rule = Callable[[Gate, MetricValue | None], str | None]


def figure_missing(gate: Gate, measured: MetricValue | None) -> str | None:
    """Without held-out data there is nothing to judge, and silence is no pass."""
    if measured is None:
        return f"{gate.metric} was not measured; it needs held-out data (spec.evaluation.dataset)"
    return None


def not_a_number(gate: Gate, measured: MetricValue | None) -> str | None:
    """Comparisons with NaN are all false, so that it would slip through the others."""
    if measured is not None and measured.value != measured.value:
        return f"{gate.metric} is not a number"
    return None


def too_low(gate: Gate, measured: MetricValue | None) -> str | None:
    if measured is not None and gate.at_least is not None and measured.value < gate.at_least:
        return f"{gate.metric} {_text(measured.value)} is below {_text(gate.at_least)}"
    return None


def too_high(gate: Gate, measured: MetricValue | None) -> str | None:
    if measured is not None and gate.at_most is not None and measured.value > gate.at_most:
        return f"{gate.metric} {_text(measured.value)} is above {_text(gate.at_most)}"
    return None


RULES: tuple[Rule, ...] = (figure_missing, not_a_number, too_low, too_high)


def judge(gates: Sequence[Gate], metrics: Sequence[MetricValue]) -> tuple[GateResult, ...]:
    """What becomes of each gate, in the order of the spec."""
    by_metric = {m.metric: m for m in metrics}
    return tuple(_judge_one(gate, by_metric.get(gate.metric)) for gate in gates)


def failed(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """The gates that did not pass."""
    return tuple(r for r in results if not r.passed)


def _judge_one(gate: Gate, measured: MetricValue | None) -> GateResult:
    for rule in RULES:
        if fault := rule(gate, measured):
            return GateResult(metric=gate.metric, passed=False, message=fault)
    value = "" if measured is None else f" {_text(measured.value)}"
    return GateResult(
        metric=gate.metric, passed=True, message=f"{gate.metric}{value} is {_bounds(gate)}"
    )


def _bounds(gate: Gate) -> str:
    parts = []
    if gate.at_least is not None:
        parts.append(f"at least {_text(gate.at_least)}")
    if gate.at_most is not None:
        parts.append(f"at most {_text(gate.at_most)}")
    return " and ".join(parts) or "without bounds"


def _text(value: float) -> str:
    return f"{value:.4g}"
