"""The show of the closed loop goes on from what the service says, and begins anew without a trace of before."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from examples.quickstart import chronicle, demo, steps, target
from examples.quickstart.kube import CommandFailed, Kube, Object
from examples.quickstart.loop import rollout_told
from examples.quickstart.scene import MODEL, SERVICE, Scene, Stage, Versions, stage
from examples.quickstart.target import Target

from trimtab_api.v1alpha1 import FineTuneJob, InferenceService

VERSIONS = Versions("first", "good", "bad")
DIGEST = f"sha256:{'0' * 64}"


def a_service(**model: object) -> Object:
    return {"status": {"models": [{"name": MODEL, **model}]}}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        pytest.param(None, Stage.BEGINNING, id="there is no service"),
        pytest.param({}, Stage.BEGINNING, id="a service of which nothing is known yet"),
        pytest.param(a_service(), Stage.BEGINNING, id="no version answers"),
        pytest.param(a_service(activeVersion="first"), Stage.PROMOTION, id="the first answers"),
        pytest.param(a_service(activeVersion="good"), Stage.ROLLBACK, id="the good one answers"),
        pytest.param(
            a_service(activeVersion="good", lastRollback={"from": "bad"}),
            Stage.DRIFT,
            id="the bad one was rolled back",
        ),
        pytest.param(
            a_service(activeVersion="first", lastRollback={"from": "good"}),
            Stage.BEGINNING,
            id="chance was against the good one",
        ),
        pytest.param(
            a_service(activeVersion="successor", lastRollback={"from": "bad"}),
            Stage.BEGINNING,
            id="all of it was shown",
        ),
        pytest.param(
            a_service(activeVersion="of-an-older-demo"), Stage.BEGINNING, id="another demo's"
        ),
    ],
)
def test_it_goes_on_from_what_the_service_says(service: Object | None, expected: Stage) -> None:
    assert stage(service, VERSIONS) is expected


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param({}, "", id="no rollout"),
        pytest.param(
            {"weight": 20, "rollout": {"verdict": "Hold", "message": "about 90 more are needed"}},
            "20 % of the requests; Hold: about 90 more are needed",
            id="a step",
        ),
        pytest.param({"rollout": {"message": "it is loaded"}}, "it is loaded", id="no share yet"),
    ],
)
def test_a_rollout_is_one_line(model: Object, said: str) -> None:
    assert rollout_told(model) == said


@dataclasses.dataclass(frozen=True)
class LoopKube(Kube):
    """A cluster in which whatever is applied is Ready, and a lifted quarantine is over at once."""

    kubeconfig: Path = Path("/nowhere")
    namespace: str = "demo"
    quarantined: set[str] = dataclasses.field(default_factory=set)
    typed: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    given: list[str] = dataclasses.field(default_factory=list)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        self.typed.append(arguments)
        match arguments:
            case ("get", "modelversion", name, *_):
                return json.dumps(self._version(name))
            case ("get", "inferenceservice", *_):
                return json.dumps(_ready())
            case ("auth", "whoami", *_):
                return "alice"
            case ("create", *_):
                self._decide(json.loads(text or ""))
            case ("apply", *_):
                self.given.append(text or "")
        return ""

    def _version(self, name: str) -> Object:
        state = "True" if name in self.quarantined else "False"
        return {
            "metadata": {"name": name},
            "spec": {"artifact": {"uri": f"oci://r/{name}@{DIGEST}"}},
            "status": {"conditions": [{"type": "Quarantined", "status": state}]},
        }

    def _decide(self, decision: Object) -> None:
        spec = decision["spec"]
        assert (spec["action"], spec["by"]) == ("LiftQuarantine", "alice")
        assert spec["target"]["digest"] == DIGEST
        self.quarantined.remove(spec["target"]["name"])


def _ready() -> Object:
    kinds = ("EngineReady", "AdaptersReady", "GatewayReady", "Ready")
    conditions = [
        {"type": kind, "status": "True", "message": "it is", "observedGeneration": 1}
        for kind in kinds
    ]
    return {"metadata": {"generation": 1}, "status": {"conditions": conditions}}


def a_scene(kube: Kube, output: Path) -> Scene:
    place = Target(kube, "registry:5000", "127.0.0.1:5000", True, "")
    return Scene(place, output, {"BASE": "base", "GPUS": "0"}, "first")


def test_a_new_beginning_takes_away_what_an_earlier_one_has_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kube = LoopKube(quarantined={"bad"})
    a_scene(kube, tmp_path).begin(VERSIONS)
    deleted = [line for line in kube.typed if line[0] == "delete"]
    assert [line[4:] for line in deleted] == [
        ("inferenceservice", SERVICE),
        ("pvc", f"{SERVICE}-capture"),
        ("finetunejobs,datasets", "-l", "trimtab.dev/correlation"),
        ("modelversions", "-l", "trimtab.dev/correlation"),
    ]
    assert not kube.quarantined
    assert "The quarantine of bad was lifted by a Decision." in capsys.readouterr().out
    service = yaml.safe_load(kube.given[-1])
    assert service["spec"]["models"][0]["version"] == {"name": "first"}


def test_where_nothing_is_quarantined_nothing_is_lifted(tmp_path: Path) -> None:
    kube = LoopKube()
    a_scene(kube, tmp_path).begin(VERSIONS)
    assert all(line[0] != "create" for line in kube.typed)


def test_the_manifests_are_whole_and_fit_each_other(tmp_path: Path) -> None:
    kube = LoopKube()
    scene = a_scene(kube, tmp_path)
    scene.begin(VERSIONS)
    scene.wants(latestOf=MODEL)
    secret, claim, template, _, service = (
        each for text in kube.given for each in yaml.safe_load_all(text)
    )
    job = FineTuneJob.model_validate(template)
    found = InferenceService.model_validate(service)
    (model,) = found.spec.models
    assert model.version.latest_of == job.spec.output.model
    assert model.retrain is not None
    assert model.retrain.template.name == job.metadata.name
    assert job.spec.suspend
    assert found.spec.gateway.api_keys is not None
    assert found.spec.gateway.api_keys.secret_name == secret["metadata"]["name"]
    assert claim["metadata"]["name"] == f"{found.metadata.name}-capture"


def test_both_versions_are_of_the_model_that_is_followed() -> None:
    values = {"NAME": "n", "BASE": "b", "DATASET": '{"name": "d"}', "SEED": "8", "GPUS": "0"}
    text = steps.rendered("5-version.yaml", SERVICE=SERVICE, MODEL=MODEL, **values)
    job = FineTuneJob.model_validate(yaml.safe_load(text))
    assert job.spec.output.model == MODEL


def test_lines_are_shown_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    flag = chronicle.fields(".status", "a", "b[*].c")
    wanted = 'jsonpath={range .status}a: {.a}{"\\n"}b[*].c: {.b[*].c}{"\\n"}{end}'
    assert flag == ("-o", wanted)
    chronicle.tell(LoopKube(), ("get", "pods", *flag))
    assert f"$ kubectl -n demo get pods -o '{wanted}'" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class PageKube(Kube):
    """A cluster whose operator makes the page, or may not be asked."""

    kubeconfig: Path = Path("/nowhere")
    namespace: str = "demo"
    is_forbidden: bool = False

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        if arguments[0] == "get":
            return '{"items": []}'
        assert (self.namespace, text) == ("trimtab-system", '{"items": []}')
        assert arguments[arguments.index("--prometheus") + 1] == "http://prometheus"
        if self.is_forbidden:
            raise CommandFailed("pods is forbidden")
        return "<html></html>\n/dev/stdout\n"


@pytest.mark.parametrize("is_forbidden", [False, True])
def test_the_page_is_the_operators_and_its_lack_is_told(
    is_forbidden: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "history.html"
    kube = PageKube(is_forbidden=is_forbidden)
    place = Target(kube, "r", "r", True, "", prometheus="http://prometheus")
    chronicle.write(place, SERVICE, page)
    assert page.exists() is not is_forbidden
    if is_forbidden:
        assert "There is no page: pods is forbidden" in capsys.readouterr().out
    else:
        assert page.read_text() == "<html></html>\n"


def test_without_a_prometheus_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = Target(LoopKube(), "r", "r", True, "")
    monkeypatch.setattr(target, "chosen", lambda *_: place)
    with pytest.raises(CommandFailed, match="set PROMETHEUS_URL"):
        demo.loop(tmp_path)
