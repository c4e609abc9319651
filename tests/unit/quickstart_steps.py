"""The demo goes on from whatever an earlier run has left, one of another checkout too."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from examples.quickstart import steps
from examples.quickstart.kube import CommandFailed, Kube, Object


@dataclass(frozen=True)
class FakeKube(Kube):
    """A cluster whose jobs end as they are told to; manifests are JSON, which is YAML."""

    kubeconfig: Path = Path("/nowhere")
    namespace: str = "demo"
    tools: Path = Path("/nowhere")
    objects: dict[str, Object] = field(default_factory=dict)
    ends: str = "Complete"

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        given: Object = json.loads(text) if text else {}
        match arguments[0]:
            case "get":
                found = self.objects.get(arguments[2])
                return json.dumps(found) if found else ""
            case "apply":
                self._apply(given)
            case "delete":
                self.objects.pop(given["metadata"]["name"], None)
            case other:
                raise AssertionError(other)
        return ""

    def _apply(self, given: Object) -> None:
        name = given["metadata"]["name"]
        there = self.objects.setdefault(name, self._made(given))
        if there["spec"].get("invalid"):
            raise CommandFailed("kubectl apply failed: spec.invalid: Unknown field")
        if there["spec"] != given["spec"]:
            raise CommandFailed(
                f'kubectl apply failed: The FineTuneJob "{name}" is invalid: spec.method: Invalid '
                "value: spec.method cannot be changed; create a new FineTuneJob"
            )

    def _made(self, given: Object) -> Object:
        status = {
            "modelVersion": f"made-by-{given['spec'].get('method')}",
            "conditions": [
                {
                    "type": self.ends,
                    "status": "True",
                    "message": "because",
                    "observedGeneration": 1,
                }
            ],
        }
        return {**given, "metadata": {**given["metadata"], "generation": 1}, "status": status}


def a_job(**spec: object) -> str:
    return json.dumps({"metadata": {"name": "bot"}, "spec": {"method": "lora", **spec}})


def test_a_job_of_an_earlier_run_is_not_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    kube = FakeKube()
    steps.train(kube, "bot", a_job(), "Training")
    first = kube.objects["bot"]
    version, _ = steps.train(kube, "bot", a_job(), "Training")
    assert kube.objects["bot"] is first
    assert version == "made-by-lora"
    assert "anew" not in capsys.readouterr().out


def test_a_job_whose_manifest_has_changed_is_made_anew_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kube = FakeKube()
    steps.train(kube, "bot", a_job(), "Training")
    version, _ = steps.train(kube, "bot", a_job(method="qlora"), "Training")
    assert version == "made-by-qlora"
    said = capsys.readouterr().out
    assert (
        "FineTuneJob bot of an earlier run had another spec, which is fixed: it is made anew."
        in said
    )


def test_a_job_that_failed_is_made_anew_and_its_reason_is_told_if_it_fails_again() -> None:
    before = FakeKube(ends="Failed")
    with pytest.raises(CommandFailed, match="FineTuneJob bot failed: because"):
        steps.train(before, "bot", a_job(), "Training")
    now = FakeKube(objects=before.objects)
    version, _ = steps.train(now, "bot", a_job(), "Training")
    assert version == "made-by-lora"


def test_a_manifest_that_is_wrong_costs_no_object() -> None:
    kube = FakeKube()
    kube.apply(a_job())
    kept = kube.objects["bot"]
    kept["spec"]["invalid"] = True
    with pytest.raises(CommandFailed, match="Unknown field"):
        kube.replace(a_job())
    assert kube.objects["bot"] is kept


def test_a_service_is_ready_only_once_its_present_spec_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = FakeKube(ends="Ready")
    kinds = ("EngineReady", "AdaptersReady", "GatewayReady", "Ready")
    service = json.dumps({"metadata": {"name": "docs"}, "spec": {}})
    kube.apply(service)
    found = kube.objects["docs"]
    found["metadata"]["generation"] = 2
    found["status"]["conditions"] = [
        {"type": kind, "status": "True", "message": "it was", "observedGeneration": 1}
        for kind in kinds
    ]
    monkeypatch.setattr(steps, "SERVING_SECONDS", 0)
    with pytest.raises(CommandFailed, match="InferenceService docs Ready did not happen"):
        steps.serve(kube, service, "docs")
    for condition in found["status"]["conditions"]:
        condition["observedGeneration"] = 2
    assert steps.serve(kube, service, "docs")["metadata"]["name"] == "docs"
