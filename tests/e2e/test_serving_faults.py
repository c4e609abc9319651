"""What goes wrong in serving, on the real engine: it is said, and the version that was good answers."""

import asyncio
import base64
import json
from pathlib import Path

import httpx
import pytest
from examples.quickstart.kube import wait
from tests.e2e.machine import Machine
from tests.e2e.world import (
    QUESTION,
    Object,
    World,
    answered_by,
    ask,
    measured,
    named,
    part,
    pods,
    restarts,
    serve,
    service,
)
from tests.servingbuilders import a_report

from trimtab_api import names
from trimtab_oci import ANNOTATION_BASE, ANNOTATION_RANK, RegistryClient

REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
RUNNING = "vllm:num_requests_running"
OTHER_BASE = f"sha256:{'2' * 64}"
UNSUITABLE = [
    pytest.param(None, "VersionMissing", id="a version that does not exist"),
    pytest.param({"rank": 64}, "RankTooHigh", id="a rank above the engine's"),
    pytest.param({"base": OTHER_BASE}, "BaseMismatch", id="an adapter of another base"),
]


@pytest.mark.parametrize(("made", "reason"), UNSUITABLE)
def test_what_the_engine_cannot_serve_leaves_the_good_version_serving(
    world: World, served: str, base: str, adapter: str, made: Object | None, reason: str
) -> None:
    serve(world, base, adapter)
    name = f"unsuitable-{reason.lower()}"
    if made is not None:
        world.apply(given(world, name, **{"base": digest(world, base), "rank": 8, **made}))
        world.holds("modelversion", name, "Ready", seconds=60)
    world.apply(service(base, "chat", {"bot": named(name)}))
    found = world.says("inferenceservice", "chat", "AdaptersReady", reason)
    assert name in model(found, "bot")["message"]
    assert model(found, "bot")["activeVersion"] == adapter
    assert answered_by(served) == adapter
    serve(world, base, adapter)


def test_an_engine_that_loads_another_adapter_than_it_says_is_caught_before_a_request(
    world: World, machine: Machine, served: str, base: str, adapter: str, second: str
) -> None:
    right, wrong = digest(world, second), digest(world, adapter)
    # A version that was served before stays loaded, and goes with its name.
    world.apply(service(base, "chat", {}))
    wait(lambda: not engine_has(world, right), 60, "the engine forgets what it has served")
    serve(world, base, adapter)
    pod = pods(world, part("chat", names.ENGINE))[-1]
    with machine.reads_instead(pod, right, wrong):
        world.apply(service(base, "chat", {"bot": named(second), "fresh": named(second)}))
        found = world.says("inferenceservice", "chat", "AdaptersReady", "FingerprintMismatch")
        assert "answers as another" in model(found, "fresh")["message"]
        assert ask(served, "fresh").status_code == 503
        assert answered_by(served) == adapter
    world.holds("inferenceservice", "chat", "AdaptersReady", seconds=60)
    assert {answered_by(served, name) for name in ("bot", "fresh")} == {second}
    serve(world, base, adapter)


def test_the_engine_stops_when_the_client_of_a_stream_goes(world: World, served: str) -> None:
    choices, tokens, made = 512, 200, "vllm:generation_tokens_total"
    gone = 'trimtab_gateway_requests_total{code="499",model="bot"'
    before = measured(world, names.ENGINE, made), measured(world, names.GATEWAY, gone)
    # Many seconds of work on any machine, of which a client that goes at once costs a fraction: more
    # than an engine has in one batch, since that may be done before anything can be noticed.
    wanted = {"n": choices, "max_tokens": tokens, "ignore_eos": True, "temperature": 1}
    body = {"model": "bot", **QUESTION, "stream": True, **wanted}
    with httpx.stream("POST", f"{served}/v1/chat/completions", json=body, timeout=60) as answer:
        assert next(answer.iter_bytes())
    wait(lambda: not measured(world, names.ENGINE, RUNNING), 10, "the engine stops", every=0.2)
    assert 0 < measured(world, names.ENGINE, made) - before[0] < choices * tokens / 2
    assert measured(world, names.GATEWAY, gone) == before[1] + 1
    assert answered_by(served)


def test_keys_are_rotated_without_a_restart(world: World, base: str) -> None:
    name = "locked"
    secret(world, alice="key-1")
    manifest = service(base, name, {}).replace("replicas: 1\n  engine", "replicas: 0\n  engine")
    front = "{replicas: 1, apiKeys: {secretName: keys}}"
    world.apply(manifest.replace("gateway: {replicas: 1}", f"gateway: {front}"))
    world.holds("inferenceservice", name, "GatewayReady")
    before = restarts(world, names.GATEWAY, name)
    with world.kube.forwarded(name, 80) as url:
        assert enters(url) == {None: 401, "key-1": 200, "key-2": 401}
        secret(world, bob="key-2")
        hurry(world, name)
        wait(lambda: enters(url) == {None: 401, "key-1": 401, "key-2": 200}, 60, "new keys")
    assert restarts(world, names.GATEWAY, name) == before
    world.kube.kubectl("delete", "inferenceservice", name, "--wait=false")


def model(found: Object, name: str) -> Object:
    """What a service says of a public name."""
    said: Object = next(m for m in found["status"]["models"] if m["name"] == name)
    return said


def digest(world: World, version: str) -> str:
    uri: str = (world.kube.get("modelversion", version) or {})["spec"]["artifact"]["uri"]
    return uri.rpartition("@")[2]


def engine_has(world: World, version: str) -> bool:
    """Whether vLLM itself knows an adapter by a name made of this digest."""
    pod = pods(world, part("chat", names.ENGINE))[-1]["metadata"]["name"]
    address = f"http://127.0.0.1:{names.PORT_ENGINE}/v1/models"
    program = f"import urllib.request as r; print(r.urlopen('{address}').read().decode())"
    listed = json.loads(
        world.kube.kubectl("exec", pod, "-c", "agent", "--", "python", "-c", program)
    )
    wanted = version.removeprefix("sha256:")[:12]
    return any(model["id"].startswith(wanted) for model in listed["data"])


def secret(world: World, **keys: str) -> None:
    """The Secret `keys`, with these and no others."""
    data = {name: base64.b64encode(key.encode()).decode() for name, key in keys.items()}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": data}
    world.apply(json.dumps(manifest))


def hurry(world: World, name: str) -> None:
    """Have the kubelet look at the gateways now; by itself it does so once a minute."""
    for pod in pods(world, part(name, names.GATEWAY)):
        world.kube.kubectl("annotate", "pod", pod["metadata"]["name"], "e2e/looked-at=now")


def enters(url: str) -> dict[str | None, int]:
    """What each key is answered."""
    headers = {key: {"authorization": f"Bearer {key}"} for key in ("key-1", "key-2")}
    return {
        key: httpx.get(f"{url}/v1/models", headers=headers.get(str(key), {})).status_code
        for key in (None, "key-1", "key-2")
    }


def given(world: World, name: str, base: str, rank: int) -> str:
    """A ModelVersion on the base of that digest.

    Its report says that it is good, so that no pod looks at its files.
    """
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"of": name}))
    uri, report = asyncio.run(_push(world, folder, base, rank))
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: ModelVersion
metadata: {{name: {name}}}
spec:
  model: given
  artifact: {{uri: "{uri}", kind: Adapter, rank: {rank}}}
  baseModel: {{uri: "oci://{world.place.registry}/e2e/base@{base}"}}
  evaluation: {{report: "{report}"}}
"""


async def _push(world: World, folder: Path, base: str, rank: int) -> tuple[str, str]:
    here = f"{world.place.registry_from_here}/e2e/{folder.name}"
    async with RegistryClient(plain_http=True) as registry:
        annotations = {ANNOTATION_BASE: base, ANNOTATION_RANK: str(rank)}
        pushed = await registry.push_directory(
            folder, here, kind="Adapter", annotations=annotations
        )
        report = a_report(artifactDigest=pushed.digest, baseDigest=base, rank=rank)
        text = report.model_dump_json().encode()
        told = await registry.push_document(here, text, artifact_type=REPORT_TYPE, subject=pushed)
    there = f"oci://{world.place.registry}/e2e/{folder.name}"
    return f"{there}@{pushed.digest}", f"{there}@{told.digest}"
