"""The CRDs on a real API server: what is accepted, what is refused, and what `kubectl explain` says."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from tests.builders import (
    DIGEST,
    Manifest,
    dataset,
    decision,
    fine_tune_job,
    inference_service,
    inline_dataset,
    model_version,
)
from tests.wrong import REFUSED

from trimtab_api.v1alpha1 import Dataset, Decision, FineTuneJob, InferenceService, ModelVersion
from trimtab_local.layout import layout_from

ROOT = Path(__file__).resolve().parents[2]
KINDS = (Dataset, FineTuneJob, ModelVersion, InferenceService, Decision)
PLURALS = {kind.definition.kind: kind.definition.plural for kind in KINDS}
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
# Helm takes over what carries its marks and its field manager; else a later install of the chart would refuse the CRDs.
HELM = {
    "labels": {"app.kubernetes.io/managed-by": "Helm"},
    "annotations": {
        "meta.helm.sh/release-name": "trimtab",
        "meta.helm.sh/release-namespace": "trimtab-system",
        "helm.sh/resource-policy": "keep",
    },
}


class Server:
    """The API server, as far as these tests ask it."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self._api = config.new_client_from_config(kubeconfig)
        self._objects = client.CustomObjectsApi(self._api)
        self.core = client.CoreV1Api(self._api)
        self.definitions = client.ApiextensionsV1Api(self._api)
        self.namespace = f"crds-{uuid.uuid4().hex[:6]}"
        asked = client.AuthenticationV1Api(self._api).create_self_subject_review({})
        self.user = str(asked.status.user_info.username)

    def refusal(self, wanted: Manifest, *, keep: bool = False) -> str | None:
        """What the server says against a manifest; None when it takes it."""
        body = deepcopy(wanted)
        body["metadata"]["namespace"] = self.namespace
        return _said(
            partial(
                self._objects.create_namespaced_custom_object, **self._place(wanted), body=body
            ),
            dry_run=None if keep else "All",
        )

    def refusal_of_change(self, wanted: Manifest) -> str | None:
        """The same for a change of an object that is there."""
        name = wanted["metadata"]["name"]
        body = {"spec": wanted["spec"]}
        change = self._objects.patch_namespaced_custom_object
        return _said(
            partial(
                change,
                **self._place(wanted),
                name=name,
                body=body,
                _content_type="application/merge-patch+json",
            ),
            dry_run="All",
        )

    def _place(self, wanted: Manifest) -> dict[str, str]:
        plural = PLURALS[wanted["kind"]]
        return {
            "group": "trimtab.dev",
            "version": "v1alpha1",
            "namespace": self.namespace,
            "plural": plural,
        }

    def apply_definition(self, path: Path) -> None:
        body: dict[str, Any] = yaml.safe_load(path.read_text())
        name = body["metadata"]["name"]
        there = [
            item.metadata.name for item in self.definitions.list_custom_resource_definition().items
        ]
        body["metadata"] |= {} if name in there else HELM
        self.definitions.patch_custom_resource_definition(
            name,
            body,
            field_manager="helm",
            force=True,
            _content_type="application/apply-patch+yaml",
        )


def _said(request: Callable[..., object], *, dry_run: str | None) -> str | None:
    try:
        request(field_validation="Strict", **({"dry_run": dry_run} if dry_run else {}))
    except client.ApiException as error:
        if error.status not in {400, 422}:
            raise
        return str(error.body)
    return None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    asked = Server(os.environ.get("KUBECONFIG") or str(layout_from(os.environ).kubeconfig))
    for plural in PLURALS.values():
        asked.apply_definition(ROOT / "crds" / f"{plural}.yaml")
    asked.core.create_namespace({"metadata": {"name": asked.namespace}})
    for plural in PLURALS.values():
        _wait_until_served(asked, plural)
    yield asked
    asked.core.delete_namespace(asked.namespace)


def _wait_until_served(server: Server, plural: str) -> None:
    path = f"{plural}.trimtab.dev"
    states: dict[str, str] = {}
    for _ in range(100):
        definition = server.definitions.read_custom_resource_definition(path)
        states = {c.type: c.status for c in definition.status.conditions or []}
        if (
            states.get("Established") == "True"
            and states.get("NonStructuralSchema", "False") == "False"
        ):
            return
        time.sleep(0.1)
    pytest.fail(f"{plural} is not served: {states}")


@pytest.mark.parametrize(("wrong", "words"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_manifest_is_refused_with_field_and_remedy(
    server: Server, wrong: Manifest, words: tuple[str, ...]
) -> None:
    said = server.refusal(wrong)
    assert said is not None, "it was accepted"
    assert [word for word in words if word not in said.replace('\\"', '"')] == [], said


def test_an_unknown_field_is_named(server: Server) -> None:
    said = server.refusal(fine_tune_job(learningRate=1))
    assert said is not None
    assert "spec.learningRate" in said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(server: Server, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest["kind"] == "Decision":
            # An installed chart lets everybody decide in their own name alone.
            manifest["spec"]["by"] = server.user
        if manifest["kind"] in PLURALS:
            assert server.refusal(manifest) is None


UNCHANGEABLE = {
    "the method": ({"method": {"lora": {"rank": 4}}}, "spec.method cannot be changed"),
    "the base": ({"baseModel": {"uri": "oci://r/other:1"}}, "spec.baseModel cannot be changed"),
    "the data": (
        {"dataset": inline_dataset(sources=[{"uri": "configmap://a/b"}])},
        "spec.dataset cannot be changed",
    ),
    "a field that was left out": (
        {"earlyStopping": {"patience": 1}},
        "spec.earlyStopping cannot be changed",
    ),
    "a seed": ({"hyperparameters": {"seed": 1}}, "spec.hyperparameters cannot be changed"),
    "the output": ({"output": {"model": "other"}}, "spec.output cannot be changed"),
}


@pytest.fixture(scope="module")
def job(server: Server) -> Manifest:
    made = fine_tune_job("unchangeable")
    assert server.refusal(made, keep=True) is None
    return made


@pytest.mark.parametrize(("change", "words"), UNCHANGEABLE.values(), ids=UNCHANGEABLE)
def test_a_job_cannot_be_changed(
    server: Server, job: Manifest, change: Manifest, words: str
) -> None:
    said = server.refusal_of_change({**job, "spec": change})
    assert said is not None
    assert words in said
    assert "create a new FineTuneJob" in said


CHANGEABLE = {"suspend": True, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 0}


@pytest.mark.parametrize(("field", "value"), CHANGEABLE.items(), ids=CHANGEABLE)
def test_some_fields_of_a_job_can_be_changed(
    server: Server, job: Manifest, field: str, value: object
) -> None:
    assert server.refusal_of_change({**job, "spec": {field: value}}) is None


def test_a_version_cannot_be_changed(server: Server) -> None:
    version = model_version("unchangeable")
    assert server.refusal(version, keep=True) is None
    said = server.refusal_of_change({**version, "spec": {"lineage": {"seed": 1}}})
    assert said is not None
    assert "spec of a ModelVersion cannot be changed; create a new ModelVersion" in said


FULL_DATASET = {
    "documents": {"tokens": 256, "overlap": 16},
    "task": "Text",
    "sources": [{"uri": "s3://bucket/**/*.html", "format": "HTML"}],
    "clean": {
        "characters": {"min": 8, "max": 20000},
        "languages": {"allow": ["en", "de"], "atLeast": 0.7},
        "wordLists": [{"configMap": {"name": "words", "key": "toxic.txt"}, "action": "Report"}],
        "secrets": {"action": "Drop"},
        "pii": {
            "action": "Redact",
            "entities": ["EMAIL_ADDRESS"],
            "names": [{"configMap": {"name": "people", "key": "towns"}, "entity": "LOCATION"}],
        },
        "deduplicate": {"method": "MinHash", "threshold": 0.9},
    },
    "leakage": {"against": [{"dataset": {"name": "exam"}}], "action": "Drop"},
    "resources": {"cpu": "2", "memory": "2Gi"},
    "storage": {"size": "40Gi", "className": "fast"},
    "activeDeadlineSeconds": 3600,
}


def test_a_dataset_changes_in_every_part(server: Server) -> None:
    made = dataset("changeable")
    assert server.refusal(made, keep=True) is None
    assert server.refusal_of_change({**made, "spec": FULL_DATASET}) is None


def test_what_is_not_stated_is_what_the_reference_says(server: Server) -> None:
    assert server.refusal(dataset("defaults"), keep=True) is None
    path = "jsonpath={.spec.task} {.spec.clean} {.spec.split.by} {.spec.storage.size}"
    said = _kubectl(server, "get", "tds", "defaults", "-n", server.namespace, "-o", path)
    assert said == 'Instruction {"deduplicate":{"method":"Exact"}} Completion 10Gi'


ADDRESS = {"modelVersion": None, "uri": "oci://r/other:1"}
OTHER_BASE = {"modelVersion": {"name": "tiny-base-dddddddd"}}
BASE_CHANGES: dict[str, tuple[Manifest, str | None]] = {
    "the name": ({"baseModel": {"name": "other"}}, "spec.baseModel.name cannot be changed"),
    "an address": (
        {"baseModel": ADDRESS, "models": []},
        "spec.baseModel can be changed to another modelVersion only",
    ),
    "another version below adapters": ({"baseModel": OTHER_BASE}, None),
    "another version": (
        {"baseModel": {**OTHER_BASE, "rollout": {"allowDowntime": True}}, "models": []},
        None,
    ),
    "how versions take over": ({"baseModel": {"rollout": {"steps": [{"weight": 5}]}}}, None),
    "all else": ({"replicas": 3, "models": []}, None),
}


@pytest.fixture(scope="module")
def served(server: Server) -> Manifest:
    made = inference_service("unchangeable")
    assert server.refusal(made, keep=True) is None
    return made


@pytest.mark.parametrize(("change", "words"), BASE_CHANGES.values(), ids=BASE_CHANGES)
def test_of_its_base_a_service_changes_the_version_alone(
    server: Server, served: Manifest, change: Manifest, words: str | None
) -> None:
    said = server.refusal_of_change({**served, "spec": change})
    assert (said is None) == (words is None), said
    assert words is None or words in str(said)


def test_the_version_of_a_base_that_had_an_address_can_be_named(server: Server) -> None:
    by_address = {"name": "tiny", "uri": "oci://r/tiny:1"}
    service = inference_service("addressed", baseModel=by_address, models=[])
    assert server.refusal(service, keep=True) is None
    named = {"baseModel": {**OTHER_BASE, "uri": None}}
    assert server.refusal_of_change({**service, "spec": named}) is None
    other = {"baseModel": {"uri": "oci://r/tiny:2"}}
    said = server.refusal_of_change({**service, "spec": other})
    assert "can be changed to another modelVersion only" in str(said)


def test_a_rollout_has_a_default_for_everything(server: Server) -> None:
    models = [{"name": "bot", "version": {"latestOf": "bot"}, "rollout": {}}]
    assert server.refusal(inference_service("rolled", models=models), keep=True) is None
    path = "jsonpath={.spec.models[0].rollout}"
    said = _kubectl(server, "get", "tis", "rolled", "-n", server.namespace, "-o", path)
    found = json.loads(said)
    assert (found["stepSeconds"], found["rollbackWindowSeconds"]) == (300, 3600)
    assert found["analysis"] == {
        "metrics": ["ErrorRate"],
        "falseAlarmRate": 0.05,
        "onInconclusive": "Hold",
        "deadlineSeconds": 86400,
    }


SERVED: Manifest = {"kind": "InferenceService", "name": "chat", "model": "bot"}
DECIDED: dict[str, tuple[str, Manifest]] = {
    "to promote": ("Promote", {**SERVED, "digest": DIGEST}),
    "to abort": ("Abort", {**SERVED, "digest": DIGEST}),
    "to pin": ("Pin", {**SERVED, "digest": DIGEST}),
    "to pause": ("Pause", SERVED),
    "to resume": ("Resume", SERVED),
    "to quarantine": ("Quarantine", {"kind": "ModelVersion", "name": "a-1", "digest": DIGEST}),
    "to lift it": ("LiftQuarantine", {"kind": "ModelVersion", "name": "a-1", "digest": DIGEST}),
}


@pytest.mark.parametrize(("action", "target"), DECIDED.values(), ids=DECIDED)
def test_it_can_be_decided(server: Server, action: str, target: Manifest) -> None:
    made = decision("possible", action=action, target=target, by=server.user)
    assert server.refusal(made) is None


def test_a_decision_cannot_be_changed(server: Server) -> None:
    made = decision("unchangeable", by=server.user)
    assert server.refusal(made, keep=True) is None
    said = server.refusal_of_change({**made, "spec": {"action": "Retire"}})
    assert said is not None
    assert "spec of a Decision cannot be changed; create another Decision" in said


@pytest.mark.parametrize("plural", PLURALS.values())
def test_kubectl_explains_every_field(server: Server, plural: str) -> None:
    text = _kubectl(server, "explain", "--recursive", "--output=plaintext-openapiv2", plural)
    listed = _kubectl(server, "explain", f"{plural}.spec")
    assert "DESCRIPTION" in text
    assert "<no description>" not in listed
    blocks = [block for block in listed.split("FIELDS:")[1].split("\n\n") if block.strip()]
    without = [block.split()[0] for block in blocks if len(block.strip().splitlines()) < 2]
    assert without == []


def test_short_names_the_category_and_scale_work(server: Server) -> None:
    assert server.refusal(dataset("unchangeable"), keep=True) is None
    listed = _kubectl(server, "get", "trimtab", "-n", server.namespace, "-o", "name")
    assert {
        f"{plural.removesuffix('s')}.trimtab.dev/unchangeable" for plural in PLURALS.values()
    } <= set(listed.split())
    for short in ("tds", "ftj", "mv", "tis", "tdc"):
        assert "unchangeable" in _kubectl(server, "get", short, "-n", server.namespace)
    _kubectl(server, "scale", "tis", "unchangeable", "--replicas=2", "-n", server.namespace)
    replicas = _kubectl(
        server,
        "get",
        "tis",
        "unchangeable",
        "-n",
        server.namespace,
        "-o",
        "jsonpath={.spec.replicas}",
    )
    assert replicas == "2"


def test_versions_are_selected_by_their_model(server: Server) -> None:
    selected = ("get", "mv", "-n", server.namespace, "-o", "name", "--field-selector")
    assert "unchangeable" in _kubectl(server, *selected, "spec.model=support-bot")
    assert _kubectl(server, *selected, "spec.model=other") == ""


def _kubectl(server: Server, *arguments: str) -> str:
    command = ["kubectl", f"--kubeconfig={server.kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
