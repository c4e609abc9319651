"""Rollouts on the whole local cluster: a good version is promoted by evidence, a bad one rolled back.

Requests and ratings come from here: who asks is content with the versions that were trained on the
true answers, and says so of the one that was trained on shuffled ones.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from examples.quickstart.kube import condition
from tests.e2e.world import QUESTION, Object, World, adapter_job, restarts

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
        "gateway": {"replicas": 1, "apiKeys": {"secretName": "rolled-keys"}, "feedback": {}},
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
    records = [json.loads(line) for line in lines[::6]]
    answers = [record["answer"] for record in records]
    random.Random(7).shuffle(answers)  # noqa: S311 - the same order each time, no secret
    wrong = [{**r, "answer": a} for r, a in zip(records, answers, strict=True)]
    text = "".join(json.dumps(record) + "\n" for record in wrong)
    source = world.push("shuffled", {"pairs.jsonl": text.encode()})
    world.apply(adapter_job(source, base, "shuffled", seed=3))
    name: str = world.job_ends("shuffled")["status"]["modelVersion"]
    world.holds("modelversion", name, "Ready")
    return name


@pytest.fixture(scope="module")
def rolled(world: World, base: str, adapter: str) -> Iterator[str]:
    """The URL of a Ready service whose `bot` is the first adapter."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "rolled-keys"},
        "stringData": {"alice": KEY},
    }
    world.apply(json.dumps(secret))
    world.apply(manifest(base, adapter))
    world.holds("inferenceservice", NAME, "Ready", seconds=400)
    with world.kube.forwarded(NAME, 80) as url:
        yield url
    world.kube.kubectl("delete", "inferenceservice", NAME, "--wait=true")


class Caller:
    """Somebody who asks, and rates what was answered."""

    def __init__(self, url: str, content_with: set[str]) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120
        )
        self._content_with = content_with
        self.answered: list[str] = []
        self.failures: list[str] = []

    def asks(self) -> None:
        answer = self._client.post("/v1/chat/completions", json={"model": "bot", **QUESTION})
        if answer.is_error:
            self.failures.append(f"{answer.status_code}: {answer.text[:200]}")
            return
        version = answer.headers["x-trimtab-version"]
        self.answered.append(version)
        rating = "positive" if version in self._content_with else "negative"
        said = self._client.post("/v1/feedback", json={"id": answer.json()["id"], "rating": rating})
        if said.is_error:
            self.failures.append(f"feedback: {said.status_code}: {said.text[:200]}")

    def asks_until(self, over: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < end, f"not within {seconds} s; {len(self.answered)} answers"
            for _ in range(5):
                self.asks()

    def close(self) -> None:
        self._client.close()


@contextmanager
def calling(url: str, *content_with: str) -> Iterator[Caller]:
    caller = Caller(url, set(content_with))
    try:
        yield caller
    finally:
        caller.close()


def model(world: World) -> Object:
    status = (world.kube.get("inferenceservice", NAME) or {}).get("status", {})
    found: Object = next((m for m in status.get("models", []) if m["name"] == "bot"), {})
    return found


def test_a_good_version_is_promoted_by_evidence(
    world: World, rolled: str, base: str, adapter: str, second: str
) -> None:
    before = restarts(world, name=NAME)
    world.apply(manifest(base, second))
    with calling(rolled, adapter, second) as caller:
        caller.asks_until(lambda: model(world).get("activeVersion") == second, PROVEN_WITHIN)
        assert caller.failures == []
        assert {adapter, second} <= set(caller.answered), "both had a share"
    status = model(world)
    assert status["rollout"]["promoted"]
    figures = {m["name"]: m for m in status["rollout"]["metrics"]}
    assert set(figures) == {"ErrorRate", "NegativeFeedback"}
    assert restarts(world, name=NAME) == before


def test_a_bad_version_is_rolled_back_and_does_not_come_back(
    world: World, rolled: str, base: str, adapter: str, second: str, shuffled: str
) -> None:
    with calling(rolled, adapter, second) as caller:
        # The guard over the version before has to end first: until then it is the candidate.
        caller.asks_until(lambda: "rollout" not in model(world), 120)
        world.apply(manifest(base, shuffled))
        caller.asks_until(lambda: "lastRollback" in model(world), PROVEN_WITHIN)
        caller.asks_until(lambda: "decision" in model(world)["lastRollback"], 30)
        caller.answered.clear()
        for _ in range(20):
            caller.asks()
        assert caller.failures == []
        assert set(caller.answered) == {second}
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
