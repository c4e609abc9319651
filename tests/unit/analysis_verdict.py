"""What follows from the evidence, and what never does."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_operator.domain.analysis.blocks import Arm, Block, Counter, Counts
from trimtab_operator.domain.analysis.counters import Cursor, Sample, Scrape
from trimtab_operator.domain.analysis.evidence import (
    Evidence,
    MetricEvidence,
    folded,
    guarded,
    with_blocks,
)
from trimtab_operator.domain.analysis.verdict import (
    Action,
    Policy,
    Query,
    Reason,
    Situation,
    judge,
    judge_guard,
)

NOW = 1000.0
POLICY = Policy({"ErrorRate": 0.04, "Refusals": 0.01})
FAIR = Situation(NOW, 0.5)
READ = Cursor((Scrape("gateway", NOW, {"200": 1.0}),))


def seen(stable: int, candidate: int, blocks: int = 80) -> MetricEvidence:
    """So many errors in fifty of each version, block after block until now."""
    found = [
        Block(NOW - 5 * (blocks - i), Counts(50, stable), Counts(50, candidate))
        for i in range(1, blocks + 1)
    ]
    return with_blocks(MetricEvidence(READ), found)


GOOD, WORSE, LITTLE = seen(3, 3), seen(3, 8), seen(3, 3, 3)


def evidence(**metrics: MetricEvidence) -> Evidence:
    return Evidence("a", "b", metrics)


BOTH = evidence(ErrorRate=GOOD, Refusals=GOOD)
ASKED = Query("latency", None, "the result is no number")
LATE = Policy(POLICY.levels, rolls_back_when_overdue=True)


@pytest.mark.parametrize(
    ("given", "policy", "situation", "action", "reason"),
    [
        pytest.param(BOTH, POLICY, FAIR, "Promote", "NotWorse", id="all metrics are proven"),
        pytest.param(
            evidence(ErrorRate=GOOD, Refusals=LITTLE),
            *(POLICY, FAIR, "Hold", "GatheringEvidence"),
            id="one metric is not proven yet",
        ),
        pytest.param(
            evidence(ErrorRate=GOOD, Refusals=WORSE),
            *(POLICY, FAIR, "RollBack", "CandidateWorse"),
            id="one metric alarms, whatever the others prove",
        ),
        pytest.param(
            evidence(ErrorRate=WORSE, Refusals=GOOD),
            POLICY,
            Situation(NOW, 0.5, trouble="Prometheus does not answer"),
            *("RollBack", "CandidateWorse"),
            id="evidence that is complete outlives Prometheus",
        ),
        pytest.param(
            BOTH,
            POLICY,
            Situation(NOW, 0.5, trouble="Prometheus does not answer"),
            *("Hold", "MetricsUnavailable"),
            id="nothing is promoted while Prometheus is gone",
        ),
        pytest.param(
            evidence(ErrorRate=GOOD), POLICY, FAIR, "Hold", "NoSeries", id="a metric has no series"
        ),
        pytest.param(
            evidence(), Policy({}), FAIR, "Hold", "NoSeries", id="nothing is tested at all"
        ),
        pytest.param(
            *(BOTH, POLICY, Situation(NOW + 600, 0.5), "Hold", "NoTraffic"),
            id="nobody has asked for ten minutes",
        ),
        pytest.param(
            *(BOTH, POLICY, Situation(NOW, 0.5, queries=[ASKED]), "Hold", "QueryUndecided"),
            id="a user's query gave no number",
        ),
        pytest.param(
            BOTH,
            POLICY,
            Situation(NOW, 0.5, queries=[Query("latency", False, "3.1 s, at most 2 s")]),
            *("RollBack", "QueryFailed"),
            id="a user's query fails",
        ),
        pytest.param(
            BOTH,
            POLICY,
            Situation(NOW, 0.5, queries=[Query("latency", True, "1 s")], is_overdue=True),
            *("Promote", "NotWorse"),
            id="a proof counts after the deadline, too",
        ),
        pytest.param(
            evidence(ErrorRate=GOOD, Refusals=LITTLE),
            POLICY,
            Situation(NOW, 0.5, is_overdue=True),
            *("Hold", "DeadlineExceeded"),
            id="a deadline holds",
        ),
        pytest.param(
            evidence(ErrorRate=GOOD, Refusals=LITTLE),
            LATE,
            Situation(NOW, 0.5, is_overdue=True),
            *("RollBack", "DeadlineExceeded"),
            id="a deadline rolls back where that was agreed",
        ),
    ],
)
def test_the_verdict(
    given: Evidence, policy: Policy, situation: Situation, action: str, reason: str
) -> None:
    verdict = judge(given, policy, situation)
    assert (verdict.action, verdict.reason) == (Action(action), Reason(reason)), verdict.message
    assert [figures.metric for figures in verdict.figures] == list(policy.levels)


def test_a_rollback_tells_its_numbers() -> None:
    message = judge(evidence(ErrorRate=seen(3, 8, 5)), Policy({"ErrorRate": 0.9}), FAIR).message
    assert "ErrorRate: 40 of 250 (16.00 %) against 15 of 250 (6.00 %)" in message


def test_the_guard_takes_back_what_became_worse_and_never_promotes() -> None:
    after = guarded(evidence(ErrorRate=GOOD))
    assert judge_guard(after, POLICY).action is Action.HOLD
    bad = with_blocks(after.metrics["ErrorRate"], [Block(NOW, Counts(), Counts(500, 200))])
    verdict = judge_guard(evidence(ErrorRate=bad), POLICY)
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.CANDIDATE_WORSE)
    assert "200 of 500" in verdict.message


VALUES = st.one_of(st.floats(), st.integers(0, 1000).map(float))


@given(st.lists(st.tuples(st.floats(), VALUES), max_size=20), st.floats(0, 1e6))
def test_samples_that_are_no_numbers_never_decide(
    samples: Sequence[tuple[float, float]], until: float
) -> None:
    """Of one version alone nothing follows, whatever Prometheus may answer."""
    series = Counter("g", "500", Arm.CANDIDATE, [Sample(*s) for s in samples], 1, 1)
    found = folded(Evidence("a", "b"), "ErrorRate", [series], until)
    verdict = judge(found, Policy({"ErrorRate": 0.05}), Situation(until, 0.5))
    assert verdict.action is Action.HOLD
    assert Evidence.resumed(found.stored(), "a", "b") == found
