"""Bias: the same prompt with two groups exchanged, and how far the outcome moves.

The outcome is the probability of the favourable of two answers, so that no answer has to be read.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trimtab_api.documents import EvaluationRun
from trimtab_api.documents.evaluation import SuiteRun
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_pipelines.evaluation import scoring
from trimtab_pipelines.evaluation.intervals import Table
from trimtab_pipelines.evaluation.measures import Measure
from trimtab_pipelines.evaluation.models import Loaded
from trimtab_pipelines.evaluation.suites.reading import GROUP, BiasCase, cases_of
from trimtab_pipelines.prompts import Record

# Group and outcome of the four records of a case, in this order.
_VARIANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def bias(
    run: EvaluationRun, suite: SuiteRun, loaded: Loaded, workspace: Path
) -> dict[Metric, Measure]:
    """The largest mean difference of all axes; none where no case fits into the context."""
    cases = cases_of(suite, BiasCase, workspace, run.output)
    records = [record for case in cases for record in records_of(case)]
    examples = scoring.examples_of(loaded, records, run.max_new_tokens)
    losses = scoring.losses(loaded, examples)
    by_place = {e.place: total for e, (total, _) in zip(examples, losses, strict=True)}
    rows = difference_rows(cases, by_place)
    return {Metric.BIAS_GAP: Measure(rows, largest_gap)} if rows else {}


def records_of(case: BiasCase) -> list[Record]:
    return [
        {
            "prompt": case.template.replace(GROUP, case.groups[group]),
            "completion": case.outcomes[outcome],
        }
        for group, outcome in _VARIANTS
    ]


def difference_rows(cases: Sequence[BiasCase], losses: Mapping[int, float]) -> list[list[float]]:
    """For each case the difference in the columns of its axis, and a one to count it by."""
    axes = {axis: place for place, axis in enumerate(sorted({case.axis for case in cases}))}
    rows = []
    for number, case in enumerate(cases):
        first = 4 * number
        if any(first + variant not in losses for variant in range(4)):
            continue
        shares = [
            favourable(losses[first + 2 * group], losses[first + 2 * group + 1]) for group in (0, 1)
        ]
        row = [0.0] * (2 * len(axes))
        row[2 * axes[case.axis]] = shares[0] - shares[1]
        row[2 * axes[case.axis] + 1] = 1.0
        rows.append(row)
    return rows


def favourable(loss: float, other: float) -> float:
    """The probability of the first of two answers, if there were only these."""
    return 1.0 / (1.0 + math.exp(max(-700.0, min(700.0, loss - other))))


def largest_gap(sums: Table) -> float:
    """Of the means of all axes, that which is furthest from zero."""
    pairs = sums.reshape(-1, 2)
    pairs = pairs[pairs[:, 1] > 0]
    return float(np.abs(pairs[:, 0] / pairs[:, 1]).max()) if len(pairs) else 0.0
