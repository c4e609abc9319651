"""The demo goes on from whatever an earlier run has left, one of another checkout too."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from examples.quickstart import show, steps
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


# --- Datasets -------------------------------------------------------------------------------------


def a_dataset(name: str, generation: int, status: str, about: int, **told: object) -> Object:
    ready = {
        "type": "Ready",
        "status": status,
        "reason": "Tested",
        "message": f"{name} is {status}",
        "observedGeneration": about,
    }
    records = {"read": 12, "kept": 10, "train": 8, "validation": 1, "test": 1}
    return {
        "metadata": {"name": name, "generation": generation},
        "spec": {},
        "status": {"conditions": [ready], "records": records, **told},
    }


@dataclass(frozen=True)
class DataKube(FakeKube):
    """A cluster in which Datasets become what they become at once."""

    becomes: dict[str, Object] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def apply(self, manifest: str) -> None:
        del manifest
        for name, found in self.becomes.items():
            self.objects.setdefault(name, found)

    def delete(self, manifest: str) -> None:
        self.deleted.append(manifest)
        self.objects.clear()


def test_datasets_are_waited_for_until_all_are_ready_as_they_stand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, pairs = a_dataset("text", 1, "True", 1), a_dataset("pairs", 2, "True", 1)
    kube = DataKube(becomes={"text": text, "pairs": pairs})
    monkeypatch.setattr(steps, "PREPARING_SECONDS", 0)
    with pytest.raises(CommandFailed, match="Datasets text and pairs Ready did not happen"):
        steps.prepare(kube, ("text", "pairs"), "the manifest")
    kube.objects["pairs"] = a_dataset("pairs", 2, "True", 2)
    found = steps.prepare(kube, ("text", "pairs"), "the manifest")
    assert [each["metadata"]["name"] for each in found] == ["text", "pairs"]
    assert "10 records in text, 10 records in pairs" in capsys.readouterr().out
    assert not kube.deleted


def test_a_dataset_that_cannot_be_used_ends_the_demo_with_its_reason() -> None:
    kube = DataKube(becomes={"text": a_dataset("text", 1, "False", 1)})
    with pytest.raises(CommandFailed, match="Dataset text is not Ready: text is False"):
        steps.prepare(kube, ("text",), "the manifest")


def test_a_dataset_that_failed_in_an_earlier_run_is_made_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kube = DataKube(
        objects={"text": a_dataset("text", 1, "False", 1)},
        becomes={"text": a_dataset("text", 1, "True", 1)},
    )
    steps.prepare(kube, ("text",), "the manifest")
    assert kube.deleted == ["the manifest"]
    assert "text of an earlier run failed" in capsys.readouterr().out


def test_a_failure_of_an_earlier_spec_is_not_the_present_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = DataKube(objects={"text": a_dataset("text", 2, "False", 1)})
    monkeypatch.setattr(steps, "PREPARING_SECONDS", 0)
    with pytest.raises(CommandFailed, match="Datasets text Ready did not happen"):
        steps.prepare(kube, ("text",), "the manifest")
    assert not kube.deleted


def test_what_was_dropped_is_shown_by_the_steps_that_dropped_something() -> None:
    text, pairs = a_dataset("text", 1, "True", 1), a_dataset("pairs", 1, "True", 1)
    text["status"]["records"]["dropped"] = [
        {"step": "Characters", "count": 0},
        {"step": "NearDuplicates", "count": 2},
    ]
    head, first, second = show.dropped([text, pairs]).splitlines()
    assert head.split() == ["read", "-NearDuplicates", "kept", "train", "validation", "test"]
    assert first.split() == ["text", "12", "2", "10", "8", "1", "1"]
    assert second.split() == ["pairs", "12", "0", "10", "8", "1", "1"]


@pytest.mark.parametrize("name", ["1-data", "2-base", "3-tuned", "4-service"])
def test_every_manifest_has_all_its_values(name: str) -> None:
    values = {"TEXT": "t", "PAIRS": "p", "GPUS": "0", "BASE": "b", "VERSION": "v"}
    assert "${" not in steps.rendered(f"{name}.yaml", **values)
