"""What users do in one run, and what they wait for: the same words whatever goes wrong meanwhile.

A user waits for conditions and looks at nothing else, so that a run with faults takes the same way
as an undisturbed one, only slower.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests import builders
from tests.builders import Manifest
from tests.faults.kubelet import RANK, Kubelet
from tests.operatorkit import Server
from tests.servingbuilders import a_report

from trimtab_api import names
from trimtab_oci import RegistryClient

DATASET, JOB, VERSION, SERVICE = "Dataset", "FineTuneJob", "ModelVersion", "InferenceService"
DECISION = "Decision"
BASE, BOT = "tiny-base", "bot"
REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
PATIENCE_SECONDS = 240.0  # a busy machine is no fault
LOOKED_EVERY_SECONDS = 0.3  # a user is no load
FOREIGN = "example.com/keep"
T = TypeVar("T")


@dataclass(frozen=True)
class Models:
    """What is in the registry before anybody starts: a base, and adapters with their reports."""

    base: str
    adapters: Sequence[tuple[str, str]]


async def push_models(prefix: str, folder: Path) -> Models:
    """Push them."""
    async with RegistryClient(plain_http=True) as registry:
        base = await registry.push_directory(
            _files(folder / "base", "config.json"), f"{prefix}/base", kind="Full", annotations={}
        )
        adapters = []
        for number in (1, 2):
            adapter = await registry.push_directory(
                _files(folder / f"bot-{number}", "adapter_config.json"),
                f"{prefix}/bot",
                kind="Adapter",
                annotations={"dev.trimtab.base": str(base.digest), "dev.trimtab.rank": str(RANK)},
            )
            report = a_report(artifactDigest=adapter.digest, baseDigest=base.digest)
            document = await registry.push_document(
                f"{prefix}/bot",
                report.model_dump_json().encode(),
                artifact_type=REPORT_TYPE,
                subject=adapter,
            )
            adapters.append((str(adapter), str(document)))
    return Models(str(base), adapters)


def _files(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(json.dumps({"of": folder.name}))
    return folder


class User:
    """Somebody with kubectl, and the nodes that the pods run on."""

    def __init__(self, server: Server, kubelet: Kubelet, models: Models) -> None:
        self._server = server
        self._kubelet = kubelet
        self._models = models

    # --- the story ---

    def act(self, *, with_foreign_finalizers: bool = False) -> None:
        """From an empty namespace to one with something of everything, some of it gone again."""
        self._apply_everything()
        self._keep_one_training_and_serve()
        self._change_and_delete(with_foreign_finalizers=with_foreign_finalizers)

    def _apply_everything(self) -> None:
        self._kubelet.held |= {"paused", "dropped"}
        self._kubelet.hopeless |= {"hopeless"}
        self._server.create(self._base())
        # It waits for the data that it names.
        self._server.create(self._job("tuned", dataset={"name": "tickets"}))
        self._server.create(builders.dataset(leakage={"against": [{"dataset": {"name": "exam"}}]}))
        self._server.create(builders.dataset("exam"))
        for name in ("paused", "dropped", "hopeless"):
            self._server.create(self._job(name))
        self._server.create(self._job("brief", ttlSecondsAfterFinished=3))
        self._server.create(self._adapter(1))
        self._server.create(self._service())
        self._server.create(self._service("other", baseModel=self._outside_base(), models=None))

    def _keep_one_training_and_serve(self) -> None:
        self._waits(JOB, "tuned", "Complete")
        self._waits(JOB, "hopeless", "Failed")
        self._is_gone(JOB, "brief")
        self._waits(JOB, "paused", "Started")
        self._server.change(JOB, "paused", {"spec": {"suspend": True}})
        self._waits(SERVICE, "chat", "Ready")
        self._waits(SERVICE, "other", "Ready")
        self._waits(JOB, "paused", "Suspended")
        self._server.change(JOB, "paused", {"spec": {"suspend": False}})
        self._kubelet.held.discard("paused")
        self._waits(JOB, "dropped", "Started")

    def _change_and_delete(self, *, with_foreign_finalizers: bool) -> None:
        self._server.create(self._adapter(2))
        self._server.change(SERVICE, "chat", {"spec": {"replicas": 2}})
        self._server.change(DATASET, "tickets", {"spec": {"split": {"seed": 1}}})
        self._says(SERVICE, "chat", _is_answered_by_the_second)
        self._decide()
        retried = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
        self._kubelet.hopeless.discard("hopeless")
        self._server.change(JOB, "hopeless", retried)
        held = self._keeps(self._train_job("dropped")) if with_foreign_finalizers else ""
        self._server.delete(JOB, "dropped")
        self._server.delete(SERVICE, "other")
        self._server.delete(VERSION, "bot-1")
        self._waits(JOB, "hopeless", "Complete")
        self._says(DATASET, "tickets", _is_prepared_anew)
        self._server.delete(DATASET, "exam")
        self._waits(JOB, "paused", "Complete")
        self._is_gone(VERSION, "bot-1")
        if held:
            self._lets_go(held)

    def _decide(self) -> None:
        """Where nobody asks for approval, decisions are told and change nothing else."""
        self._server.create(self._decision("Approve"))
        self._waits(VERSION, f"{BOT}-2", "Approved")
        self._waits(DECISION, "approve", "Effective")
        self._server.create(self._decision("Retire"))
        self._waits(VERSION, f"{BOT}-2", "Retired")
        self._waits(DECISION, "retire", "Effective")

    # --- what they apply ---

    def _base(self) -> Manifest:
        artifact = {"uri": self._models.base, "kind": "Full"}
        return builders.full_version(BASE, model=BASE, artifact=artifact)

    def _adapter(self, number: int) -> Manifest:
        uri, report = self._models.adapters[number - 1]
        return builders.model_version(
            f"{BOT}-{number}",
            model=BOT,
            artifact={"uri": uri, "kind": "Adapter", "rank": RANK},
            baseModel={"modelVersion": {"name": BASE}},
            evaluation={"report": report},
        )

    def _job(self, name: str, **changes: Any) -> Manifest:
        made: Manifest = {"baseModel": {"modelVersion": {"name": BASE}}, "output": {"model": name}}
        return builders.fine_tune_job(name, **made, **changes)

    def _decision(self, action: str) -> Manifest:
        uri, _ = self._models.adapters[1]
        target = {"kind": VERSION, "name": f"{BOT}-2", "digest": uri.rpartition("@")[2]}
        return builders.decision(action.lower(), action=action, target=target)

    def _service(self, name: str = "chat", **changes: Any) -> Manifest:
        spec: Manifest = {
            "baseModel": {"name": "tiny", "modelVersion": {"name": BASE}},
            "engine": {"gpus": 0, "memory": "1Gi", "cpu": "0.5"},
            "gateway": {"replicas": 1},
            "models": [{"name": BOT, "version": {"latestOf": BOT}}],
        }
        return builders.inference_service(name, **(spec | changes))

    def _outside_base(self) -> Manifest:
        return {"name": "tiny", "uri": "hf://example/tiny", "revision": builders.COMMIT}

    # --- what they look at ---

    def _waits(self, kind: str, name: str, condition: str) -> None:
        _eventually(
            lambda: self._server.is_true(kind, name, condition),
            f"{condition} of {kind} {name} never became true",
        )

    def _says(self, kind: str, name: str, wanted: Callable[[Manifest], bool]) -> None:
        _eventually(
            lambda: wanted(self._server.get(kind, name)),
            f"{kind} {name} never said what was waited for",
        )

    def _is_gone(self, kind: str, name: str) -> None:
        _eventually(
            lambda: not self._server.get(kind, name),
            f"{kind} {name} is still there",
        )

    # --- somebody else's finalizers ---

    def _train_job(self, owner: str) -> str:
        found = _eventually(
            lambda: [
                j.metadata.name
                for j in self._server.jobs(names.TRAIN)
                if j.metadata.name.startswith(f"{owner}-")
            ],
            "no such Job",
        )
        return str(found[0])

    def _keeps(self, job: str) -> str:
        self._server.batch.patch_namespaced_job(
            job, self._server.namespace, {"metadata": {"finalizers": [FOREIGN]}}
        )
        return job

    def _lets_go(self, job: str) -> None:
        there = self._server.batch.read_namespaced_job(job, self._server.namespace)
        kept = [f for f in there.metadata.finalizers or [] if f != FOREIGN]
        body = [{"op": "replace", "path": "/metadata/finalizers", "value": kept}]
        self._server.batch.patch_namespaced_job(job, self._server.namespace, body)


def _is_prepared_anew(dataset: Manifest) -> bool:
    return bool(dataset["status"].get("preparedGeneration") == dataset["metadata"]["generation"])


def _is_answered_by_the_second(service: Manifest) -> bool:
    answering = {m["name"]: m.get("activeVersion") for m in service["status"]["models"]}
    return answering.get(BOT) == f"{BOT}-2"


def _eventually(probe: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(LOOKED_EVERY_SECONDS)
    return found
