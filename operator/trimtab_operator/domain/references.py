"""Who refers to whom: one description, from which wake-ups and reverse look-ups both follow.

A target is (kind, namespace, name). `Model` and `Digest` are no kinds of the API: they stand for
"any version of this model" and "whatever has this artifact as its own or as its base".
"""

from typing import Any, Final

from trimtab_operator.domain.manifests import Manifest, get, name_of

Target = tuple[str, str, str]

JOB: Final = "FineTuneJob"
VERSION: Final = "ModelVersion"
SERVICE: Final = "InferenceService"
MODEL: Final = "Model"
DIGEST: Final = "Digest"


def references(kind: str, manifest: Manifest) -> frozenset[Target]:
    """Everything that the object refers to, in spec and in status."""
    namespace = get(manifest, "metadata", "namespace", default="")
    found = _REFERENCES[kind](manifest) if kind in _REFERENCES else []
    return frozenset((what, namespace, str(name)) for what, name in found if name)


def _of_job(job: Manifest) -> list[tuple[str, Any]]:
    return [
        (VERSION, get(job, "spec", "baseModel", "modelVersion", "name")),
        (VERSION, get(job, "status", "modelVersion")),
        (DIGEST, get(job, "status", "resolved", "baseModelDigest")),
    ]


def _of_version(version: Manifest) -> list[tuple[str, Any]]:
    return [
        (VERSION, get(version, "spec", "baseModel", "modelVersion", "name")),
        (MODEL, get(version, "spec", "model")),
        (DIGEST, get(version, "spec", "artifact", "uri", default="").rpartition("@")[2]),
        (DIGEST, get(version, "status", "baseDigest")),
    ]


def _of_service(service: Manifest) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        (VERSION, get(service, "spec", "baseModel", "modelVersion", "name")),
        (DIGEST, get(service, "status", "baseDigest")),
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


def wake_ups(kind: str, before: Manifest | None, after: Manifest | None) -> frozenset[Target]:
    """What may have to be decided anew because one of our objects is, was or is no more.

    The object itself, what it refers to, and (as targets to look up in reverse) the names under
    which others refer to it.
    """
    targets: set[Target] = set()
    for manifest in (before, after):
        if manifest is not None:
            targets |= references(kind, manifest)
            targets.add((kind, get(manifest, "metadata", "namespace"), name_of(manifest)))
    return frozenset(targets)
