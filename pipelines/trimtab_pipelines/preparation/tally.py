"""What each step left out or found: counts of all, and examples of the first few."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab_api.v1alpha1.data import DroppedRecords
from trimtab_pipelines.preparation.records import texts_of
from trimtab_pipelines.prepared import Record

EXAMPLES = 10
_SHOWN_CHARACTERS = 400

# In the order in which they are applied; those of some preparations alone count only there.
_DISCARDED = ("Discarded",)
_OF_RECORDS = ("Characters", "Languages", "WordLists", "Secrets", "Pii")
_OF_TEACHERS = ("OffFormat", "Ungrounded", "RepeatedQuestions")
_OF_ALL = ("ExactDuplicates", "NearDuplicates", "HeldOutNeighbours", "Leakage")


def steps_named(*, is_labelled: bool = False, is_synthetic: bool = False) -> tuple[str, ...]:
    """The steps that count, for sources that people have looked at and for records of a teacher."""
    discarded = _DISCARDED if is_labelled else ()
    return (*discarded, *_OF_RECORDS, *(_OF_TEACHERS if is_synthetic else ()), *_OF_ALL)


@dataclass(frozen=True)
class Example:
    """One record that a step left out or found something in."""

    text: str
    why: str
    like: str | None = None


@dataclass
class Step:
    """What one step did."""

    dropped: int = 0
    changed: int = 0
    reported: int = 0
    found: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)


class Tally:
    """The counts of a preparation. `redact` makes a text fit to be shown."""

    def __init__(self, redact: Callable[[str], str], steps: Sequence[str] | None = None) -> None:
        self.redact = redact
        self.steps = {name: Step() for name in steps or steps_named()}

    def dropped(self, step: str, record: Record, why: str, like: Record | None = None) -> None:
        self.steps[step].dropped += 1
        self._keep(step, record, why, like)

    def changed(self, step: str, record: Record, why: str) -> None:
        self.steps[step].changed += 1
        self._keep(step, record, why)

    def reported(self, step: str, record: Record, why: str) -> None:
        self.steps[step].reported += 1
        self._keep(step, record, why)

    def found(self, step: str, kind: str, times: int = 1) -> None:
        kinds = self.steps[step].found
        kinds[kind] = kinds.get(kind, 0) + times

    def add(self, steps: Mapping[str, Step]) -> None:
        """What somebody else has counted on the records that come next."""
        for name, other in steps.items():
            step = self.steps[name]
            step.dropped += other.dropped
            step.changed += other.changed
            step.reported += other.reported
            for kind, times in other.found.items():
                self.found(name, kind, times)
            step.examples += other.examples[: EXAMPLES - len(step.examples)]

    def takes_examples(self, step: str) -> bool:
        return len(self.steps[step].examples) < EXAMPLES

    def counts(self) -> list[DroppedRecords]:
        return [DroppedRecords(step=name, count=step.dropped) for name, step in self.steps.items()]

    def shown(self, record: Record) -> str:
        """A record as a report may show it."""
        # Redacted before it is cut: half of a card's number is no card's number.
        text = self.redact("\n".join(texts_of(record)))
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"

    def _keep(self, step: str, record: Record, why: str, like: Record | None = None) -> None:
        if self.takes_examples(step):
            other = None if like is None else self.shown(like)
            self.steps[step].examples.append(Example(self.shown(record), why, other))
