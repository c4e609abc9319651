"""The closed loop under live traffic: promotion by evidence, rollback, drift and the way back.

Each act looks first at what is there: an interrupted show goes on, and one that has ended begins anew.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.quickstart import chronicle, steps
from examples.quickstart.chronicle import fields, tell
from examples.quickstart.kube import CommandFailed, Kube, Object, wait
from examples.quickstart.people import (
    People,
    library,
    meanwhile,
    people_of,
    some,
    weather,
    weather_questions,
)
from examples.quickstart.progress import Step, step
from examples.quickstart.scene import KEY, MODEL, SERVICE, Scene, Stage, Versions, stage
from examples.quickstart.target import Target

from trimtab_api import names

PROVEN_SECONDS = 600
GUARDED_SECONDS = 120
LEARNED_SECONDS = 400
MOVED_SECONDS = 400
PROPOSED_SECONDS = 120

# The base has a name of its own, and stands among them.
_MODEL = f'.status.models[?(@.name=="{MODEL}")]'
_OF_SERVICE = f"involvedObject.name={SERVICE}"
_ON = ("stable", "candidate", "promoted", "reason", "message")
_BACK = ("from", "to", "message", "durationMs", "decision")
_DRIFT = ("reason", "signal", "psi", "logEvidence", "alarmAt", "since", "plan")
_GATE = ("metric", "verdict", "champion", "message")


def show(place: Target, output: Path, values: dict[str, str], first: str) -> None:
    """All of it, from wherever an earlier run came to."""
    scene = Scene(place, output, values, first)
    versions = scene.trained()
    if stage(scene.service, versions) is Stage.BEGINNING:
        scene.begin(versions)
    usual = library(output / "pairs" / "pairs.jsonl")
    with people_of(place.kube, SERVICE, KEY, MODEL) as people:
        acts = Acts(scene, versions, people, usual)
        if stage(scene.service, versions) is Stage.PROMOTION:
            acts.promotion()
        if stage(scene.service, versions) is Stage.ROLLBACK:
            acts.rollback()
        retraining = acts.drift()
        acts.succession(retraining, acts.accepted(retraining))
    chronicle.write(place, SERVICE, output / "history.html")
    kubectl, kubeconfig = place.kube.tool("kubectl"), place.kube.kubeconfig
    sys.stdout.write(f"\nTo type such lines: KUBECONFIG={kubeconfig} {kubectl}\n")


@dataclass(frozen=True)
class Acts:
    """What happens, one after the other."""

    scene: Scene
    versions: Versions
    people: People
    usual: Iterator[str]

    @property
    def kube(self) -> Kube:
        """The cluster."""
        return self.scene.place.kube

    def promotion(self) -> None:
        """A good version, and people who find it as good as the one before."""
        with step("A good version comes, and people rate it like the one before") as shown:
            self.scene.wants(name=self.versions.good)
            self._until_promoted(self._usual_rated, self.versions.good, shown)
        tell(
            self.kube,
            (
                "get",
                "inferenceservice",
                SERVICE,
                *fields(f"{_MODEL}.rollout", *_ON),
            ),
            ("get", "events", "--field-selector", f"{_OF_SERVICE},reason=Promoted"),
        )

    def rollback(self) -> None:
        """A bad version, and people who complain."""
        if self.scene.model.get("candidateVersion") != self.versions.bad:
            with step("The version before is kept for a while"):
                meanwhile(
                    self._usual_asked,
                    lambda: "rollout" not in self.scene.model,
                    GUARDED_SECONDS,
                    f"the end of the guard over {SERVICE}",
                )
        with step("A version trained on shuffled answers comes, and people complain") as shown:
            self.scene.wants(name=self.versions.bad)

            def is_back() -> bool:
                model = self.scene.model
                shown.say(rollout_told(model))
                return "decision" in model.get("lastRollback", {})

            meanwhile(
                self._usual_rated,
                is_back,
                PROVEN_SECONDS,
                f"the rollback of {self.versions.bad}",
            )
            answered = {answer.version for answer in self.people.ask(some(self.usual))}
            if answered != {self.versions.good}:
                raise CommandFailed(f"after the rollback {', '.join(sorted(answered))} answered")
            shown.say("rolled back and quarantined")
        tell(
            self.kube,
            (
                "get",
                "inferenceservice",
                SERVICE,
                *fields(f"{_MODEL}.lastRollback", *_BACK),
            ),
            ("get", "decision", self.scene.model["lastRollback"]["decision"], "-o", "wide"),
            ("get", "modelversion", self.versions.bad),
            ("get", "events", "--field-selector", f"{_OF_SERVICE},reason=RolledBack"),
        )

    def drift(self) -> Object:
        """The retraining that is proposed once the traffic has moved, as status tells it."""
        # From here on the newest version comes by itself, unless it is quarantined.
        self.scene.wants(latestOf=MODEL)
        if not self.scene.drift.get("retrainings"):
            with step("The traffic of a usual day is learned") as shown:

                def is_known() -> bool:
                    drift = self.scene.drift
                    shown.say(drift.get("message", ""))
                    is_new = drift.get("version") == self.versions.good
                    return is_new and drift["reason"] in {"NoDrift", "Drifting"}

                meanwhile(self._usual_asked, is_known, LEARNED_SECONDS, f"a reference of {SERVICE}")
            with step("People ask about the weather, in another language, and correct it") as shown:
                # A gateway keeps ten exchanges a second at most: all at once would be corrected in vain.
                other = weather()

                def is_proposed() -> bool:
                    drift = self.scene.drift
                    shown.say(drift.get("message", ""))
                    return bool(drift.get("retrainings"))

                meanwhile(
                    lambda: self.people.correct(some(other)),
                    is_proposed,
                    MOVED_SECONDS,
                    f"a proposal because of drift on {SERVICE}",
                )
                shown.say("drift; a successor is proposed")
        retraining: Object = self.scene.drift["retrainings"][-1]
        label = _label(retraining)
        tell(
            self.kube,
            ("get", "inferenceservice", SERVICE, *fields(f"{_MODEL}.drift", *_DRIFT)),
            ("get", "datasets,finetunejobs", "-l", label),
            ("get", "events", "-l", label),
        )
        return retraining

    def accepted(self, retraining: Object) -> str:
        """The version that comes of the proposed job once it is let run."""
        kube, job = self.kube, retraining["job"]
        wait(lambda: kube.get("finetunejob", job) is not None, PROPOSED_SECONDS, f"job {job}")
        tell(
            kube, ("patch", "finetunejob", job, "--type=merge", "-p", '{"spec":{"suspend":false}}')
        )
        version, _ = steps.followed(kube, job, "A person has let the proposed job run")
        steps.evaluated(kube, version)
        return version

    def succession(self, retraining: Object, successor: str) -> None:
        """The version that was made for them, and people who like it."""
        other = weather_questions()
        with step("The successor is rolled out to those who asked for it") as shown:
            self._until_promoted(
                lambda: self.people.rate(some(other), {successor}), successor, shown
            )
        tell(
            self.kube,
            ("get", "modelversion", successor, *fields(".status.evaluation.gates[*]", *_GATE)),
            ("get", "datasets,finetunejobs,modelversions", "-l", _label(retraining)),
            ("get", "events", "-l", _label(retraining)),
        )

    def _usual_asked(self) -> None:
        self.people.ask(some(self.usual))

    def _usual_rated(self) -> None:
        self.people.rate(some(self.usual), {self.versions.first, self.versions.good})

    def _until_promoted(self, turn: Callable[[], object], version: str, shown: Step) -> None:
        def is_promoted() -> bool:
            model = self.scene.model
            shown.say(rollout_told(model))
            return bool(model.get("activeVersion") == version)

        meanwhile(turn, is_promoted, PROVEN_SECONDS, f"the promotion of {version}")
        shown.say(f"{version} is promoted by evidence")


def _label(retraining: Object) -> str:
    return f"{names.LABEL_CORRELATION}={retraining['correlation']}"


def rollout_told(model: Object) -> str:
    """Where a rollout stands, on one line."""
    rollout = model.get("rollout") or {}
    share = f"{model['weight']} % of the requests" if model.get("weight") else ""
    said = ": ".join(filter(None, (rollout.get("verdict"), rollout.get("message"))))
    return "; ".join(filter(None, (share, said)))
