"""Who refers to whom: one description, from which wake-ups and reverse look-ups both follow.

A target is (kind, namespace, name). `Model` is no kind of the API: it stands for "any version of
this model".
"""

from dataclasses import dataclass
from typing import Any, Final

from trimtab_operator.domain.manifests import Manifest, get, name_of

Target = tuple[str, str, str]

JOB: Final = "FineTuneJob"
VERSION: Final = "ModelVersion"
SERVICE: Final = "InferenceService"
MODEL: Final = "Model"


def references(kind: str, manifest: Manifest) -> frozenset[Target]:
    """Everything that the object refers to, in spec and in status."""
    namespace = get(manifest, "metadata", "namespace", default="")
    found = _REFERENCES[kind](manifest) if kind in _REFERENCES else []
    return frozenset((what, namespace, str(name)) for what, name in found if name)


def _of_job(job: Manifest) -> list[tuple[str, Any]]:
    return [
        (VERSION, get(job, "spec", "baseModel", "modelVersion", "name")),
        (VERSION, get(job, "status", "modelVersion")),
    ]


def _of_version(version: Manifest) -> list[tuple[str, Any]]:
    return [
        (VERSION, get(version, "spec", "baseModel", "modelVersion", "name")),
        (MODEL, get(version, "spec", "model")),
    ]


def _of_service(service: Manifest) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        (VERSION, get(service, "spec", "baseModel", "modelVersion", "name")),
    ]
    for model in get(service, "spec", "models", default=[]):
        found += [
            (VERSION, get(model, "version", "name")),
            (MODEL, get(model, "version", "latestOf")),
        ]
    for model in get(service, "status", "models", default=[]):
        found += [(VERSION, model.get("activeVersion")), (VERSION, model.get("candidateVersion"))]
    return found


_REFERENCES = {JOB: _of_job, VERSION: _of_version, SERVICE: _of_service}


@dataclass(frozen=True)
class WakeUps:
    """Who may have to decide anew: objects by name, and whoever refers to one of `reverse`."""

    objects: frozenset[Target]
    reverse: frozenset[Target] = frozenset()


def wake_ups(kind: str, before: Manifest | None, after: Manifest | None) -> WakeUps:
    """What follows from a change of one of our objects.

    The object itself always; others only where something changed that they look at, so that a
    training job's progress does not wake everybody every two seconds.
    """
    views = [m for m in (before, after) if m is not None]
    myself = frozenset((kind, *_key(m)) for m in views)
    if before is not None and after is not None and standing(kind, before) == standing(kind, after):
        return WakeUps(objects=myself)
    known = frozenset[Target]().union(*(references(kind, m) for m in views))
    objects = frozenset(t for t in known if t[0] != MODEL)
    models = frozenset(t for t in known if t[0] == MODEL and kind == VERSION)
    return WakeUps(objects=myself | objects, reverse=myself | models)


def standing(kind: str, manifest: Manifest) -> object:
    """The part of an object that others decide by."""
    meta = (
        get(manifest, "metadata", "uid"),
        get(manifest, "metadata", "generation"),
        get(manifest, "metadata", "deletionTimestamp"),
    )
    if kind == VERSION:
        return (*meta, get(manifest, "status"))
    conditions = get(manifest, "status", "conditions", default=[])
    verdicts = tuple((c.get("type"), c.get("status")) for c in conditions)
    return (*meta, references(kind, manifest), verdicts)


def _key(manifest: Manifest) -> tuple[str, str]:
    return get(manifest, "metadata", "namespace", default=""), name_of(manifest)
