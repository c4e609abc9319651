"""Who needs a version: as what is served, as a base, as the base of another version.

While somebody does, the version carries a finalizer: deleting it waits and says for whom.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab_api import names
from trimtab_api.v1alpha1 import FineTuneJob, InferenceService, ModelVersion
from trimtab_api.v1alpha1.common import AnyResource
from trimtab_api.v1alpha1.inferenceservice import ServedModelStatus
from trimtab_api.v1alpha1.modelversion import Producer, VersionUser
from trimtab_operator.domain.conditions import is_true

NAMED_AT_MOST = 3
PRODUCERS_AT_MOST = 64  # as in the CRD
USERS_AT_MOST = 64  # the same


@dataclass(frozen=True, order=True)
class Use:
    """One object that needs the version."""

    kind: str
    name: str
    role: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.role})"


def uses(
    version: str,
    services: Iterable[InferenceService],
    jobs: Iterable[FineTuneJob],
    versions: Iterable[ModelVersion],
) -> tuple[Use, ...]:
    """Everybody in the namespace who needs the version, in a stable order."""
    found = [
        *(u for s in services for u in _by_service(version, s)),
        *(Use("FineTuneJob", j.metadata.name, "base") for j in jobs if _by_job(version, j)),
        *(
            Use("ModelVersion", v.metadata.name, "base")
            for v in versions
            if _by_version(version, v)
        ),
    ]
    return tuple(sorted(set(found)))


def producers(version: str, jobs: Iterable[FineTuneJob]) -> list[Producer]:
    """The jobs that made this artifact, oldest first."""
    made = (j for j in jobs if j.status.model_version == version)
    ordered = sorted(made, key=lambda j: (j.metadata.creation_timestamp or "", j.metadata.name))
    return [
        Producer(
            fine_tune_job=j.metadata.name,
            uid=j.metadata.uid,
            author=j.metadata.annotations.get(names.ANNOTATION_AUTHOR),
        )
        for j in ordered
    ]


def merged(known: list[Producer], seen: list[Producer]) -> list[Producer]:
    """Producers are remembered after their jobs are gone; a uid is a producer once."""
    by_uid = {p.uid: p for p in (*known, *seen)}
    return list(by_uid.values())[:PRODUCERS_AT_MOST]


def awaits(version: ModelVersion, job: FineTuneJob) -> bool:
    """Whether the version has yet to note this job, which it can only while the job exists."""
    known = version.status.producers
    is_noted = any(p.uid == job.metadata.uid for p in known)
    is_leaving = version.metadata.deletion_timestamp is not None
    return not (is_noted or is_leaving or len(known) >= PRODUCERS_AT_MOST)


def listed(users: tuple[Use, ...]) -> list[VersionUser]:
    """The users for programs."""
    return [VersionUser(kind=u.kind, name=u.name, role=u.role) for u in users[:USERS_AT_MOST]]


def told(users: tuple[Use, ...]) -> str:
    """The users in one sentence."""
    named = ", ".join(str(u) for u in users[:NAMED_AT_MOST])
    rest = len(users) - NAMED_AT_MOST
    return f"used by {named}" + (f" and {rest} more" if rest > 0 else "")


def _by_service(version: str, service: InferenceService) -> Iterable[Use]:
    name = service.metadata.name
    base = service.spec.base_model
    status = {model.name: model for model in service.status.models}
    named = base.model_version
    if named and (named.name == version or _is_base(version, status.get(base.name))):
        yield Use("InferenceService", name, "base")
    with_base = _with_base(status.get(base.name))
    for wanted in service.spec.models:
        model = status.get(wanted.name)
        if model and version in (model.active_version, model.candidate_version):
            role = "active" if version == model.active_version else "candidate"
            yield Use("InferenceService", name, f"{role} for {wanted.name}")
        elif (
            model and model.rollout and version == model.rollout.stable
        ) or version in with_base.get(wanted.name, ()):
            yield Use("InferenceService", name, f"way back for {wanted.name}")
        elif wanted.version.name == version:
            # It may not be served yet, or no more since it is being deleted; the spec wants it all the same.
            yield Use("InferenceService", name, f"named for {wanted.name}")


def _with_base(told: ServedModelStatus | None) -> dict[str, tuple[str, str]]:
    """The adapters that move with a base, by public name: both may have to answer."""
    companions = told.rollout.companions if told and told.rollout else []
    return {c.name: (c.stable, c.candidate) for c in companions}


def _is_base(version: str, told: ServedModelStatus | None) -> bool:
    """Whether engines hold it, or may have to hold it again, whatever the spec names by now."""
    if told is None:
        return False
    stable = told.rollout.stable if told.rollout else None
    return version in (told.active_version, told.candidate_version, stable)


def _by_job(version: str, job: FineTuneJob) -> bool:
    base = job.spec.base_model.model_version
    return bool(base and base.name == version) and not is_over(job)


def _by_version(version: str, other: ModelVersion) -> bool:
    base = other.spec.base_model
    return bool(
        base
        and base.model_version
        and base.model_version.name == version
        and not other.metadata.deletion_timestamp
    )


def is_over(job: AnyResource) -> bool:
    conditions = job.status.conditions
    return is_true(conditions, "Complete") or is_true(conditions, "Failed")
