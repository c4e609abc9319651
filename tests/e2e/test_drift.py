"""The closed loop on the whole local cluster: from traffic that moves to a version that was made for it.

People ask about Python's library, then all at once about the weather, in another language, and correct
what they are answered. That is called drift; a successor is proposed, a person lets it run, and it is
gated and rolled out. All the settings are those that users have.
"""

import itertools
import json
from collections.abc import Iterator

import pytest
from examples.quickstart import steps
from examples.quickstart.kube import condition, wait
from examples.quickstart.people import (
    People,
    library,
    meanwhile,
    people_of,
    some,
    weather,
    weather_questions,
)
from tests.e2e.world import Object, World, measured

NAME = "looped"
DATA = "loop-questions"
KEY = "a-key-of-carol"
REFERENCE = 200
CORRECTED = 120
MOVED_WITHIN = 200
PROMOTED_WITHIN = 240
WATCHED = "trimtab_gateway_signal_requests_total"
ROLLOUT: Object = {
    "steps": [{"weight": 50}],
    "stepSeconds": 5,
    "stepRequests": 10,
    "analysis": {"metrics": ["ErrorRate"], "margin": 0.25},
    "rollbackWindowSeconds": 30,
}


HYPERPARAMETERS: Object = {
    "epochs": 5,
    "maxSteps": 40,
    "learningRate": 0.01,
    "batchSize": 16,
    "maxLength": 128,
}


def dataset(pairs: str) -> Object:
    """What versions have learned from so far."""
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": DATA},
        "spec": {
            "sources": [{"uri": pairs}],
            "columns": {"prompt": "question", "completion": "answer"},
            # Of fewer than 100 held-out records no gate says that one version is no worse than another.
            "split": {"train": 78, "validation": 4, "test": 18, "seed": 7},
            "storage": {"size": "256Mi"},
        },
    }


def values(base: str) -> dict[str, str]:
    """What the demo's manifests are filled in with: a service that follows the newest version of `bot`."""
    return {
        "SERVICE": NAME,
        "MODEL": "bot",
        "BASE": base,
        "KEY": KEY,
        "DATASET": DATA,
        "HYPERPARAMETERS": json.dumps(HYPERPARAMETERS),
        "GPUS": "0",
        "CONTEXT": "256",
        "VERSION": "{latestOf: bot}",
        "ROLLOUT": json.dumps(ROLLOUT),
    }


@pytest.fixture(scope="module")
def people(world: World, pairs: str, base: str, adapter: str) -> Iterator[People]:
    """Those of a Ready service whose traffic is watched."""
    assert adapter
    world.apply(json.dumps(dataset(pairs)))
    for manifest in ("6-retraining.yaml", "7-loop.yaml"):
        world.apply(steps.rendered(manifest, **values(base)))
    world.holds("inferenceservice", NAME, "Ready", seconds=400)
    world.holds("dataset", DATA, "Ready")
    with people_of(world.kube, NAME, KEY, "bot") as found:
        yield found
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


@pytest.fixture(scope="module")
def proposed(world: World, people: People) -> Object:
    """The job that is proposed once the traffic has moved."""
    usual = library(world.folder / "pairs.jsonl")
    counted = 0.0
    while counted < REFERENCE * 1.25:  # the first scrape is where counting begins
        people.ask(some(usual, 60))
        counted = measured(world, "gateway", WATCHED, NAME)
    people.correct(list(itertools.islice(weather(), CORRECTED)))
    other = weather_questions()
    meanwhile(
        lambda: people.ask(some(other)),
        lambda: drift(world).get("reason") == "Drifting",
        MOVED_WITHIN,
        f"DriftDetected on {NAME}",
    )
    wait(lambda: bool(drift(world).get("retrainings")), 30, "a proposal")
    found = world.kube.get("finetunejob", drift(world)["retrainings"][-1]["job"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def promoted(world: World, people: People, proposed: Object) -> Object:
    """The version that came of the job which a person let run."""
    name = proposed["metadata"]["name"]
    patch = ("patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    world.kube.kubectl(*patch)
    job = world.job_ends(name, seconds=400)
    assert condition(job, "Complete")["status"] == "True", job["status"]
    version: str = job["status"]["modelVersion"]
    world.holds("modelversion", version, "Ready", seconds=400)
    other = weather_questions()
    meanwhile(
        lambda: people.ask(some(other)),
        lambda: model(world).get("activeVersion") == version,
        PROMOTED_WITHIN,
        f"the promotion of {version}",
    )
    return world.kube.get("modelversion", version) or {}


def model(world: World) -> Object:
    status = (world.kube.get("inferenceservice", NAME) or {}).get("status", {})
    found: Object = next((m for m in status.get("models", []) if m["name"] == "bot"), {})
    return found


def drift(world: World) -> Object:
    found: Object = model(world).get("drift", {})
    return found


def test_traffic_that_has_moved_is_called_drift_and_a_successor_is_proposed(
    world: World, adapter: str, proposed: Object
) -> None:
    told = drift(world)
    assert told["logEvidence"] >= told["alarmAt"]
    assert told["signal"] in {"PromptLength", "Languages", "Topics"}
    assert max(each["now"] - each["before"] for each in told["moved"]) > 0.1
    world.says("inferenceservice", NAME, "DriftDetected", "Drifting")
    (entry,) = told["retrainings"]
    assert (entry["state"], entry["proposed"]) == ("Made", True)
    assert proposed["spec"]["suspend"] is True
    assert "has moved" in proposed["metadata"]["annotations"]["trimtab.dev/reason"]
    data = world.holds("dataset", entry["dataset"], "Ready")
    sources = [source["uri"] for source in data["spec"]["sources"]]
    assert sources[-1] == f"capture://{NAME}"
    before = world.kube.get("dataset", DATA) or {}
    gained = data["status"]["records"]["kept"] - before["status"]["records"]["kept"]
    # As many as were corrected by then: drift may be called while people still write.
    assert 0 < gained <= CORRECTED
    assert condition(world.kube.get("finetunejob", entry["job"]), "Started")["status"] != "True"


def test_what_a_person_accepts_is_gated_and_promoted_by_a_rollout(
    world: World, adapter: str, proposed: Object, promoted: Object
) -> None:
    (gate,) = promoted["status"]["evaluation"]["gates"]
    assert gate["passed"], gate
    assert gate["champion"]
    assert promoted["metadata"]["name"] != adapter
    now = model(world)
    assert now["rollout"]["promoted"]
    assert now["drift"]["version"] == promoted["metadata"]["name"]


def test_one_label_and_the_owners_tell_why_the_version_is_there(
    world: World, proposed: Object, promoted: Object
) -> None:
    label = proposed["metadata"]["labels"]["trimtab.dev/correlation"]
    kinds = "datasets.trimtab.dev,finetunejobs.trimtab.dev,modelversions.trimtab.dev,events"
    text = world.kube.kubectl("get", kinds, "-l", f"trimtab.dev/correlation={label}", "-o", "json")
    found = json.loads(text)["items"]
    made = {each["kind"]: each for each in found if each["kind"] != "Event"}
    assert made.keys() == {"Dataset", "FineTuneJob", "ModelVersion"}
    assert made["ModelVersion"]["metadata"]["name"] == promoted["metadata"]["name"]
    for kind in ("Dataset", "FineTuneJob"):
        (owner,) = made[kind]["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("InferenceService", NAME)
    job, data = made["FineTuneJob"]["metadata"], made["Dataset"]["metadata"]["name"]
    assert promoted["spec"]["lineage"]["dataset"]["name"] == data
    producers = [(p["fineTuneJob"], p["uid"]) for p in promoted["status"]["producers"]]
    assert producers == [(job["name"], job["uid"])]
    told = {(e["involvedObject"]["kind"], e["reason"]) for e in found if e["kind"] == "Event"}
    assert {kind for kind, _ in told} == {"InferenceService", *made}
    assert ("InferenceService", "RetrainingProposed") in told
    assert ("InferenceService", "Promoted") in told
