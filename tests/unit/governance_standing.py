"""How a version stands after what was decided about it, and what came of each decision."""

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from tests.servingbuilders import a_decision, a_version, digest_of

from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_operator.domain.decision.standing import effect, standing
from trimtab_operator.domain.policy import NamespacePolicy

FREE = NamespacePolicy()
SEPARATED = NamespacePolicy(separates_duties=True)
AUTHOR = "trimtab.dev/author"
OTHER_CONTENT: dict[str, Any] = {
    "target": {"kind": "ModelVersion", "name": "bot-1", "digest": digest_of("else")}
}


def made_by(author: str | None, *producers: str | None) -> ModelVersion:
    made = [
        {"fineTuneJob": f"job-{n}", "uid": f"uid-{n}"} | ({"author": by} if by else {})
        for n, by in enumerate(producers)
    ]
    annotations = {AUTHOR: author} if author else {}
    return a_version(annotations=annotations, status={"producers": made})


@dataclass(frozen=True)
class Case:
    name: str
    decisions: list[Decision]
    approved: tuple[bool, str] = (False, "NotApproved")
    retired: tuple[bool, str] = (False, "NotRetired")
    version: ModelVersion = field(default_factory=a_version)
    policy: NamespacePolicy = FREE


YES, NO, TAKEN_BACK = (True, "Approved"), (False, "NotApproved"), (False, "Revoked")
OUT = (True, "Retired")
CASES = [
    Case("what nobody decided about is neither approved nor retired", []),
    Case("an approval approves", [a_decision()], YES),
    Case("a revocation takes it back", [a_decision(), a_decision("Revoke", at=1)], TAKEN_BACK),
    Case(
        "the latest decision wins, whatever came before",
        [a_decision(), a_decision("Revoke", at=1), a_decision(at=2)],
        YES,
    ),
    Case(
        "in one second the revocation is the later one",
        [a_decision("Revoke"), a_decision()],
        TAKEN_BACK,
    ),
    Case(
        "a retired version keeps its approval", [a_decision(), a_decision("Retire", at=1)], YES, OUT
    ),
    Case(
        "an approval takes a retired version back into use",
        [a_decision("Retire"), a_decision(at=1)],
        YES,
    ),
    Case(
        "a revocation does not",
        [a_decision("Retire"), a_decision("Revoke", at=1)],
        TAKEN_BACK,
        OUT,
    ),
    Case(
        "in one second the retirement is the later one",
        [a_decision("Retire"), a_decision()],
        YES,
        OUT,
    ),
    Case("an approval of other content is none", [a_decision(**OTHER_CONTENT)]),
    Case("a retirement of other content is none", [a_decision("Retire", **OTHER_CONTENT)]),
    Case(
        "an author may approve where nobody separates duties",
        [a_decision()],
        YES,
        version=made_by("bob"),
    ),
    Case(
        "an author cannot approve where duties are separated",
        [a_decision()],
        version=made_by("bob"),
        policy=SEPARATED,
    ),
    Case(
        "the author of any job that made it cannot either",
        [a_decision()],
        version=made_by("alice", "carol", "bob"),
        policy=SEPARATED,
    ),
    Case(
        "somebody else can",
        [a_decision()],
        YES,
        version=made_by("alice", "carol"),
        policy=SEPARATED,
    ),
    Case("nobody can while the author is not known", [a_decision()], policy=SEPARATED),
    Case(
        "nor while that of one of its jobs is not",
        [a_decision()],
        version=made_by("alice", "carol", None),
        policy=SEPARATED,
    ),
    Case(
        "an author's approval does not hide one that counts",
        [a_decision(by="carol"), a_decision(by="bob", at=1)],
        YES,
        version=made_by("bob"),
        policy=SEPARATED,
    ),
    Case(
        "an author may revoke and retire",
        [a_decision("Revoke"), a_decision("Retire", at=1)],
        TAKEN_BACK,
        OUT,
        version=made_by("bob"),
        policy=SEPARATED,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_standing(case: Case) -> None:
    for order in permutations(case.decisions):
        found = standing(case.version, order, case.policy)
        assert (found.approved.holds, found.approved.reason) == case.approved
        assert (found.retired.holds, found.retired.reason) == case.retired


def test_who_and_why_is_told() -> None:
    found = standing(a_version(), [a_decision(by="alice", reason="ticket 4711")], FREE)
    assert found.approved.message == "approved by alice: ticket 4711"


def remembering(version: ModelVersion, *decisions: Decision) -> ModelVersion:
    rulings = standing(version, decisions, FREE).rulings
    status = version.status.model_copy(update={"decisions": list(rulings)})
    return version.model_copy(update={"status": status})


def test_deleting_a_revocation_does_not_bring_an_approval_back() -> None:
    approved, revoked = a_decision(), a_decision("Revoke", at=1)
    version = remembering(a_version(), approved, revoked)
    assert standing(version, [approved], FREE).approved.reason == "Revoked"
    assert standing(version, [], FREE).approved.reason == "Revoked"


def test_deleting_a_retirement_does_not_bring_a_version_back() -> None:
    version = remembering(a_version(), a_decision("Retire"))
    assert standing(version, [], FREE).retired.holds is True


def test_what_is_remembered_is_the_last_of_each_action_and_no_more() -> None:
    many = [
        a_decision(action, at=n) for n in range(20) for action in ("Approve", "Revoke", "Retire")
    ]
    version = remembering(a_version(), *many)
    assert [(r.action, r.time[-3:-1]) for r in version.status.decisions] == [
        ("Approve", "19"),
        ("Revoke", "19"),
        ("Retire", "19"),
    ]


def test_a_remembered_approval_by_the_author_ends_when_duties_are_separated() -> None:
    version = remembering(made_by("bob"), a_decision())
    assert standing(version, [], SEPARATED).approved.reason == "NotApproved"


EFFECTS: dict[str, tuple[Decision, dict[str, Any], tuple[bool | None, str]]] = {
    "an approval is in force": (a_decision(), {}, (True, "InForce")),
    "one of a version that is not there may come to count": (
        a_decision(),
        {"version": None},
        (None, "TargetMissing"),
    ),
    "one of other content has none": (a_decision(**OTHER_CONTENT), {}, (False, "DigestMismatch")),
    "one that was revoked has none any more": (
        a_decision(),
        {"others": [a_decision("Revoke", at=1)]},
        (False, "Superseded"),
    ),
    "one that was repeated has none any more": (
        a_decision(),
        {"others": [a_decision(at=1)]},
        (False, "Superseded"),
    ),
    "an approval stays in force when the version is retired": (
        a_decision(),
        {"others": [a_decision("Retire", at=1)]},
        (True, "InForce"),
    ),
    "a retirement ends with an approval": (
        a_decision("Retire"),
        {"others": [a_decision(at=1)]},
        (False, "Superseded"),
    ),
    "a retirement stands beside a revocation": (
        a_decision("Retire"),
        {"others": [a_decision("Revoke", at=1)]},
        (True, "InForce"),
    ),
    "an author's approval has none where duties are separated": (
        a_decision(),
        {"version": made_by("bob"), "policy": SEPARATED},
        (False, "AuthorApproves"),
    ),
    "nobody's has one while the author is not known": (
        a_decision(),
        {"policy": SEPARATED},
        (False, "AuthorUnknown"),
    ),
}


@pytest.mark.parametrize(("decision", "world", "wanted"), EFFECTS.values(), ids=EFFECTS)
def test_effect(decision: Decision, world: dict[str, Any], wanted: tuple[bool | None, str]) -> None:
    version = world.get("version", a_version())
    siblings = [decision, *world.get("others", ())]
    found = effect(decision, version, siblings, world.get("policy", FREE))
    assert (found.holds, found.reason) == wanted


def test_what_came_later_is_named() -> None:
    later = a_decision("Revoke", at=1, by="alice")
    others = [a_decision(), later, a_decision("Retire", at=2, by="carol")]
    found = effect(others[0], a_version(), others, FREE)
    assert found.message == f"Revoke by alice came later ({later.metadata.name})"


LABELS = {
    "nothing is asked without labels": ({}, NamespacePolicy()),
    "true asks for approval": ({"trimtab.dev/require-approval": "true"}, NamespacePolicy(True)),
    "true asks for signatures": (
        {"trimtab.dev/require-signature": "true"},
        NamespacePolicy(requires_signature=True),
    ),
    "any other value does not": ({"trimtab.dev/require-approval": "yes"}, NamespacePolicy()),
    "duties are separated": (
        {"trimtab.dev/separation-of-duties": "true"},
        NamespacePolicy(separates_duties=True),
    ),
    "everything is asked while the namespace is not known": (
        None,
        NamespacePolicy(True, True, True),
    ),
}


@pytest.mark.parametrize(("labels", "wanted"), LABELS.values(), ids=LABELS)
def test_what_a_namespace_asks_for(labels: dict[str, str] | None, wanted: NamespacePolicy) -> None:
    assert NamespacePolicy.of(labels) == wanted
