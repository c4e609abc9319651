"""What must not be served under a name: by a Decision, or by a rollback that none has followed yet."""

from collections.abc import Mapping

from trimtab_api.reasons import ServiceReason
from trimtab_api.v1alpha1 import ModelVersion
from trimtab_api.v1alpha1.decision import Action
from trimtab_api.v1alpha1.modelversion import Ruling
from trimtab_api.v1alpha1.rollout import RollbackStatus, RolloutStatus
from trimtab_operator.domain.finding import Finding
from trimtab_operator.domain.inferenceservice import rollout
from trimtab_operator.domain.inferenceservice.consent import isolated
from trimtab_operator.domain.inferenceservice.steering import Steering, told


def is_pending(rollback: RollbackStatus | None) -> bool:
    """Whether it is decided and not yet carried out to the end."""
    return rollback is not None and rollback.duration_ms is None


def condemns(rollback: RollbackStatus) -> bool:
    """Whether the digest is to be quarantined for it."""
    return rollback.reason in rollout.CONDEMNING


def barred(
    steers: Steering,
    versions: Mapping[str, ModelVersion],
    isolations: Mapping[str, Ruling],
    last: RollbackStatus | None,
) -> dict[str, Finding]:
    """What must not be served under this name, by digest."""
    names = {v.spec.artifact.digest: v.metadata.name for v in versions.values()}
    found = {
        digest: Finding(
            ServiceReason.VERSION_ABORTED,
            f"ModelVersion {names.get(digest, digest)} was aborted {told(ruling)}; name another version, or ask for a "
            "Decision with action Promote",
        )
        for digest, ruling in steers.aborted.items()
    }
    for digest, ruling in isolations.items():
        if ruling.action is Action.QUARANTINE:
            why = f"quarantined by {ruling.by}: {ruling.reason}"
            found[digest] = isolated(names.get(digest, digest), why)
    if last is not None and last.decision is None and condemns(last):
        found.setdefault(last.from_digest, isolated(last.from_version, last.message))
    return found


def isolation(status: RolloutStatus, isolations: Mapping[str, Ruling]) -> Ruling | None:
    """The Decision about the candidate's content; a quarantine of what goes with it is one of it, too."""
    together = (isolations.get(c.candidate_digest) for c in status.companions)
    quarantine = (r for r in together if r is not None and r.action is Action.QUARANTINE)
    return next(quarantine, isolations.get(status.candidate_digest))
