"""The service that the closed loop is shown on: what it begins with, and how far it has come."""

import enum
import json
from dataclasses import dataclass
from pathlib import Path

from examples.quickstart import steps
from examples.quickstart.kube import Object, condition, wait
from examples.quickstart.people import shuffled
from examples.quickstart.progress import Step, step
from examples.quickstart.target import Target

from trimtab_api import names

# The service, the name that people ask, and that of the versions which come of it.
SERVICE = MODEL = "docs-loop"
# Of people who are made up, on a cluster that is reached from this machine alone.
KEY = "a-key-of-made-up-people"
ROLLOUT: Object = {
    "steps": [{"weight": 20}, {"weight": 50}],
    "stepSeconds": 10,
    "stepRequests": 10,
    "analysis": {"metrics": ["ErrorRate", "NegativeFeedback"], "margin": 0.25},
    "rollbackWindowSeconds": 30,
}
HYPERPARAMETERS: Object = {
    "epochs": 1,
    "learningRate": 0.003,
    "batchSize": 6,
    "maxLength": 256,
    "packing": True,
    "scheduler": "Cosine",
    "seed": 9,
}
LIFTED_SECONDS = 60

_NAMES = {"SERVICE": SERVICE, "MODEL": MODEL, "KEY": KEY}
_DELETE = ("delete", "--ignore-not-found", "--wait", "--timeout=120s")


class Stage(enum.Enum):
    """What comes next."""

    BEGINNING = enum.auto()
    PROMOTION = enum.auto()
    ROLLBACK = enum.auto()
    DRIFT = enum.auto()


@dataclass(frozen=True)
class Versions:
    """The one that the demo has made, a good one, and one that was trained on shuffled answers."""

    first: str
    good: str
    bad: str


def stage(service: Object | None, versions: Versions) -> Stage:
    """How far an earlier run came, from what the service says; whatever is not of this show begins anew."""
    model = _model(service)
    active, fallen = model.get("activeVersion"), model.get("lastRollback", {}).get("from")
    if active == versions.first and fallen is None:
        return Stage.PROMOTION
    if active == versions.good and fallen is None:
        return Stage.ROLLBACK
    if active == versions.good and fallen == versions.bad:
        return Stage.DRIFT
    return Stage.BEGINNING


@dataclass(frozen=True)
class Scene:
    """Where it is shown, and with what."""

    place: Target
    output: Path
    values: dict[str, str]
    first: str

    @property
    def service(self) -> Object | None:
        """The service as it is now."""
        return self.place.kube.get("inferenceservice", SERVICE)

    @property
    def model(self) -> Object:
        """Its one model, as status tells it."""
        return _model(self.service)

    @property
    def drift(self) -> Object:
        """What is known of its traffic."""
        found: Object = self.model.get("drift", {})
        return found

    def trained(self) -> Versions:
        """Those that the show is about; what is there is not trained again."""
        pairs = (self.output / "pairs" / "pairs.jsonl").read_text(encoding="utf-8")
        folder = self.output / "shuffled"
        folder.mkdir(exist_ok=True)
        (folder / "pairs.jsonl").write_text(shuffled(pairs.splitlines()), encoding="utf-8")
        source = steps.pushed(folder, self.place, "shuffled")
        columns = {"prompt": "question", "completion": "answer"}
        wrong = {"inline": {"sources": [{"uri": source}], "columns": columns}}
        good = self._version(f"{SERVICE}-good", {"name": "library-questions"}, "the same answers")
        bad = self._version(f"{SERVICE}-shuffled", wrong, "shuffled answers")
        return Versions(self.first, good, bad)

    def _version(self, name: str, dataset: Object, learned: str) -> str:
        own = {"NAME": name, "DATASET": json.dumps(dataset), "SEED": "8"}
        manifest = steps.rendered("5-version.yaml", **self.values, **own, **_NAMES)
        version, _ = steps.train(self.place.kube, name, manifest, f"A version trained on {learned}")
        steps.evaluated(self.place.kube, version)
        return version

    def begin(self, versions: Versions) -> None:
        """Serve the first version, and nothing that an earlier run has left."""
        kube = self.place.kube
        with step("What an earlier run has left is taken away") as shown:
            kube.kubectl(*_DELETE, "inferenceservice", SERVICE)
            kube.kubectl(*_DELETE, "pvc", f"{SERVICE}-capture")
            # Those that came of drift; the next one would be no news beside them.
            for kinds in ("finetunejobs,datasets", "modelversions"):
                kube.kubectl(*_DELETE, kinds, "-l", names.LABEL_CORRELATION)
            for version in (versions.good, versions.bad):
                self._lift(version, shown)
        kube.replace(self._surroundings())
        steps.serve(kube, self._manifest({"name": versions.first}), SERVICE)

    def _lift(self, version: str, shown: Step) -> None:
        """A Decision has quarantined its content, and another one is the only way back."""
        kube = self.place.kube

        def is_held() -> bool:
            found = kube.get("modelversion", version)
            return bool(condition(found, "Quarantined")["status"] == "True")

        if not is_held():
            return
        found = kube.get("modelversion", version) or {}
        target = {
            "kind": "ModelVersion",
            "name": version,
            "digest": found["spec"]["artifact"]["uri"].rpartition("@")[2],
        }
        who = kube.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        decision = {
            "apiVersion": names.API_VERSION,
            "kind": "Decision",
            "metadata": {"generateName": "lift-quarantine-"},
            "spec": {
                "action": "LiftQuarantine",
                "target": target,
                "by": who,
                "reason": "It is shown once more how this version is rolled back.",
            },
        }
        kube.kubectl("create", "-f", "-", text=json.dumps(decision))
        wait(lambda: not is_held(), LIFTED_SECONDS, f"the end of the quarantine of {version}")
        shown.note(f"The quarantine of {version} was lifted by a Decision.")

    def _surroundings(self) -> str:
        own = {"DATASET": "library-questions", "HYPERPARAMETERS": json.dumps(HYPERPARAMETERS)}
        return steps.rendered("6-retraining.yaml", **self.values, **own, **_NAMES)

    def _manifest(self, selector: Object) -> str:
        own = {"CONTEXT": "512", "VERSION": json.dumps(selector), "ROLLOUT": json.dumps(ROLLOUT)}
        return steps.rendered("7-loop.yaml", **self.values, **own, **_NAMES)

    def wants(self, **version: str) -> None:
        """Say in the spec which version is to be served: `name=…` or `latestOf=…`."""
        self.place.kube.apply(self._manifest(version))


def _model(service: Object | None) -> Object:
    models = ((service or {}).get("status") or {}).get("models") or []
    found: Object = next((model for model in models if model["name"] == MODEL), {})
    return found
