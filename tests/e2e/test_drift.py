"""The closed loop on the whole local cluster: from traffic that moves to a version that was made for it.

People ask about Python's library, then all at once about the weather, in another language, and correct
what they are answered. That is called drift; a successor is proposed, a person lets it run, and it is
gated and rolled out. All the settings are those that users have.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from examples.quickstart.kube import condition, wait
from tests.e2e.world import Object, World, measured

NAME = "looped"
DATA = "loop-questions"
TEMPLATE = "loop-nightly"
KEY = "a-key-of-carol"
REFERENCE = 200
CORRECTED = 120
AT_ONCE = 6
MOVED_WITHIN = 200
PROMOTED_WITHIN = 240
CITIES = ("Bremen", "Erfurt", "Hagen", "Jena", "Kiel", "Mainz", "Trier", "Ulm", "Weimar", "Worms")
WATCHED = "trimtab_gateway_signal_requests_total"
ROLLOUT: Object = {
    "steps": [{"weight": 50}],
    "stepSeconds": 5,
    "stepRequests": 10,
    "analysis": {"metrics": ["ErrorRate"], "margin": 0.25},
    "rollbackWindowSeconds": 30,
}


def surroundings(pairs: str) -> list[Object]:
    """What the service needs beside itself: keys, room for what is captured, and data to learn from."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{NAME}-keys"},
            "stringData": {"carol": KEY},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{NAME}-capture"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "64Mi"}},
            },
        },
        {
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
        },
    ]


def template(base: str) -> Object:
    """The job that a successor is a copy of; it never runs itself."""
    spec = {
        "suspend": True,
        "baseModel": {"modelVersion": {"name": base}},
        "dataset": {"name": DATA},
        "method": {"lora": {"rank": 8, "alpha": 16}},
        "hyperparameters": {
            "epochs": 5,
            "maxSteps": 40,
            "learningRate": 0.01,
            "batchSize": 16,
            "maxLength": 128,
        },
        "evaluation": {
            "gates": [{"metric": "Loss", "notWorseThan": "Champion", "margin": 0.5}],
        },
        "output": {"model": "bot"},
        "resources": {"gpus": 0, "cpu": "300m", "memory": "3Gi"},
        "storage": {"size": "1Gi"},
    }
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": TEMPLATE},
        "spec": spec,
    }


def service(base: str) -> Object:
    """Follows the newest version of `bot`, watches its traffic, and asks people before it trains."""
    model = {
        "name": "bot",
        "version": {"latestOf": "bot"},
        "rollout": ROLLOUT,
        "drift": {"onDrift": "Propose", "referenceRequests": REFERENCE},
        "retrain": {"template": {"name": TEMPLATE}},
    }
    spec = {
        "baseModel": {"name": "base", "modelVersion": {"name": base}},
        "replicas": 1,
        "engine": {
            "gpus": 0,
            "maxModelLength": 256,
            "dtype": "Float32",
            "cpu": "300m",
            "memory": "4Gi",
            "adapters": {"maxRank": 16, "slots": 2, "resident": 8},
        },
        "models": [model],
        "gateway": {
            "replicas": 1,
            "apiKeys": {"secretName": f"{NAME}-keys"},
            "feedback": {},
            "capture": {"percent": 100},
        },
    }
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": NAME},
        "spec": spec,
    }


class Users:
    """Many people, each of whom opens one conversation."""

    def __init__(self, url: str, pool: ThreadPoolExecutor) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120
        )
        self._pool = pool
        self._names = itertools.count()

    def ask(self, questions: Iterable[str]) -> list[Object]:
        """The answers, each with the version that gave it."""
        return list(self._pool.map(self._asks, questions))

    def correct(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Ask, and say what the answer should have been."""
        questions, answers = zip(*pairs, strict=True)
        for answer, right in zip(self.ask(questions), answers, strict=True):
            said = {"id": answer["id"], "rating": "negative", "correction": right}
            self._client.post("/v1/feedback", json=said).raise_for_status()

    def ask_until(self, over: Callable[[], bool], questions: Iterator[str], seconds: float) -> None:
        """A trickle of such questions until it holds."""

        def looked() -> bool:
            self.ask(itertools.islice(questions, AT_ONCE))
            return over()

        wait(looked, seconds, f"what was waited for while people ask {NAME}", every=0.2)

    def _asks(self, question: str) -> Object:
        body = {
            "model": "bot",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 2,
            "temperature": 0,
        }
        # As many people as conversations: of one and the same only two a minute are counted.
        who = {"X-Session": f"person-{next(self._names)}"}
        answer = self._client.post("/v1/chat/completions", json=body, headers=who)
        assert answer.status_code == httpx.codes.OK, answer.text
        found: Object = answer.json()
        return {**found, "version": answer.headers["x-trimtab-version"]}

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def users(world: World, pairs: str, base: str, adapter: str) -> Iterator[Users]:
    """Those of a Ready service whose traffic is watched."""
    assert adapter
    for each in (*surroundings(pairs), template(base), service(base)):
        world.apply(json.dumps(each))
    world.holds("inferenceservice", NAME, "Ready", seconds=400)
    world.holds("dataset", DATA, "Ready")
    with (
        world.kube.forwarded(NAME, 80) as url,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        made = Users(url, pool)
        yield made
        made.close()
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


@pytest.fixture(scope="module")
def proposed(world: World, users: Users) -> Object:
    """The job that is proposed once the traffic has moved."""
    usual = library(world)
    counted = 0.0
    while counted < REFERENCE * 1.25:  # the first scrape is where counting begins
        users.ask(itertools.islice(usual, 60))
        counted = measured(world, "gateway", WATCHED, NAME)
    users.correct(itertools.islice(weather(), CORRECTED))
    users.ask_until(lambda: drift(world).get("reason") == "Drifting", questions(), MOVED_WITHIN)
    wait(lambda: bool(drift(world).get("retrainings")), 30, "a proposal")
    found = world.kube.get("finetunejob", drift(world)["retrainings"][-1]["job"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def promoted(world: World, users: Users, proposed: Object) -> Object:
    """The version that came of the job which a person let run."""
    name = proposed["metadata"]["name"]
    patch = ("patch", "finetunejob", name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    world.kube.kubectl(*patch)
    job = world.job_ends(name, seconds=400)
    assert condition(job, "Complete")["status"] == "True", job["status"]
    version: str = job["status"]["modelVersion"]
    world.holds("modelversion", version, "Ready", seconds=400)
    is_over = lambda: model(world).get("activeVersion") == version  # noqa: E731 - a look, no function
    users.ask_until(is_over, questions(), PROMOTED_WITHIN)
    return world.kube.get("modelversion", version) or {}


def library(world: World) -> Iterator[str]:
    """In no order: module after module, as they stand in the file, is a change of topics."""
    lines = (world.folder / "pairs.jsonl").read_text().splitlines()
    random.Random(7).shuffle(lines)  # noqa: S311 - the same order each time, no secret
    return itertools.cycle(json.loads(line)["question"] for line in lines)


def weather() -> Iterator[tuple[str, str]]:
    """Questions about something else, and what should be answered."""
    for day in itertools.count(1):
        for city in CITIES:
            yield (
                f"Wie ist das Wetter in {city} am Tag {day}?",
                f"Das Wetter in {city} ist am Tag {day} sonnig.",
            )


def questions() -> Iterator[str]:
    return (question for question, _ in weather())


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
