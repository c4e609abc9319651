"""What goes wrong in serving, on the real engine: it is said, and the version that was good answers."""

import asyncio
import base64
import json
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from examples.quickstart.kube import wait
from tests.e2e.machine import Machine
from tests.e2e.world import QUESTION, Object, World, measured, part, pods, restarts, serve, service
from tests.servingbuilders import a_report

from trimtab_api import names
from trimtab_oci import ANNOTATION_BASE, ANNOTATION_RANK, RegistryClient

REPORT_TYPE = "application/vnd.trimtab.evaluation-report.v1+json"
OTHER_BASE = f"sha256:{'2' * 64}"
UNSUITABLE = [
    pytest.param(None, 8, "VersionMissing", id="a version that does not exist"),
    pytest.param("its own", 64, "RankTooHigh", id="a rank above the engine's"),
    pytest.param(OTHER_BASE, 8, "BaseMismatch", id="an adapter of another base"),
]


@pytest.mark.parametrize(("belongs_to", "rank", "reason"), UNSUITABLE)
def test_what_the_engine_cannot_serve_leaves_the_good_version_serving(
    world: World,
    served: str,
    base: str,
    adapter: str,
    belongs_to: str | None,
    rank: int,
    reason: str,
) -> None:
    serve(world, base, adapter)
    name = f"unsuitable-{reason.lower()}"
    if belongs_to is not None:
        own = (world.kube.get("modelversion", base) or {})["spec"]["artifact"]["uri"]
        other = f"oci://{world.place.registry}/e2e/other@{OTHER_BASE}"
        world.apply(given(world, name, other if belongs_to == OTHER_BASE else own, rank))
        world.holds("modelversion", name, "Ready", seconds=60)
    world.apply(service(base, "chat", {"bot": f'{{name: "{name}"}}'}))
    found = world.says("inferenceservice", "chat", "AdaptersReady", reason)
    assert name in bot(found)["message"]
    assert bot(found)["activeVersion"] == adapter
    assert answered_by(served) == adapter
    serve(world, base, adapter)


def test_an_engine_that_loads_another_adapter_than_it_says_is_caught_before_a_request(
    world: World, machine: Machine, served: str, base: str, adapter: str, second: str
) -> None:
    serve(world, base, adapter)
    right, wrong = digest(world, second), digest(world, adapter)
    wait(lambda: not engine_has(world, right), 60, "the engine forgets the other version")
    pod = pods(world, part("chat", names.ENGINE))[-1]
    with machine.reads_instead(pod, right, wrong):
        world.apply(service(base, "chat", {"bot": f'{{name: "{second}"}}'}))
        found = world.says("inferenceservice", "chat", "AdaptersReady", "FingerprintMismatch")
        assert "answers as another" in bot(found)["message"]
        assert answered_by(served) == adapter
        assert not engine_has(world, right)
    serve(world, base, second)
    assert answered_by(served) == second
    assert engine_has(world, right)


def test_the_engine_stops_when_the_client_of_a_stream_goes(world: World, served: str) -> None:
    callers, tokens = 4, 200
    before = measured(world, names.ENGINE, "vllm:generation_tokens_total")
    body = {"model": "bot", **QUESTION, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    with ExitStack() as streams:
        for _ in range(callers):
            stream = httpx.stream("POST", f"{served}/v1/chat/completions", json=body, timeout=60)
            answer = streams.enter_context(stream)
            assert next(answer.iter_bytes())
        assert measured(world, names.ENGINE, "vllm:num_requests_running") > 0
    wait(
        lambda: measured(world, names.ENGINE, "vllm:num_requests_running") == 0,
        10,
        "the engine stops",
        every=0.2,
    )
    assert (
        measured(world, names.ENGINE, "vllm:generation_tokens_total") - before
        < callers * tokens / 2
    )
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


def answered_by(url: str) -> str:
    """The version that answers as `bot`."""
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "bot", **QUESTION}, timeout=60)
    return str(answer.raise_for_status().headers["x-trimtab-version"])


def bot(found: Object) -> Object:
    """What a service says of the name `bot`."""
    model: Object = next(m for m in found["status"]["models"] if m["name"] == "bot")
    return model


def digest(world: World, version: str) -> str:
    uri: str = (world.kube.get("modelversion", version) or {})["spec"]["artifact"]["uri"]
    return uri.rpartition("@")[2]


def engine_has(world: World, version: str) -> bool:
    """Whether vLLM itself knows an adapter by a name made of this digest."""
    pod = pods(world, part("chat", names.ENGINE))[-1]["metadata"]["name"]
    address = f"http://127.0.0.1:{names.PORT_ENGINE}/v1/models"
    ask = f"import urllib.request as r; print(r.urlopen('{address}').read().decode())"
    listed = json.loads(world.kube.kubectl("exec", pod, "-c", "agent", "--", "python", "-c", ask))
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
    """A ModelVersion whose report says that it is good, so that no pod looks at its files."""
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"of": name}))
    uri, report = asyncio.run(_push(world, folder, base.rpartition("@")[2], rank))
    return f"""
apiVersion: trimtab.dev/v1alpha1
kind: ModelVersion
metadata: {{name: {name}}}
spec:
  model: given
  artifact: {{uri: "{uri}", kind: Adapter, rank: {rank}}}
  baseModel: {{uri: "{base}"}}
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
