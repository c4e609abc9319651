"""What a user does to one object, as data: drawn from a seed, printed when it fails, replayed from that.

A sequence begins with a spec that is good. Each of its changes edits the spec, goes back to an
earlier one, or makes another object with the edited spec, which is the way to change what no
update may touch.
"""

import json
import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.builders import Manifest
from tests.faults.fields import Candidate, Edit, Hints, Schema, applied, candidates
from tests.operatorkit import ROOT

UNDONE_SHARE: Final = 0.3
UNDONE_AT_MOST: Final = 3
ATTEMPTS: Final = 16  # to make a failing sequence shorter; each costs a run of what is left

NO_HINTS: Final = Hints()
TOKEN: Final = "TOKEN"  # the object's own name, in a spec


@dataclass(frozen=True)
class Change:
    """One step. `undo` goes back by so many accepted changes, and excludes edits.

    A deed is somebody else's, and leaves the spec alone (see `neighbours`).
    """

    edits: tuple[Edit, ...] = ()
    undo: int = 0
    deed: str = ""
    is_anew: bool = False
    is_nonsense: bool = False

    def of(self, spec: Manifest) -> Manifest:
        """The spec after the edits."""
        for edit in self.edits:
            spec = applied(spec, edit)
        return spec

    def __str__(self) -> str:
        told = f"undo {self.undo}" if self.undo else self.deed
        return told or json.dumps(_change_to_wire(self))[:400]


@dataclass(frozen=True)
class Subject:
    """A kind whose objects are changed: its schema, how specs begin, how objects are treated.

    `start` may hold TOKEN, in place of which each object has its own name. A `held` job trains
    until it is let go. `neighbours` are what it refers to, the usual content and another; with
    `edits` and `deeds` in place of what the schema holds, they break and mend what it needs.
    """

    name: str
    kind: str
    schema: Schema
    start: Manifest
    hints: Hints = NO_HINTS
    updated: tuple[str, ...] = ()  # fields that updates may touch; none named means all
    is_anew: bool = False
    is_held: bool = False
    neighbours: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    edits: tuple[Change, ...] = ()
    deeds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """All that is done to one object."""

    subject: str
    changes: tuple[Change, ...]

    def to_json(self) -> str:
        """What `Course.of_json` reads."""
        changes = [_change_to_wire(c) for c in self.changes]
        return json.dumps({"subject": self.subject, "changes": changes})

    @classmethod
    def of_json(cls, text: str) -> "Course":
        """A course from where a failed run has printed it."""
        content = json.loads(text)
        return cls(content["subject"], tuple(map(_change_of_wire, content["changes"])))


def commit_number() -> int:
    """A number that follows from the commit that is tested: the same one until there is another."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(told.stdout, 16) if told.returncode == 0 else 1


def with_token(spec: Manifest, token: str) -> Manifest:
    """The spec as that of one object."""
    content: Manifest = json.loads(json.dumps(spec).replace(TOKEN, token))
    return content


def drawn(subject: Subject, seed: int, length: int) -> list[Course]:
    """Each candidate of the subject once, in an order that follows from the seed."""
    chance = random.Random(f"{seed} {subject.name}")  # noqa: S311 - repeatable, not secret
    found = [c for c in candidates(subject.schema, subject.hints) if _is_for(c, subject)]
    chance.shuffle(found)
    changes: list[Change] = []
    for each in found:
        changes.append(Change(each.edits, is_anew=subject.is_anew, is_nonsense=each.is_nonsense))
        if not subject.is_anew and chance.random() < UNDONE_SHARE:
            changes.append(Change(undo=chance.randint(1, UNDONE_AT_MOST)))
    pieces = range(0, len(changes), length)
    return [Course(subject.name, tuple(changes[n : n + length])) for n in pieces]


def shrunk(course: Course, fails: Callable[[Course], bool], attempts: int = ATTEMPTS) -> Course:
    """A shorter course that still fails: without halves, quarters, and so on down to single changes."""
    smallest = course.changes
    size = len(smallest) // 2
    while size and attempts:
        at = 0
        while at < len(smallest) and attempts:
            rest = smallest[:at] + smallest[at + size :]
            attempts -= 1
            if rest and fails(replace(course, changes=rest)):
                smallest = rest
            else:
                at += size
        size //= 2
    return replace(course, changes=smallest)


def _is_for(candidate: Candidate, subject: Subject) -> bool:
    return not subject.updated or candidate.edits[0].at[0] in subject.updated


def _change_to_wire(change: Change) -> Manifest:
    edits = [
        {"at": list(e.at)} | ({"is_gone": True} if e.is_gone else {"value": e.value})
        for e in change.edits
    ]
    said: Manifest = {"edits": edits} if edits else {"undo": change.undo}
    if change.deed:
        said = {"deed": change.deed}
    flags = {"is_anew": change.is_anew, "is_nonsense": change.is_nonsense}
    return said | {name: True for name, holds in flags.items() if holds}


def _change_of_wire(content: Manifest) -> Change:
    edits: Sequence[Any] = content.pop("edits", [])
    return Change(tuple(Edit(**{**e, "at": tuple(e["at"])}) for e in edits), **content)
