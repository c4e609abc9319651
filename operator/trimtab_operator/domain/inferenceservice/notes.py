"""What the operator remembers of each rollout beside its status: how far counters were read, and the tests.

One ConfigMap per service, one entry per model. What cannot be read, or is of another rollout, is
begun anew: that costs evidence and never makes any.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.rollout import RolloutStatus
from trimtab_operator.domain.analysis.evidence import Evidence
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.manifests import Manifest, get

COMPONENT: Final = "evidence"


@dataclass(frozen=True)
class QueryNotes:
    """The last looks at one query of the user's own."""

    misses: int = 0
    value: FiniteFloat | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class Notes:
    """Everything about one rollout that is needed to go on."""

    since: str
    evidence: Evidence
    queries: Mapping[str, QueryNotes] = field(default_factory=dict)
    # When Prometheus was asked last, in seconds; and why it gave nothing, if so.
    looked: FiniteFloat | None = None
    trouble: str | None = None
    # The step that the candidate's requests are counted in, and how many there were before it.
    step: int = 1
    counted_before: int = 0

    def stored(self) -> str:
        """The document; equal notes, equal text."""
        return _DOCUMENT.dump_json(self).decode()

    @property
    def answered(self) -> int:
        """What the candidate has answered, by the metric that has counted most."""
        tests = (one.rollback for one in self.evidence.metrics.values())
        return max((test.candidate.n for test in tests), default=0)


_DOCUMENT: Final = TypeAdapter(Notes)


def notes_of(rollout: RolloutStatus, stored: str | None) -> Notes:
    """What was noted about this rollout; a beginning where nothing was."""
    pair = (rollout.stable_digest, rollout.candidate_digest)
    nothing = Notes(rollout.since, Evidence(*pair))
    try:
        found = _DOCUMENT.validate_json(stored or "")
    except ValidationError:
        return nothing
    is_same = (found.evidence.stable, found.evidence.candidate) == pair
    return found if is_same and found.since == rollout.since else nothing


def config_map(service: InferenceService, notes: Mapping[str, Notes]) -> Manifest:
    """The notes of all models of a service that are being rolled out."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(service, COMPONENT, children.name(service, COMPONENT)),
        "data": {model: each.stored() for model, each in sorted(notes.items())},
    }


def stored_notes(written: Manifest | None) -> dict[str, str]:
    """The notes as they were written, by model."""
    data: dict[str, str] = get(written, "data", default={})
    return data
