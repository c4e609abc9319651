"""What people have decided about a public name, in whatever order it is seen."""

from itertools import permutations
from typing import Any

import pytest
from tests.servingbuilders import a_service, digest_of, metadata_of

from trimtab_api.v1alpha1 import Decision
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_operator.domain.inferenceservice.steering import effect, steering

ONE, TWO = digest_of("bot-1"), digest_of("bot-2")


def said(action: str, digest: str | None = None, *, at: int = 0, model: str = "bot") -> Decision:
    target = {"kind": "InferenceService", "name": "chat", "model": model, "digest": digest}
    created = f"2026-01-01T00:00:{at:02}Z"
    return Decision.model_validate(
        {
            "metadata": metadata_of(f"{action.lower()}-{at}", creationTimestamp=created),
            "spec": {"action": action, "target": target, "by": "alice", "reason": "because"},
        }
    )


CASES: dict[str, tuple[list[Decision], dict[str, Any]]] = {
    "nothing": ([], {"pause": False, "pin": False, "promotes": False, "aborts": False}),
    "a pause": ([said("Pause")], {"pause": True}),
    "a resumption ends a pause": ([said("Pause"), said("Resume", at=1)], {"pause": False}),
    "a resumption ends a pin": ([said("Pin", ONE), said("Resume", at=1)], {"pin": False}),
    "within a second the pause": ([said("Pause"), said("Resume")], {"pause": True}),
    "a pin": ([said("Pin", ONE)], {"pin": True, "pause": False}),
    "a pin to what does not answer is none": ([said("Pin", TWO)], {"pin": False}),
    "a promotion": ([said("Promote", TWO)], {"promotes": True, "aborts": False}),
    "a promotion of another digest": ([said("Promote", ONE)], {"promotes": False}),
    "an abortion after it": (
        [said("Promote", TWO), said("Abort", TWO, at=1)],
        {"promotes": False, "aborts": True},
    ),
    "a promotion after that": (
        [said("Abort", TWO), said("Promote", TWO, at=1)],
        {"promotes": True, "aborts": False},
    ),
    "an abortion of one digest leaves the other": (
        [said("Promote", TWO), said("Abort", ONE, at=1)],
        {"promotes": True, "aborts": False},
    ),
    "another name": ([said("Pause", model="cat")], {"pause": False}),
}


@pytest.mark.parametrize(("decisions", "wanted"), CASES.values(), ids=CASES)
def test_it_counts(decisions: list[Decision], wanted: dict[str, bool]) -> None:
    for order in permutations(decisions):
        found = steering("bot", order)
        now = {
            "pause": found.pause is not None,
            "pin": found.pin(ONE) is not None,
            "promotes": found.promotion(TWO, None) is not None,
            "aborts": found.abortion(TWO) is not None,
        }
        assert {k: now[k] for k in wanted} == wanted


def test_what_is_remembered_goes_on_counting() -> None:
    before = steering("bot", [said("Abort", TWO), said("Pause", at=1)])
    after = steering("bot", [], before.remembered)
    assert (after.pause, after.abortion(TWO)) == (before.pause, before.abortion(TWO))


def test_a_promotion_from_before_a_quarantine_counts_no_more() -> None:
    lifted = Ruling.model_validate(
        {
            "action": "LiftQuarantine",
            "decision": "d",
            "uid": "u",
            "by": "bob",
            "reason": "r",
            "time": "2026-01-01T00:00:05Z",
        }
    )
    assert steering("bot", [said("Promote", TWO, at=1)]).promotion(TWO, lifted) is None
    assert steering("bot", [said("Promote", TWO, at=9)]).promotion(TWO, lifted) is not None


def test_what_came_of_it() -> None:
    pause, resume = said("Pause"), said("Resume", at=1)
    service = a_service(models={"bot": {"name": "bot-1"}})
    assert effect(pause, None, [pause]).reason == "TargetMissing"
    assert effect(pause, a_service(), [pause]).reason == "TargetMissing"
    assert effect(pause, service, [pause]).reason == "Waiting"
    assert effect(pause, service, [pause, resume]).reason == "Superseded"
    noted = [r.to_wire() for r in steering("bot", [pause]).remembered]
    status = {"models": [{"name": "bot", "decisions": noted}]}
    told = a_service(models={"bot": {"name": "bot-1"}}, status=status)
    assert effect(pause, told, [pause]).reason == "InForce"
