"""What people have decided about a public name of a service.

    Promote, Abort          of a digest: the later one counts for it
    Pause, Resume, Pin      of the name: the latest one counts

What is remembered in status goes on counting when its Decision is deleted. The result depends on
what was decided and when, not on the order in which it was seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trimtab_api.reasons import DecisionReason
from trimtab_api.v1alpha1 import Decision, InferenceService
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_api.v1alpha1.rollout import ModelRuling
from trimtab_operator.domain.finding import Answer
from trimtab_operator.domain.inferenceservice.pools import named_models

# Within one second of the API server's clock the more cautious has the last word.
CAUTION: Final = {
    Action.PROMOTE: 0,
    Action.RESUME: 0,
    Action.PIN: 1,
    Action.PAUSE: 2,
    Action.ABORT: 3,
}
OF_A_DIGEST: Final = frozenset({Action.PROMOTE, Action.ABORT})
OF_THE_NAME: Final = frozenset({Action.PAUSE, Action.RESUME, Action.PIN})


@dataclass(frozen=True)
class Steering:
    """Everything that was decided about one name."""

    rulings: tuple[ModelRuling, ...] = ()

    @property
    def remembered(self) -> tuple[ModelRuling, ...]:
        """The last of each action."""
        last = {ruling.action: ruling for ruling in sorted(self.rulings, key=_order)}
        return tuple(last[action] for action in Action if action in last)

    @property
    def hold(self) -> ModelRuling | None:
        """The Pause or Pin that is in force."""
        last = self._last(r for r in self.rulings if r.action in OF_THE_NAME)
        return last if last is not None and last.action is not Action.RESUME else None

    @property
    def pause(self) -> ModelRuling | None:
        """Why nothing moves."""
        return self.hold if self.hold is not None and self.hold.action is Action.PAUSE else None

    def pin(self, active: str | None) -> ModelRuling | None:
        """Why the name stays with the version of this digest."""
        held = self.hold
        is_pin = held is not None and held.action is Action.PIN and held.digest == active
        return held if is_pin else None

    def promotion(self, digest: str, isolation: Ruling | None) -> ModelRuling | None:
        """Why this version gets all requests; a word from before a quarantine counts no more."""
        last = self.about(digest)
        if last is None or last.action is not Action.PROMOTE:
            return None
        return None if isolation is not None and isolation.time >= last.time else last

    def abortion(self, digest: str) -> ModelRuling | None:
        """Why this version gets none."""
        last = self.about(digest)
        return last if last is not None and last.action is Action.ABORT else None

    @property
    def aborted(self) -> dict[str, ModelRuling]:
        """The versions that get none, by digest."""
        digests = {r.digest for r in self.rulings if r.digest and r.action in OF_A_DIGEST}
        found = {digest: self.abortion(digest) for digest in sorted(digests)}
        return {digest: ruling for digest, ruling in found.items() if ruling is not None}

    def about(self, digest: str) -> ModelRuling | None:
        """The Promote or Abort that has the say for a digest."""
        return self._last(r for r in self.rulings if r.action in OF_A_DIGEST and r.digest == digest)

    def counts(self, uid: str) -> ModelRuling | None:
        """The ruling that overrules this one; itself where none does."""
        mine = next((r for r in self.rulings if r.uid == uid), None)
        if mine is None:
            return None
        if mine.digest is not None and mine.action in OF_A_DIGEST:
            return self.about(mine.digest)
        return self._last(r for r in self.rulings if r.action in OF_THE_NAME)

    def _last(self, rulings: Iterable[ModelRuling]) -> ModelRuling | None:
        return max(rulings, key=_order, default=None)


def steering(
    model: str, decisions: Iterable[Decision], remembered: Iterable[ModelRuling] = ()
) -> Steering:
    """What was decided about this name, by Decisions that are there and that were."""
    seen = [_ruling(d) for d in decisions if is_about(d, model)]
    by_uid = {ruling.uid: ruling for ruling in (*remembered, *seen)}
    return Steering(tuple(by_uid.values()))


def effect(
    decision: Decision, service: InferenceService | None, siblings: Iterable[Decision]
) -> Answer:
    """What came of one decision."""
    target = decision.spec.target
    models = named_models(service) if service else ()
    if not any(model.name == target.model for model in models):
        return Answer(
            None,
            DecisionReason.TARGET_MISSING,
            f"there is no InferenceService {target.name} with a model {target.model} in this namespace",
        )
    told = (
        next((m for m in service.status.models if m.name == target.model), None)
        if service
        else None
    )
    steers = steering(target.model or "", siblings, told.decisions if told else ())
    last = steers.counts(decision.metadata.uid)
    if last is not None and last.uid != decision.metadata.uid:
        message = f"{last.action} by {last.by} came later ({last.decision})"
        return Answer(False, DecisionReason.SUPERSEDED, message)
    noted = told is not None and any(r.uid == decision.metadata.uid for r in told.decisions)
    if not noted:
        message = f"InferenceService {target.name} has not taken note of it yet"
        return Answer(None, DecisionReason.WAITING, message)
    return Answer(True, DecisionReason.IN_FORCE, f"model {target.model} stands by it")


def is_about(decision: Decision, model: str) -> bool:
    """Whether it speaks of this name of the service."""
    target = decision.spec.target
    return target.kind == "InferenceService" and target.model == model


def told(ruling: ModelRuling) -> str:
    """Who and why, in a few words."""
    return f"by {ruling.by}: {ruling.reason}"


def _ruling(decision: Decision) -> ModelRuling:
    meta, spec = decision.metadata, decision.spec
    return ModelRuling(
        action=spec.action,
        digest=spec.target.digest,
        decision=meta.name,
        uid=meta.uid,
        by=spec.by,
        reason=spec.reason,
        time=meta.creation_timestamp or "",
    )


def _order(ruling: ModelRuling) -> tuple[str, int, str]:
    return ruling.time, CAUTION[ruling.action], ruling.uid
