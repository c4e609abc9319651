"""What the operator remembers of each rollout beside its status: how far counters were read, and the tests.

One ConfigMap per service, one entry per model. What cannot be read, or is of another rollout, is
begun anew: that costs evidence and never makes any.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.rollout import RolloutStatus
from trimtab_operator.domain.analysis.evidence import Evidence
from trimtab_operator.domain.analysis.guard import GuardTest
from trimtab_operator.domain.analysis.rollback import finite
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.manifests import Manifest, get

COMPONENT: Final = "evidence"


@dataclass(frozen=True)
class QueryNotes:
    """The last looks at one query of the user's own."""

    misses: int = 0
    value: float | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class Notes:
    """Everything about one rollout that is needed to go on."""

    since: str
    evidence: Evidence
    guard: Mapping[str, GuardTest] = field(default_factory=dict)
    queries: Mapping[str, QueryNotes] = field(default_factory=dict)
    # When Prometheus was asked last, in seconds; and what it answered, where that was an error.
    looked: float | None = None
    trouble: str | None = None
    # The step that the candidate's requests are counted from, and how many there were by then.
    step: int = 1
    counted_before: int = 0

    def stored(self) -> str:
        """The document; equal notes, equal text."""
        return json.dumps(
            {
                "since": self.since,
                "evidence": self.evidence.stored(),
                "guard": {name: test.as_json() for name, test in sorted(self.guard.items())},
                "queries": {
                    name: [each.misses, each.value, each.trouble]
                    for name, each in sorted(self.queries.items())
                },
                "looked": self.looked,
                "trouble": self.trouble,
                "step": self.step,
                "countedBefore": self.counted_before,
            },
            separators=(",", ":"),
            allow_nan=False,
        )


def notes_of(rollout: RolloutStatus, stored: str | None) -> Notes:
    """What was noted about this rollout; a beginning where nothing was."""
    begun = Notes(
        rollout.since, Evidence.resumed(None, rollout.stable_digest, rollout.candidate_digest)
    )
    if stored is None:
        return begun
    try:
        found = json.loads(stored)
        if found["since"] != rollout.since:
            return begun
        return Notes(
            since=rollout.since,
            evidence=Evidence.resumed(
                found["evidence"], rollout.stable_digest, rollout.candidate_digest
            ),
            guard={str(name): GuardTest.of_json(test) for name, test in found["guard"].items()},
            queries={str(name): _query(each) for name, each in found["queries"].items()},
            looked=None if found["looked"] is None else finite(found["looked"]),
            trouble=None if found["trouble"] is None else str(found["trouble"]),
            step=int(found["step"]),
            counted_before=int(found["countedBefore"]),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return begun


def config_map(service: InferenceService, notes: Mapping[str, Notes]) -> Manifest:
    """The notes of all models of a service that are being rolled out."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(service, COMPONENT, children.name(service, COMPONENT)),
        "data": {model: each.stored() for model, each in sorted(notes.items())},
    }


def stored_notes(config_map: Manifest | None) -> dict[str, str]:
    """The notes as they were written, by model."""
    data: dict[str, str] = get(config_map, "data", default={})
    return data


def _query(stored: Any) -> QueryNotes:  # noqa: ANN401 - a JSON value
    misses, value, trouble = stored
    return QueryNotes(
        int(misses),
        None if value is None else finite(value),
        None if trouble is None else str(trouble),
    )
