"""Who refers to whom: one description, from which wake-ups and reverse look-ups both follow.

A target is (kind, namespace, name). `Model` is no kind of the API: it stands for "any version of
this model". Nor is `Artifact`: it stands for content by its digest, in whatever namespace somebody
refers to it.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import orjson

from trimtab_api.reasons import VersionReason
from trimtab_operator.domain.manifests import Manifest, get, is_deleting, name_of

Target = tuple[str, str, str]

DATASET: Final = "Dataset"
JOB: Final = "FineTuneJob"
VERSION: Final = "ModelVersion"
SERVICE: Final = "InferenceService"
DECISION: Final = "Decision"
MODEL: Final = "Model"
ARTIFACT: Final = "Artifact"


def references(kind: str, manifest: Manifest) -> frozenset[Target]:
    """Everything that the object refers to, in spec and in status."""
    namespace = get(manifest, "metadata", "namespace", default="")
    found = _REFERENCES[kind](manifest) if kind in _REFERENCES else []
    return frozenset(
        artifact(str(name)) if what == ARTIFACT else (what, namespace, str(name))
        for what, name in found
        if name
    )


def artifact(digest: str) -> Target:
    """Content is the same in every namespace."""
    return (ARTIFACT, "", digest)


def _digest(uri: str | None) -> str:
    """The digest in an address; empty where it names none."""
    return (uri or "").partition("@")[2]


def _of_job(job: Manifest) -> list[tuple[str, Any]]:
    return [
        (VERSION, get(job, "spec", "baseModel", "modelVersion", "name")),
        (VERSION, get(job, "status", "modelVersion")),
        (ARTIFACT, _digest(get(job, "spec", "baseModel", "uri"))),
        (ARTIFACT, get(job, "status", "resolved", "baseModelDigest")),
        (DATASET, get(job, "spec", "dataset", "name")),
    ]


def _of_dataset(dataset: Manifest) -> list[tuple[str, Any]]:
    against = get(dataset, "spec", "leakage", "against", default=[])
    return [(DATASET, get(each, "dataset", "name")) for each in against]


def _of_version(version: Manifest) -> list[tuple[str, Any]]:
    return [
        *_opponents(version),
        (VERSION, get(version, "spec", "baseModel", "modelVersion", "name")),
        (MODEL, get(version, "spec", "model")),
        (ARTIFACT, _digest(get(version, "spec", "artifact", "uri"))),
        (ARTIFACT, _digest(get(version, "spec", "baseModel", "uri"))),
        (ARTIFACT, get(version, "status", "baseDigest")),
    ]


def _opponents(version: Manifest) -> list[tuple[str, Any]]:
    """What an evaluation mounts beside the version. It refers to that only until there is a verdict."""
    conditions = get(version, "status", "conditions", default=[])
    evaluated: Manifest = next((c for c in conditions if c.get("type") == "Evaluated"), {})
    is_judged = evaluated.get("status") in {"True", "False"}
    if is_judged or evaluated.get("reason") == VersionReason.NOT_EVALUATED:
        return []
    contenders = get(version, "status", "opponents", "contenders", default=[])
    return [(ARTIFACT, _digest(c.get(part))) for c in contenders for part in ("uri", "baseUri")]


def _of_service(service: Manifest) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        (VERSION, get(service, "spec", "baseModel", "modelVersion", "name")),
        (ARTIFACT, _digest(get(service, "spec", "baseModel", "uri"))),
        (ARTIFACT, get(service, "status", "baseDigest")),
    ]
    pools = get(service, "status", "enginePools", default=[])
    found += [(ARTIFACT, pool.get("digest")) for pool in pools]
    for model in get(service, "spec", "models", default=[]):
        found += [
            (VERSION, get(model, "version", "name")),
            (MODEL, get(model, "version", "latestOf")),
        ]
    for model in get(service, "status", "models", default=[]):
        found += [(VERSION, model.get("activeVersion")), (VERSION, model.get("candidateVersion"))]
        found.append((VERSION, get(model, "rollout", "stable")))
        found += [(DECISION, d.get("decision")) for d in model.get("decisions", [])]
    return found


def _of_decision(decision: Manifest) -> list[tuple[str, Any]]:
    """A quarantine is about content, whatever the version is called."""
    target = get(decision, "spec", "target", default={})
    found: list[tuple[str, Any]] = [(target.get("kind") or VERSION, target.get("name"))]
    if get(decision, "spec", "action") in ("Quarantine", "LiftQuarantine"):
        found.append((ARTIFACT, target.get("digest")))
    return found


_REFERENCES: Final = {
    DATASET: _of_dataset,
    JOB: _of_job,
    VERSION: _of_version,
    SERVICE: _of_service,
    DECISION: _of_decision,
}
REFERRING: Final = frozenset(_REFERENCES)


@dataclass(frozen=True, slots=True)
class View:
    """What one of our objects is to the others, at one moment."""

    target: Target
    references: frozenset[Target]
    # Equal as long as nothing has changed that others decide by.
    standing: bytes
    is_deleting: bool
    # Whether its status is about an earlier spec, or about none yet.
    is_behind: bool

    @classmethod
    def of(cls, kind: str, manifest: Manifest) -> "View":
        """The view of an object as the API server hands it out."""
        target = (kind, get(manifest, "metadata", "namespace", default=""), name_of(manifest))
        known = references(kind, manifest)
        standing = _standing(kind, manifest, known)
        return cls(target, known, standing, is_deleting(manifest), _is_behind(manifest))


@dataclass(frozen=True)
class WakeUps:
    """Who may have to decide anew: objects by name, and whoever refers to one of `reverse`."""

    objects: frozenset[Target]
    reverse: frozenset[Target] = frozenset()


def wake_ups(before: View | None, after: View | None) -> WakeUps:
    """What follows from a change of one of our objects.

    The object itself always; others only where something changed that they look at, so that a
    training job's progress does not wake everybody every two seconds.
    """
    views = [view for view in (before, after) if view is not None]
    myself = frozenset(view.target for view in views)
    if before is not None and after is not None and before.standing == after.standing:
        return WakeUps(objects=myself)
    known = frozenset[Target]().union(*(view.references for view in views))
    objects = frozenset(t for t in known if t[0] not in {MODEL, ARTIFACT})
    is_version = any(kind == VERSION for kind, _, _ in myself)
    is_decision = any(kind == DECISION for kind, _, _ in myself)
    models = frozenset(t for t in known if t[0] == MODEL and is_version)
    content = frozenset(t for t in known if t[0] == ARTIFACT and is_decision)
    return WakeUps(objects=myself | objects, reverse=myself | models | content)


def _is_behind(manifest: Manifest) -> bool:
    observed = get(manifest, "status", "observedGeneration", default=0)
    return bool(observed != get(manifest, "metadata", "generation", default=0))


def _standing(kind: str, manifest: Manifest, known: frozenset[Target]) -> bytes:
    """The part of an object that others decide by, as a few bytes."""
    metadata = manifest.get("metadata", {})
    parts = [metadata.get(part) for part in ("uid", "generation", "deletionTimestamp")]
    if kind in {VERSION, DATASET}:
        parts.append(manifest.get("status"))
    else:
        conditions = get(manifest, "status", "conditions", default=[])
        parts += [sorted(known), [(c.get("type"), c.get("status")) for c in conditions]]
    text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
