"""What has been found out about one pair of versions: the states of all metrics, as one document.

It belongs to the pair. Were stable and candidate exchanged, or another candidate begun, counts of
one would be held against the other; so a document of another pair is not read on but begun anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from trimtab_operator.domain.analysis import guard, promotion, rollback
from trimtab_operator.domain.analysis.blocks import Block, Counter, counted
from trimtab_operator.domain.analysis.counters import Cursor
from trimtab_operator.domain.analysis.guard import GuardTest
from trimtab_operator.domain.analysis.promotion import Margin, PromotionTest
from trimtab_operator.domain.analysis.rollback import RollbackTest


@dataclass(frozen=True)
class MetricEvidence:
    """One metric: how far its counters were read, and both tests."""

    cursor: Cursor = field(default_factory=Cursor)
    rollback: RollbackTest = field(default_factory=RollbackTest)
    promotion: PromotionTest = field(default_factory=PromotionTest)
    # Only once the candidate was promoted, and where the stable version had been counted.
    guard: GuardTest | None = None
    # When both versions were last at work in one block; under a guard, when the promoted one was.
    compared: FiniteFloat | None = None
    # For a latency: above which bound a request counts as slow, fixed before the first block.
    threshold: FiniteFloat | None = None


@dataclass(frozen=True)
class Evidence:
    """All metrics of a rollout; the versions are named by their digests."""

    stable: str
    candidate: str
    metrics: Mapping[str, MetricEvidence] = field(default_factory=dict)
    form: Literal[2] = 2  # another form is not read: better to begin anew than to misread

    @classmethod
    def resumed(cls, stored: str | None, stable: str, candidate: str) -> "Evidence":
        """What was stored, if it is of this pair and whole; else a beginning."""
        nothing = Evidence(stable, candidate)
        try:
            found = _DOCUMENT.validate_json(stored or "")
        except ValidationError:
            return nothing  # none, cut short or edited: never a verdict
        return found if (found.stable, found.candidate) == (stable, candidate) else nothing

    def of_gateways(self, kept: Callable[[str], bool]) -> "Evidence":
        """Without how far the others were read; what they have shown so far stays counted."""
        metrics = {
            name: replace(one, cursor=one.cursor.of_gateways(kept))
            for name, one in self.metrics.items()
        }
        return replace(self, metrics=metrics)

    def stored(self) -> str:
        """The document; equal evidence, equal text."""
        return _DOCUMENT.dump_json(self).decode()


_DOCUMENT: Final = TypeAdapter(Evidence)


def begun(evidence: Evidence, metric: str, margin: Margin, threshold: float | None) -> Evidence:
    """The evidence with this metric in it; what is there stays as it began."""
    if metric in evidence.metrics:
        return evidence
    one = MetricEvidence(promotion=PromotionTest(margin), threshold=threshold)
    return replace(evidence, metrics=_sorted({**evidence.metrics, metric: one}))


def folded(
    evidence: Evidence,
    metric: str,
    counters: Iterable[Counter],
    until: float,
    breaks: Sequence[float] = (),
) -> Evidence:
    """The evidence after these samples. Samples that were given before change nothing."""
    one = evidence.metrics.get(metric, MetricEvidence())
    cursor, blocks = counted(one.cursor, counters, until, breaks)
    after = with_blocks(replace(one, cursor=cursor), blocks)
    return replace(evidence, metrics=_sorted({**evidence.metrics, metric: after}))


def guarded(evidence: Evidence, *, is_alone: bool = False) -> Evidence:
    """The evidence from the promotion on: the candidate alone, held against what was excluded then.

    `is_alone`: it never stood beside the other one, so that nothing was excluded.
    """
    bound = guard.alone if is_alone else guard.after
    metrics = {
        name: one if one.guard else replace(one, guard=bound(one.promotion))
        for name, one in evidence.metrics.items()
    }
    return replace(evidence, metrics=metrics)


def with_blocks(one: MetricEvidence, blocks: Sequence[Block]) -> MetricEvidence:
    """The tests after these blocks: both of the rollout, or the guard's."""
    if one.guard is not None:
        seen = [block.time for block in blocks if block.candidate.n]
        after = replace(one, guard=guard.fold(one.guard, blocks))
    else:
        seen = [block.time for block in blocks if block.is_comparison]
        after = replace(
            one,
            rollback=rollback.fold(one.rollback, blocks),
            promotion=promotion.fold(one.promotion, blocks),
        )
    return replace(after, compared=max(seen, default=one.compared))


def _sorted(metrics: Mapping[str, MetricEvidence]) -> dict[str, MetricEvidence]:
    return dict(sorted(metrics.items()))
