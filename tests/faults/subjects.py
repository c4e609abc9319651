"""Whose specs are changed in the change bench, and what their fields can refer to there."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import yaml
from tests import builders
from tests.builders import Manifest
from tests.faults.changes import TOKEN, Change, Subject
from tests.faults.expectations import World
from tests.faults.fields import Edit, Hints, Schema
from tests.faults.kubelet import RANK
from tests.faults.neighbours import BASE as NEAR_BASE
from tests.faults.neighbours import BENT
from tests.faults.scenario import BASE, BOT, Models
from tests.operatorkit import PLURALS, ROOT

NOBODY: Final = "not-there"
FIRST, SECOND = f"{BOT}-1", f"{BOT}-2"
# One machine holds no thousand engines, real ones or not.
AFFORDABLE: Final = {"replicas": 3}
# What updates of a job may touch, and one field that they may not.
OF_A_JOB: Final = ("suspend", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "resources")


def schema_of(kind: str) -> Schema:
    """The schema of a kind's spec, from the CRD as it is installed."""
    crd = yaml.safe_load((ROOT / "crds" / f"{PLURALS[kind]}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec: Schema = schema["properties"]["spec"]
    return spec


def shared(models: Models) -> list[Manifest]:
    """What is there before anything is changed: a base and two adapters of it."""
    base = {"uri": models.base, "kind": "Full"}
    return [
        builders.full_version(BASE, model=BASE, artifact=base),
        *(_adapter(models, n) for n in (1, 2)),
    ]


def world(models: Models) -> World:
    """The same, as the oracles know it."""
    artifacts: list[Manifest] = [{"uri": models.base, "kind": "Full"}]
    artifacts += [{"uri": uri, "kind": "Adapter", "rank": RANK} for uri, _ in models.adapters]
    ranks = {FIRST: RANK, SECOND: RANK}
    return World(BASE, models.base, ranks, {BOT: SECOND}, artifacts)


def subjects(models: Models) -> list[Subject]:
    """All of them."""
    hints = Hints(_known(models), AFFORDABLE)
    service = Subject(
        "service", "InferenceService", schema_of("InferenceService"), _service(), hints
    )
    job = Subject("job", "FineTuneJob", schema_of("FineTuneJob"), _job(), hints)
    # Of a model of its own: a newer version of the shared one would be what services follow.
    imported = _adapter(models, 1)["spec"] | {"model": TOKEN}
    version = Subject("version", "ModelVersion", schema_of("ModelVersion"), imported, hints)
    dataset = Subject("dataset", "Dataset", schema_of("Dataset"), _dataset(), hints)
    return [
        dataset,
        service,
        replace(service, name="new-service", updated=("baseModel",), is_anew=True),
        replace(job, name="training-job", updated=OF_A_JOB, is_held=True),
        replace(job, name="finished-job", updated=OF_A_JOB),
        replace(job, name="new-job", is_anew=True),
        version,
        replace(version, name="new-version", is_anew=True),
        *_with_neighbours(models, service, job, version),
    ]


def _with_neighbours(
    models: Models, service: Subject, job: Subject, version: Subject
) -> list[Subject]:
    """The same, but that what they refer to is theirs alone, and is not there at first."""
    base = ({"model": f"{TOKEN}-{NEAR_BASE}", "artifact": {"uri": models.base, "kind": "Full"}},)
    own = {"modelVersion": {"name": f"{TOKEN}-{NEAR_BASE}"}}
    first, second = (
        {**_adapter(models, n)["spec"], "model": TOKEN, "baseModel": own} for n in (1, 2)
    )
    named = [{"name": f"{TOKEN}-a"}, {"name": f"{TOKEN}-b"}, {"latestOf": TOKEN}]
    wanted = [[{"name": BOT, "version": version}] for version in named]
    base_alone = {NEAR_BASE: base}
    imported = {**first, "evaluation": {}}
    return [
        replace(
            service,
            name="service-and-neighbours",
            start={
                **service.start,
                "baseModel": {"name": "tiny", **own},
                "models": wanted[0],
            },
            neighbours={**base_alone, "a": (first, second), "b": (second, first)},
            edits=tuple(Change((Edit(("models",), value),)) for value in [*wanted, *wanted]),
            deeds=(
                *_breaking(NEAR_BASE, "a", "b"),
                *("replace a", "replace b", "lose ConfigMap"),
                *_meddling(),
            ),
        ),
        replace(
            job,
            name="job-and-neighbours",
            start={**job.start, "baseModel": own},
            neighbours=base_alone,
            is_held=True,
            deeds=(*_breaking(NEAR_BASE), "take Job/train"),
        ),
        replace(
            job,
            name="finished-job-and-neighbours",
            start={**job.start, "baseModel": own},
            neighbours=base_alone,
            deeds=_breaking(NEAR_BASE),
        ),
        replace(
            version,
            name="version-and-neighbours",
            start=imported,
            neighbours=base_alone,
            deeds=_breaking(NEAR_BASE),
        ),
    ]


def _breaking(*parts: str) -> tuple[str, ...]:
    verbs = ("delete", "vanish", "forget")
    return (*(f"{verb} {part}" for verb in verbs for part in parts), "forget owner")


def _meddling() -> Iterator[str]:
    for kind in BENT:
        yield from (f"{verb} {kind}" for verb in ("take", "bend", "strip"))
    for part in ("engine", "gateway"):
        yield from (f"{verb} Deployment/{part}" for verb in ("take", "bend"))
    yield "take PodDisruptionBudget"


def _known(models: Models) -> Mapping[str, Any]:
    served = {"name": BOT, "version": {"name": FIRST}}
    second = {"name": "other", "version": {"latestOf": BOT}}
    broken = {"name": BOT, "version": {"name": NOBODY}}
    uri, report = models.adapters[0]
    return {
        "models.[].version.name": (FIRST, SECOND, BASE, NOBODY),
        "models.[].version.latestOf": (BOT, BASE, NOBODY),
        "models.[].name": (BOT, "tiny"),
        "models": ([served], [served, second], [second], [broken], [broken, second], []),
        "modelVersion.name": (BASE, FIRST, NOBODY),
        "baseModel.uri": (models.base, "hf://org/name", "s3://bucket/a b", "pvc://claim/x"),
        "baseModel.revision": (builders.COMMIT,),
        "sources": ([{"uri": "configmap://pairs/train.jsonl"}],),
        "sources.[].uri": ("configmap://pairs/train.jsonl", "pvc://data/x", "https://a/b"),
        "priorityClassName": ("system-cluster-critical", NOBODY),
        "tolerations": ([{"key": "gpu", "operator": "Exists"}],),
        "dataset.name": (NOBODY,),
        "against": ([{"uri": f"oci://127.0.0.1:9/a@{builders.DIGEST}"}], []),
        "artifact.uri": (uri, models.base),
        "evaluation.report": (report,),
        "evaluation.dataset.uri": (uri,),
    }


def _service() -> Manifest:
    return {
        "baseModel": {"name": "tiny", "modelVersion": {"name": BASE}},
        "engine": {"gpus": 0, "memory": "1Gi", "cpu": "0.5"},
        "gateway": {"replicas": 1},
        "models": [{"name": BOT, "version": {"name": FIRST}}],
    }


def _job() -> Manifest:
    made: Manifest = {"baseModel": {"modelVersion": {"name": BASE}}, "output": {"model": TOKEN}}
    return dict(builders.fine_tune_job(**made)["spec"])


def _dataset() -> Manifest:
    return dict(builders.dataset()["spec"])


def _adapter(models: Models, number: int) -> Manifest:
    uri, report = models.adapters[number - 1]
    return builders.model_version(
        f"{BOT}-{number}",
        model=BOT,
        artifact={"uri": uri, "kind": "Adapter", "rank": RANK},
        baseModel={"modelVersion": {"name": BASE}},
        evaluation={"report": report},
    )
