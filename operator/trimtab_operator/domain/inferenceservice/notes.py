"""What the operator remembers of each rollout beside its status: how far counters were read, and the tests.

One ConfigMap per model, so that many rollouts of a service cannot outgrow one object. What cannot be
read, or is of another rollout, is begun anew: that costs evidence and never makes any.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.rollout import RolloutStatus
from trimtab_operator.domain.analysis.evidence import Evidence
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.manifests import Manifest, get, name_of
from trimtab_operator.domain.naming import child_name, short_hash

COMPONENT: Final = "evidence"
# A ConfigMap holds 1 MiB. A hundred gateways with all metrics need a fifth of that; those that went
# away in the last hour, and codes that nobody thought of, come on top.
MOST_BYTES: Final = 768 * 1024
_MOST_HALVINGS: Final = 16


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
    # How often the gateways that are counted were halved, because there was no room for all of them.
    halvings: int = 0

    def counts(self, gateway: str) -> bool:
        """Whether this gateway is counted; one that is not stays so, lest its past count twice."""
        return _is_kept(gateway, self.halvings)

    def bounded(self, most: int = MOST_BYTES) -> "Notes":
        """The same with as few gateways as there is room for.

        Every gateway has its share of both versions, so that any of them are a fair sample.
        """
        found = self
        while len(found.stored().encode()) > most and found.halvings < _MOST_HALVINGS:
            halvings = found.halvings + 1
            kept = found.evidence.of_gateways(partial(_is_kept, halvings=halvings))
            found = replace(found, evidence=kept, halvings=halvings)
        return found

    def stored(self) -> str:
        """The document; equal notes, equal text."""
        return _DOCUMENT.dump_json(self).decode()

    @property
    def answered(self) -> int:
        """What the candidate has answered, by the metric that has counted most."""
        tests = (one.rollback for one in self.evidence.metrics.values())
        return max((test.candidate.n for test in tests), default=0)


_DOCUMENT: Final = TypeAdapter(Notes)


def _is_kept(gateway: str, halvings: int) -> bool:
    return int(short_hash(gateway, length=8), 16) % (1 << halvings) == 0


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


def name(service: InferenceService, model: str) -> str:
    """The ConfigMap in which the notes of a model are."""
    return child_name(service.metadata.name, COMPONENT, model)


def config_map(service: InferenceService, model: str, notes: Notes) -> Manifest:
    """The notes of a model that is being rolled out."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(service, COMPONENT, name(service, model)),
        "data": {model: notes.stored()},
    }


def written_notes(config_maps: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Those in which notes are."""
    labels = ((m, get(m, "metadata", "labels", default={})) for m in config_maps)
    return tuple(m for m, found in labels if found.get(names.LABEL_COMPONENT) == COMPONENT)


def stored_notes(written: Iterable[Manifest]) -> dict[str, str]:
    """The notes as they were written, by model."""
    found: dict[str, str] = {}
    for each in written:
        found |= get(each, "data", default={})
    return found


def outdated(
    service: InferenceService, written: Iterable[Manifest], models: Iterable[str]
) -> tuple[Manifest, ...]:
    """What was noted of rollouts that are over."""
    wanted = {name(service, model) for model in models}
    return tuple(each for each in written if name_of(each) not in wanted)
