"""How often `notWorseThan: Champion` passes candidates whose true difference is known.

Simulated scores go through the code that really decides: the pod's paired bootstrap
(`trimtab_pipelines.evaluation.comparing`) and the operator's verdict on its bounds
(`trimtab_operator.domain.modelversion.gates`). Nothing of either is written a second time here.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_api.v1alpha1.evaluated import EvaluationStatus, MetricValue
from trimtab_api.v1alpha1.evaluation import Gate, Metric, Opponent
from trimtab_api.v1alpha1.modelversion import ArtifactKind, Contender, Opponents
from trimtab_operator.domain.modelversion.gates import judge
from trimtab_pipelines.evaluation import intervals
from trimtab_pipelines.evaluation.comparing import comparison_of
from trimtab_pipelines.evaluation.measures import Measure

RESULTS = Path(__file__).parents[1] / "results" / "gates.json"
SEED = 20_261_127
# 5 % and the 99 % limit of what 2,000 runs may show of it.
MOST_WRONG = 0.062
_AGAINST = Opponents(
    champion="champion",
    reason="simulated",
    contenders=[Contender(name="champion", uri="oci://a/b@sha256:0", kind=ArtifactKind.FULL)],
)

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], tuple[Scores, Scores]]


def overlaps(source: np.random.Generator, count: int, loss: float) -> tuple[Scores, Scores]:
    """Normal scores of standard deviation 0.3, correlated by 0.7, as overlaps of words are."""
    shared = source.normal(0, 0.3 * np.sqrt(0.7), count)
    own, other = (shared + source.normal(0, 0.3 * np.sqrt(0.3), count) for _ in range(2))
    return 0.5 - loss + own, 0.5 + other


def matches(source: np.random.Generator, count: int, loss: float) -> tuple[Scores, Scores]:
    """Right or wrong: the champion is right nine times in ten, and both often agree."""
    other = source.random(count) < 0.9
    falls = 0.05 + loss / 0.9  # of what the champion had right; 0.45 of the rest is won back
    own = np.where(other, source.random(count) >= falls, source.random(count) < 0.45)
    return own.astype(np.float64), other.astype(np.float64)


@dataclass(frozen=True)
class Setting:
    """One kind of scores, on so many examples, with this margin."""

    scores: str
    draw: Draw
    examples: int
    margin: float


SETTINGS = [
    Setting("overlap", overlaps, 1000, 0.02),
    Setting("exact match", matches, 1000, 0.02),
    Setting("overlap", overlaps, 200, 0.05),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    given = parser.parse_args()
    began = time.monotonic()
    rows = [measured(setting, given.runs) for setting in SETTINGS]
    result = {
        "runs": given.runs,
        "seed": SEED,
        "resamples": intervals.RESAMPLES,
        "bootstrapSeed": intervals.SEED,
        "confidence": 0.95,
        "settings": rows,
        "seconds": round(time.monotonic() - began),
    }
    text = json.dumps(result, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")
    worst = max(row["worseByTheMargin"]["Pass"] for row in rows)
    assert worst <= MOST_WRONG, f"{worst:.1%} of candidates that are worse by the margin pass"


def measured(setting: Setting, runs: int) -> dict[str, Any]:
    """The verdicts on candidates that are equal, and on those that are worse by exactly the margin."""
    losses = {"equal": 0.0, "worseByTheMargin": setting.margin}
    return {
        "scores": setting.scores,
        "examples": setting.examples,
        "margin": setting.margin,
        **{name: shares(setting, loss, runs) for name, loss in losses.items()},
    }


def shares(setting: Setting, loss: float, runs: int) -> dict[str, float]:
    """How often each verdict is given."""
    source = np.random.default_rng([SEED, setting.examples, round(1e6 * loss)])
    counts = dict.fromkeys(("Pass", "Fail", "Unknown"), 0)
    for _ in range(runs):
        counts[verdict(setting, *setting.draw(source, setting.examples, loss))] += 1
    return {name: round(count / runs, 4) for name, count in counts.items()}


def verdict(setting: Setting, own: Scores, other: Scores) -> str:
    """What the operator would say of these scores."""
    gate = Gate(metric=Metric.ROUGE_L, not_worse_than=Opponent.CHAMPION, margin=setting.margin)
    mine, theirs = (
        Measure(np.column_stack([scores, np.ones_like(scores)]).tolist(), intervals.ratio)
        for scores in (own, other)
    )
    found = comparison_of("champion", gate.metric, gate.sureness, mine, theirs)
    evaluation = EvaluationStatus(
        examples=setting.examples,
        metrics=[MetricValue(metric=gate.metric, value=float(own.mean()))],
        comparisons=[found],
    )
    (result,) = judge([gate], evaluation, _AGAINST)
    return str(result.verdict)


if __name__ == "__main__":
    main()
