"""Rollouts on the whole local cluster: a good version is promoted by evidence, a bad one rolled back.

Requests and ratings come from here: who asks is content with the versions that were trained on the
true answers, and says so of the one that was trained on shuffled ones.
"""

import json
from collections.abc import Callable, Iterator

import pytest
from examples.quickstart.kube import condition
from examples.quickstart.people import Answer, People, library, meanwhile, people_of, some
from examples.quickstart.people import shuffled as with_shuffled_answers
from tests.e2e.world import Object, World, adapter_job, restarts

NAME = "rolled"
KEY = "a-key-of-alice"
ROLLOUT: Object = {
    "steps": [{"weight": 20}, {"weight": 50}],
    "stepSeconds": 10,
    "stepRequests": 10,
    "analysis": {"metrics": ["ErrorRate", "NegativeFeedback"], "margin": 0.25},
    "rollbackWindowSeconds": 30,
}
PROVEN_WITHIN = 420


def manifest(base: str, version: str) -> str:
    """A service of its own: keys, feedback, and a rollout for every new version of `bot`."""
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
        "models": [{"name": "bot", "version": {"name": version}, "rollout": ROLLOUT}],
        "gateway": {
            "replicas": 1,
            "apiKeys": {"secretName": "rolled-keys"},
            "feedback": {"perMinute": 6000},
        },
    }
    return json.dumps(
        {
            "apiVersion": "trimtab.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": NAME},
            "spec": spec,
        }
    )


@pytest.fixture(scope="module")
def shuffled(world: World, pairs: str, base: str, adapter: str) -> str:
    """A Ready version whose every question was given the answer to another."""
    assert pairs
    assert adapter
    lines = (world.folder / "pairs.jsonl").read_text().splitlines()
    text = with_shuffled_answers(lines[::6])
    source = world.push("shuffled", {"pairs.jsonl": text.encode()})
    return world.trained(adapter_job(source, base, "shuffled", seed=3), "shuffled")


@pytest.fixture(scope="module")
def people(world: World, base: str, adapter: str) -> Iterator[People]:
    """Those of a Ready service whose `bot` is the first adapter."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "rolled-keys"},
        "stringData": {"alice": KEY},
    }
    world.apply(json.dumps(secret))
    world.apply(manifest(base, adapter))
    world.holds("inferenceservice", NAME, "Ready", seconds=400)
    with people_of(world.kube, NAME, KEY, "bot") as found:
        yield found
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


class Ratings:
    """What these people say while something is waited for: only some versions please them."""

    def __init__(self, world: World, people: People, *liked: str) -> None:
        self._people, self._liked = people, set(liked)
        self._questions = library(world.folder / "pairs.jsonl")
        self.answers: list[Answer] = []

    def until(self, over: Callable[[], bool], seconds: float) -> None:
        """Ask and rate until it holds; a request that fails is a failure."""
        meanwhile(self.turn, over, seconds, f"what was waited for on {NAME}")

    def turn(self) -> None:
        self.answers += self._people.rate(some(self._questions), self._liked)

    @property
    def versions(self) -> set[str]:
        return {answer.version for answer in self.answers}


def model(world: World) -> Object:
    status = (world.kube.get("inferenceservice", NAME) or {}).get("status", {})
    found: Object = next((m for m in status.get("models", []) if m["name"] == "bot"), {})
    return found


def test_a_good_version_is_promoted_by_evidence(
    world: World, people: People, base: str, adapter: str, second: str
) -> None:
    before = restarts(world, name=NAME)
    ratings = Ratings(world, people, adapter, second)
    world.apply(manifest(base, second))
    ratings.until(lambda: model(world).get("activeVersion") == second, PROVEN_WITHIN)
    assert {adapter, second} <= ratings.versions, "both had a share"
    status = model(world)
    assert status["rollout"]["promoted"]
    figures = {m["name"]: m for m in status["rollout"]["metrics"]}
    assert set(figures) == {"ErrorRate", "NegativeFeedback"}
    assert restarts(world, name=NAME) == before


def test_a_bad_version_is_rolled_back_and_does_not_come_back(
    world: World, people: People, base: str, adapter: str, second: str, shuffled: str
) -> None:
    ratings = Ratings(world, people, adapter, second)
    # The guard over the version before has to end first: until then it is the candidate.
    ratings.until(lambda: "rollout" not in model(world), 120)
    world.apply(manifest(base, shuffled))
    ratings.until(lambda: "lastRollback" in model(world), PROVEN_WITHIN)
    ratings.until(lambda: "decision" in model(world)["lastRollback"], 30)
    ratings.answers.clear()
    for _ in range(4):
        ratings.turn()
    assert ratings.versions == {second}
    last = model(world)["lastRollback"]
    assert (last["from"], last["to"]) == (shuffled, second)
    assert "NegativeFeedback" in last["message"]
    found = world.kube.get("decision", last["decision"]) or {}
    assert found["spec"]["action"] == "Quarantine"
    world.says("modelversion", shuffled, "Quarantined", "Quarantined")
    service = world.says("inferenceservice", NAME, "RolledBack", "RolledBack")
    assert condition(service, "AdaptersReady")["reason"] == "VersionQuarantined"
    # A sync from Git says the same again, and nothing comes of it.
    world.apply(manifest(base, shuffled))
    world.says("inferenceservice", NAME, "AdaptersReady", "VersionQuarantined")
    assert model(world)["activeVersion"] == second
