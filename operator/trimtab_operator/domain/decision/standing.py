"""How a version stands after all that was decided about it.

    Decisions that are there --> about this content, by somebody who may --+
                                                                           +--> the last of each action
    decisions that the version remembers --> by somebody who may ----------+         |
                                                                                     v
                                                                     Approved, Retired, Quarantined

What is remembered goes on counting when its Decision is deleted. The result depends on what was
decided and when, not on the order in which it was seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab_api import names
from trimtab_api.reasons import DecisionReason, VersionReason
from trimtab_api.v1alpha1 import Decision, ModelVersion
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_operator.domain.finding import Answer, Finding
from trimtab_operator.domain.policy import NamespacePolicy

# The API server's times are whole seconds; within one, the more cautious has the last word.
CAUTION: Final = {
    Action.APPROVE: 0,
    Action.REVOKE: 1,
    Action.RETIRE: 2,
    Action.LIFT_QUARANTINE: 0,
    Action.QUARANTINE: 1,
}
ISOLATING: Final = (Action.QUARANTINE, Action.LIFT_QUARANTINE)
OVERRULED_BY: Final = {
    Action.APPROVE: {Action.APPROVE, Action.REVOKE},
    Action.REVOKE: {Action.APPROVE, Action.REVOKE},
    Action.RETIRE: {Action.APPROVE, Action.RETIRE},
    Action.QUARANTINE: {Action.QUARANTINE, Action.LIFT_QUARANTINE},
    Action.LIFT_QUARANTINE: {Action.QUARANTINE, Action.LIFT_QUARANTINE},
}


@dataclass(frozen=True)
class Standing:
    """The last decision of each action, and what follows from them."""

    rulings: tuple[Ruling, ...] = ()

    @property
    def approval(self) -> Ruling | None:
        """The Approve or Revoke that has the say."""
        return self._last(Action.APPROVE, Action.REVOKE)

    @property
    def retirement(self) -> Ruling | None:
        """The Retire that has the say, if nobody has approved the version after it."""
        last = self._last(Action.APPROVE, Action.RETIRE)
        return last if last is not None and last.action is Action.RETIRE else None

    @property
    def isolation(self) -> Ruling | None:
        """The Quarantine or LiftQuarantine that has the say."""
        return self._last(Action.QUARANTINE, Action.LIFT_QUARANTINE)

    @property
    def approved(self) -> Answer:
        """Whether it may be served where a namespace asks for an approval."""
        last = self.approval
        if last is None:
            return Answer(False, VersionReason.NOT_APPROVED, "nobody has approved it")
        if last.action is Action.REVOKE:
            return Answer(False, VersionReason.REVOKED, f"approval revoked {_told(last)}")
        return Answer(True, VersionReason.APPROVED, f"approved {_told(last)}")

    @property
    def retired(self) -> Answer:
        """Whether it must not be newly referenced."""
        last = self.retirement
        if last is None:
            return Answer(False, VersionReason.NOT_RETIRED, "nobody has retired it")
        return Answer(True, VersionReason.RETIRED, f"retired {_told(last)}")

    @property
    def quarantined(self) -> Answer:
        """Whether its content must not be served."""
        last = self.isolation
        if last is None:
            return Answer(False, VersionReason.NOT_QUARANTINED, "nobody has quarantined it")
        if last.action is Action.LIFT_QUARANTINE:
            return Answer(False, VersionReason.NOT_QUARANTINED, f"quarantine lifted {_told(last)}")
        return Answer(True, VersionReason.QUARANTINED, f"quarantined {_told(last)}")

    def _last(self, *actions: Action) -> Ruling | None:
        return max((r for r in self.rulings if r.action in actions), key=_order, default=None)


def standing(
    version: ModelVersion, decisions: Iterable[Decision], policy: NamespacePolicy
) -> Standing:
    """How the version stands now."""
    seen = [_ruling(d) for d in decisions if is_about(d, version)]
    counting = [
        r for r in (*version.status.decisions, *seen) if not_by_author(r, version, policy) is None
    ]
    last = {r.action: r for r in sorted(counting, key=_order)}
    return Standing(tuple(last[action] for action in Action if action in last))


def is_about(decision: Decision, version: ModelVersion) -> bool:
    """Whether it speaks of this very content, under this name or, for a quarantine, under any."""
    target = decision.spec.target
    is_same = target.digest == version.spec.artifact.digest
    is_meant = target.name == version.metadata.name or decision.spec.action in ISOLATING
    return target.kind == "ModelVersion" and is_same and is_meant


def not_by_author(ruling: Ruling, version: ModelVersion, policy: NamespacePolicy) -> Finding | None:
    """Why an approval does not count where duties are separated."""
    if ruling.action is not Action.APPROVE or not policy.separates_duties:
        return None
    name, known = version.metadata.name, authors(version)
    if ruling.by in known:
        return Finding(
            DecisionReason.AUTHOR_APPROVES,
            f"{ruling.by} has made ModelVersion {name}, and the namespace separates duties; "
            "somebody else has to approve it",
        )
    if None in known:
        return Finding(
            DecisionReason.AUTHOR_UNKNOWN,
            f"who has made ModelVersion {name} is not recorded, and the namespace separates duties; "
            "create the ModelVersion anew",
        )
    return None


def authors(version: ModelVersion) -> frozenset[str | None]:
    """Everybody who had it made; None stands for somebody who is not recorded."""
    made = [producer.author for producer in version.status.producers]
    written = version.metadata.annotations.get(names.ANNOTATION_AUTHOR)
    return frozenset([written, *made])


def effect(
    decision: Decision,
    version: ModelVersion | None,
    siblings: Sequence[Decision],
    policy: NamespacePolicy,
) -> Answer:
    """What came of one decision."""
    target = decision.spec.target
    if version is None:
        return Answer(
            None,
            DecisionReason.TARGET_MISSING,
            f"there is no ModelVersion {target.name} in this namespace",
        )
    if not is_about(decision, version):
        return Answer(
            False,
            DecisionReason.DIGEST_MISMATCH,
            f"the artifact of ModelVersion {target.name} is {version.spec.artifact.digest}, which was not decided on; "
            "decide anew with its digest",
        )
    ruling = _ruling(decision)
    if fault := not_by_author(ruling, version, policy):
        return Answer.of(fault)
    now = standing(version, siblings, policy)
    said = (now.approval, now.retirement, now.isolation)
    in_force = [each for each in said if each is not None]
    if any(each.uid == ruling.uid for each in in_force):
        return Answer(True, DecisionReason.IN_FORCE, f"ModelVersion {target.name} stands by it")
    overruling = (r for r in now.rulings if r.action in OVERRULED_BY[ruling.action])
    later = max(overruling, key=_order, default=ruling)
    return Answer(
        False,
        DecisionReason.SUPERSEDED,
        f"{later.action} by {later.by} came later ({later.decision})",
    )


def _ruling(decision: Decision) -> Ruling:
    meta, spec = decision.metadata, decision.spec
    return Ruling(
        action=spec.action,
        decision=meta.name,
        uid=meta.uid,
        by=spec.by,
        reason=spec.reason,
        time=meta.creation_timestamp or "",
    )


def _order(ruling: Ruling) -> tuple[str, int, str]:
    """When it was decided. Times of the API server have one form, so their texts compare as they do."""
    return ruling.time, CAUTION[ruling.action], ruling.uid


def _told(ruling: Ruling) -> str:
    return f"by {ruling.by}: {ruling.reason}"
