"""Not worse than the champion: bounds of a paired difference against the margin.

             -margin            0
    ---[==========]------------ | ---   Fail: even the upper bound is below
    --------[=====|=====]------ | ---   Unknown: more examples would tell
    --------------|--[====]---- | ---   Pass: even the lower bound is above

The bounds come from the evaluation pod, which has seen the answers; here they are only judged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from trimtab_api.v1alpha1.evaluated import Comparison, GateResult, Verdict
from trimtab_api.v1alpha1.evaluation import Gate, Metric
from trimtab_api.v1alpha1.modelversion import Opponents
from trimtab_operator.domain.modelversion import opponents as chosen

FEWEST_EXAMPLES: Final = 100
# Share of versions as good as the champion that the number of examples which is told lets pass.
POWER: Final = 0.8
_GRAVITY: Final = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS)


@dataclass(frozen=True)
class _Judged:
    verdict: Verdict
    message: str
    comparison: Comparison | None = None
    needed: int | None = None


def judge(gate: Gate, found: Sequence[Comparison], opponents: Opponents | None) -> GateResult:
    """The gravest verdict of all opponents; without any the gate does not apply."""
    if opponents is None:
        return GateResult(
            metric=gate.metric,
            passed=False,
            verdict=Verdict.UNKNOWN,
            message=f"{gate.metric} was evaluated before a champion was chosen; annotate trimtab.dev/retry",
        )
    names = chosen.against(opponents, gate.metric)
    if not names:
        return GateResult(
            metric=gate.metric,
            passed=True,
            verdict=Verdict.PASS,
            margin=gate.allowed_loss,
            message=f"{gate.metric} has no champion to be compared with: {opponents.reason}",
        )
    judged = [(name, _judge_one(gate, name, found, opponents)) for name in names]
    name, worst = min(judged, key=lambda pair: _GRAVITY.index(pair[1].verdict))
    seen = worst.comparison
    return GateResult(
        metric=gate.metric,
        passed=worst.verdict is Verdict.PASS,
        verdict=worst.verdict,
        message=worst.message[:512],
        champion=name,
        margin=gate.allowed_loss,
        difference=seen.difference if seen else None,
        low=seen.low if seen else None,
        high=seen.high if seen else None,
        examples=seen.examples if seen else None,
        examples_needed=worst.needed,
    )


def verdict_of(measured: Comparison, margin: float) -> Verdict:
    """What the bounds say. Few examples say nothing, whatever they look like."""
    if measured.low is None or measured.high is None or measured.examples < FEWEST_EXAMPLES:
        return Verdict.UNKNOWN
    if measured.low > -margin:
        return Verdict.PASS
    if measured.high < -margin:
        return Verdict.FAIL
    return Verdict.UNKNOWN


def examples_needed(deviation: float, margin: float, confidence: float) -> int:
    """So many let four of five versions pass that are as good as the champion."""
    normal = NormalDist()
    spread = (normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) * deviation / margin
    return max(FEWEST_EXAMPLES, math.ceil(spread**2))


def _judge_one(gate: Gate, name: str, found: Sequence[Comparison], opponents: Opponents) -> _Judged:
    role = "the champion" if name == opponents.champion else "the best version so far,"
    who = f"{role} {name}"
    measured = next((c for c in found if _is_about(c, gate, name)), None)
    if fault := _unmeasured(name, measured, opponents):
        return _Judged(Verdict.UNKNOWN, f"{gate.metric} cannot be compared with {who}: {fault}")
    if measured is None:
        message = f"{gate.metric} was not compared with {who}; annotate trimtab.dev/retry"
        return _Judged(Verdict.UNKNOWN, message)
    verdict = verdict_of(measured, gate.allowed_loss)
    numbers = _numbers(gate, measured)
    if verdict is Verdict.PASS:
        return _Judged(verdict, f"{gate.metric} is not worse than {who}: {numbers}", measured)
    if verdict is Verdict.FAIL:
        return _Judged(verdict, f"{gate.metric} is worse than {who}: {numbers}", measured)
    needed = examples_needed(measured.deviation or 0, gate.allowed_loss, gate.sureness)
    more = f"about {needed}" if needed > measured.examples else f"more than {measured.examples}"
    message = (
        f"{gate.metric} cannot yet be told from {who}: {numbers}; it needs {more} examples "
        f"(held-out records, and evaluation.maxExamples), or a larger margin"
    )
    return _Judged(verdict, message, measured, max(needed, measured.examples + 1))


def _is_about(comparison: Comparison, gate: Gate, name: str) -> bool:
    return (comparison.version, comparison.metric) == (name, gate.metric) and math.isclose(
        comparison.confidence, gate.sureness
    )


def _unmeasured(name: str, measured: Comparison | None, opponents: Opponents) -> str | None:
    """Why there are no numbers, with the remedy."""
    known = next((c for c in opponents.contenders if c.name == name), None)
    problem = (known.problem if known else None) or (measured.problem if measured else None)
    if problem is None:
        return None
    return f"{problem}; restore it or delete that version, then annotate trimtab.dev/retry"


def _numbers(gate: Gate, measured: Comparison) -> str:
    if measured.difference is None or measured.low is None or measured.high is None:
        return "no example was answered by both"
    unit = " of the champion's" if gate.metric is Metric.PERPLEXITY else ""
    return (
        f"difference {measured.difference:+.4f}{unit}, between {measured.low:+.4f} and "
        f"{measured.high:+.4f} at {gate.sureness:.4g} each, margin {gate.allowed_loss:.4g}, "
        f"{measured.examples} examples"
    )
