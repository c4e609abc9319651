"""Telling models apart by the log-probabilities that they give to fixed token sequences.

An engine's word that an adapter is loaded is not proof. The evaluation stores what the version
(and its base) answer; the process that loads it asks the engine the same and compares.
"""

from collections.abc import Sequence
from enum import StrEnum

from trimtab_api.model import ApiModel


class FingerprintSequence(ApiModel):
    """One probe: token ids, and the natural-log probability of tokens 1..n-1 given those before.

    `logprobs` and `base_logprobs` have one entry less than `tokens`.
    """

    tokens: list[int]
    logprobs: list[float]
    base_logprobs: list[float] | None = None


class Fingerprint(ApiModel):
    """What a version answers to the probes.

    `tolerance` is the largest mean absolute difference, in nats per token, that numerical noise of
    the serving number format explains.
    """

    dtype: str
    tolerance: float
    sequences: list[FingerprintSequence]


class Match(StrEnum):
    """What a comparison says."""

    OWN = "Own"
    INDISTINGUISHABLE = "Indistinguishable"
    FOREIGN = "Foreign"


class Comparison(ApiModel):
    """Distances in nats per token: to the version's own reference, to its base, to the nearest sibling."""

    match: Match
    own: float
    base: float | None = None
    sibling: float | None = None


def distance(left: list[list[float]], right: list[list[float]]) -> float:
    """Mean absolute difference over all tokens of equally long sequences; infinite when lengths differ."""
    pairs = [(a, b) for x, y in zip(left, right, strict=False) for a, b in zip(x, y, strict=False)]
    if not pairs or [len(x) for x in left] != [len(y) for y in right]:
        return float("inf")
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def compare(
    reference: Fingerprint, answer: list[list[float]], siblings: Sequence[list[list[float]]] = ()
) -> Comparison:
    """Judge an engine's answer to the reference's probes.

    `answer[i]` are the log-probabilities for `reference.sequences[i]`; each sibling is the same for
    another version. Own: within the tolerance of the version's reference and nearer to it than to
    base and siblings. Indistinguishable: within tolerance, but the reference itself cannot be told
    from its base or a sibling. Foreign: anything else.
    """
    own_reference = [s.logprobs for s in reference.sequences]
    base_reference = [s.base_logprobs for s in reference.sequences if s.base_logprobs is not None]
    others = ([base_reference] if len(base_reference) == len(own_reference) else []) + list(
        siblings
    )
    own = distance(answer, own_reference)
    base = distance(answer, base_reference) if len(base_reference) == len(own_reference) else None
    sibling = min((distance(answer, s) for s in siblings), default=None)
    if own > reference.tolerance:
        match = Match.FOREIGN
    elif any(distance(own_reference, other) <= 2 * reference.tolerance for other in others):
        match = Match.INDISTINGUISHABLE
    elif any(distance(answer, other) <= own for other in others):
        match = Match.FOREIGN
    else:
        match = Match.OWN
    return Comparison(match=match, own=own, base=base, sibling=sibling)
