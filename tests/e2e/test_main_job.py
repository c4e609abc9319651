"""The main job: text, base model, adapter, evaluation, service, answers."""

import json

import httpx
import openai
import pytest
from examples.quickstart.kube import condition
from tests.e2e.world import QUESTION, Object, World, adapter_job, measured, restarts, serve, traffic

from trimtab_api import names


def test_a_base_is_trained_from_scratch_and_registered(world: World, base: str) -> None:
    job = world.kube.get("finetunejob", "base") or {}
    version = world.kube.get("modelversion", base) or {}
    assert version["spec"]["artifact"]["kind"] == "Full"
    assert job["status"]["progress"]["percent"] == 100
    assert base == f"base-{version['spec']['artifact']['uri'].rpartition('sha256:')[2][:8]}"


def test_an_adapter_beats_its_base_on_held_out_questions(world: World, adapter: str) -> None:
    evaluation = (world.kube.get("modelversion", adapter) or {})["status"]["evaluation"]
    loss = next(m for m in evaluation["metrics"] if m["metric"] == "Loss")
    assert evaluation["examples"] > 10
    assert loss["high"] < loss["base"]


def test_lineage_names_data_image_and_parent(world: World, adapter: str, base: str) -> None:
    version = world.kube.get("modelversion", adapter) or {}
    job = world.kube.get("finetunejob", "first") or {}
    assert (
        version["spec"]["lineage"]["dataset"]["digest"]
        == job["status"]["resolved"]["datasetDigest"]
    )
    assert version["spec"]["lineage"]["image"] == job["status"]["resolved"]["image"]
    assert version["spec"]["baseModel"]["modelVersion"]["name"] == base
    # The chart's policy has noted whose job it is; a cluster without such policies leaves it out.
    author = job["metadata"].get("annotations", {}).get(names.ANNOTATION_AUTHOR)
    (producer,) = version["status"]["producers"]
    assert (producer["fineTuneJob"], producer["uid"]) == ("first", job["metadata"]["uid"])
    assert producer.get("author") == author


def test_base_and_adapter_answer_under_their_names(
    world: World, served: str, base: str, adapter: str
) -> None:
    serve(world, base, adapter)
    listed = {model["id"] for model in httpx.get(f"{served}/v1/models").json()["data"]}
    assert listed == {"base", "bot"}
    for name, version in (("base", base), ("bot", adapter)):
        answer = httpx.post(
            f"{served}/v1/chat/completions", json={"model": name, **QUESTION}, timeout=60
        )
        assert answer.json()["model"] == name
        assert answer.json()["usage"]["completion_tokens"] > 0
        assert answer.headers["x-trimtab-version"] == version


def test_the_openai_client_streams_and_its_tokens_are_counted(world: World, served: str) -> None:
    counter = 'trimtab_gateway_tokens_total{kind="completion",model="bot"'
    before = measured(world, names.GATEWAY, counter)
    client = openai.OpenAI(base_url=f"{served}/v1", api_key="none")
    usage: Object = {"stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(model="bot", stream=True, **usage, **QUESTION)
    assert {chunk.model for chunk in (*chunks, last)} == {"bot"}
    assert chunks[-1].choices[0].finish_reason in {"length", "stop"}
    assert last.usage is not None
    assert measured(world, names.GATEWAY, counter) - before == last.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        pytest.param(
            {"model": "nobody", **QUESTION},
            404,
            "nobody",
            id="an unknown model is a 404 that names it",
        ),
        pytest.param(b"{not json", 400, "JSON", id="a body that is no JSON is a 400"),
        pytest.param(
            {"model": "bot", "messages": [{"role": "user", "content": "word " * 2000}]},
            400,
            "256",
            id="a context too long is a 400 that says the limit",
        ),
    ],
)
def test_bad_requests_get_openai_errors(served: str, body: object, code: int, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    refused = httpx.post(
        f"{served}/v1/chat/completions",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    assert refused.status_code == code
    assert said in refused.json()["error"]["message"]


def test_a_second_version_is_served_without_restart_or_failed_request(
    world: World, served: str, base: str, adapter: str, second: str
) -> None:
    serve(world, base, adapter)
    before = restarts(world)
    with traffic(served) as failures:
        serve(world, base, second)
    assert failures == []
    assert restarts(world) == before


def test_the_same_spec_again_is_another_producer_of_the_same_version(
    world: World, pairs: str, base: str, adapter: str
) -> None:
    world.apply(adapter_job(pairs, base, "first-again"))
    assert world.job_ends("first-again")["status"]["modelVersion"] == adapter
    producers = (world.kube.get("modelversion", adapter) or {})["status"]["producers"]
    assert {p["fineTuneJob"] for p in producers} == {"first", "first-again"}


def test_a_version_in_use_is_not_deleted(world: World, served: str, base: str) -> None:
    assert served
    world.kube.kubectl("delete", "modelversion", base, "--wait=false")
    found = world.holds("modelversion", base, "InUse")
    assert found["metadata"]["deletionTimestamp"]
    assert "chat" in condition(found, "InUse")["message"]
