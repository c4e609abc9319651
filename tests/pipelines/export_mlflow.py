"""A version handed on to a real MLflow server: what is there afterwards, once more, and what is said when it fails."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.servingbuilders import a_ready_version, condition, digest_of, ready_status, uri_of

from trimtab_oci import Reference, RegistryClient
from trimtab_pipelines.__main__ import main
from trimtab_pipelines.export.mlflow import ExportFailed
from trimtab_pipelines.export.weights import place_of

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_SECONDS = 240


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow as people run it, out of an environment of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    made = subprocess.run(
        [str(ROOT / "requirements/venv.sh"), "mlflow.txt"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert made.returncode == 0, made.stderr
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    environment |= {"HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    # Eight processes that nobody asks anything.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(f"{made.stdout.strip()}/bin/mlflow", "server", "--host=127.0.0.1"),
                *(
                    f"--port={port}",
                    "--workers=1",
                    f"--backend-store-uri=sqlite:///{folder}/store.db",
                ),
                f"--artifacts-destination={folder}/artifacts",
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + STARTS_WITHIN_SECONDS
            while not answers(address):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.3)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):  # what it has started takes its time
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def asked(server: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """MLflow's own word."""
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


def a_file(
    folder: Path,
    name: str = "bot-1",
    rouge: float = 0.4,
    *,
    approved: bool = False,
    uri: str | None = None,
) -> str:
    """What kubectl prints of a trained, evaluated and signed version."""
    status = ready_status(
        evaluation={
            "report": uri_of("report"),
            "examples": 200,
            "metrics": [
                {"metric": "RougeL", "value": rouge, "low": 0.3, "high": 0.5, "base": 0.1},
                {"metric": "Perplexity", "value": 12.5},
            ],
            "gates": [{"metric": "RougeL", "passed": True, "message": "fine"}],
        },
        producers=[{"fineTuneJob": "tune", "uid": "u", "author": "alice"}],
        lineage={"nodes": [{"id": "ModelVersion/bot-1", "kind": "ModelVersion", "name": name}]},
    )
    status["conditions"].append(condition("Approved", "True" if approved else "False"))
    wire = a_ready_version(name, status=status).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    wire["kind"] = "ModelVersion"
    if uri is not None:
        wire["spec"]["artifact"]["uri"] = uri
    wire["spec"]["lineage"] = {
        "dataset": {"name": "tickets", "digest": digest_of("data"), "uri": uri_of("data")},
        "seed": 7,
        "objective": "Supervised",
        "method": "lora",
        "hyperparameters": {"epochs": "3", "learningRate": "0.0002"},
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(wire))
    return f"--file={file}"


def pairs(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in found}


def test_run_data_figures_and_version_are_there(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mlflow", server, a_file(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("bot-1 is version 1 of bot, run ")
    run = asked(server, f"runs/get?run_id={told.split()[-1]}")["run"]
    assert run["info"]["run_name"] == "bot-1"
    assert run["info"]["status"] == "FINISHED"
    assert pairs(run["data"]["metrics"]) == {
        "RougeL": 0.4,
        "RougeL.low": 0.3,
        "RougeL.high": 0.5,
        "RougeL.base": 0.1,
        "Perplexity": 12.5,
    }
    parameters = pairs(run["data"]["params"])
    assert parameters["epochs"] == "3"
    assert parameters["dataset"] == digest_of("data")
    assert parameters["base"] == digest_of("base")
    tags = pairs(run["data"]["tags"])
    assert (tags["trimtab.producers"], tags["trimtab.namespace"]) == ("tune", "ns")
    assert json.loads(tags["trimtab.lineage"])["nodes"][0]["name"] == "bot-1"
    (data,) = run["inputs"]["dataset_inputs"]
    assert (data["dataset"]["name"], data["dataset"]["source"]) == ("tickets", uri_of("data"))

    version = asked(server, "model-versions/get?name=bot&version=1")["model_version"]
    assert version["source"] == uri_of("bot-1")
    assert version["run_id"] == run["info"]["run_id"]
    stands = pairs(version["tags"])
    assert (stands["trimtab.digest"], stands["trimtab.Ready"]) == (digest_of("bot-1"), "True")
    assert (stands["trimtab.gatesPassed"], stands["trimtab.Approved"]) == ("1 of 1", "False")


def test_once_more_changes_what_has_changed_and_makes_nothing_twice(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mlflow", "--model=again", server, "--experiment=other"]
    for rouge, approved in ((0.4, False), (0.4, False), (0.5, True)):
        assert main([*arguments, a_file(tmp_path, "bot-2", rouge, approved=approved)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == second == third
    run = first.split()[-1]
    history = asked(server, f"metrics/get-history?run_id={run}&metric_key=RougeL")["metrics"]
    assert [m["value"] for m in history] == [0.4, 0.5]
    version = asked(server, "model-versions/get?name=again&version=1")["model_version"]
    assert pairs(version["tags"])["trimtab.Approved"] == "True"
    found = asked(
        server,
        "runs/search",
        {
            "experiment_ids": [
                asked(server, "experiments/get-by-name?experiment_name=other")["experiment"][
                    "experiment_id"
                ]
            ]
        },
    )
    assert len(found["runs"]) == 1


def test_the_next_version_of_a_model_is_its_next_version(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bot-3", "bot-4"):
        assert main(["mlflow", server, "--model=line", a_file(tmp_path, name)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "version 1 of line" in first
    assert "version 2 of line" in second


def stored(server: str, run: str, path: str) -> bytes:
    """A file as MLflow's own clients get it."""
    place = f"{server}/api/2.0/mlflow-artifacts/artifacts/{run}/artifacts/{path}"
    with urllib.request.urlopen(place, timeout=30) as answer:
        return bytes(answer.read())


def pushed(registry: FakeRegistry, folder: Path) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "additional chat templates").mkdir()
    (folder / "additional chat templates/short.jinja").write_text("{{ messages }}")
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 5000)

    async def push() -> str:
        async with RegistryClient(plain_http=True) as client:
            where = Reference.parse(f"oci://{registry.address}/models/bot")
            return str(await client.push_directory(folder, where, kind="Adapter", annotations={}))

    return asyncio.run(push())


def test_weights_are_copied_on_request_and_once(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with registry_in_thread() as registry:
        uri = pushed(registry, tmp_path / "bot")
        given = a_file(tmp_path, "bot-5", uri=uri)
        command = ["mlflow", server, "--weights", "--plain-http", given]
        (weights,) = [d for d, data in registry.blobs.items() if len(data) > 1_000_000]
        kept = registry.blobs.pop(weights)
        registry.blobs[weights] = bytes(len(kept))
        assert main(command) == 1
        assert f"{uri} cannot be brought" in capsys.readouterr().err
        registry.blobs[weights] = kept
        assert main(command) == 0
    run = capsys.readouterr().out.split()[-1]
    found = asked(server, f"runs/get?run_id={run}")["run"]
    assert pairs(found["data"]["tags"])["trimtab.weights"] == uri.rpartition("@")[2]
    place = found["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/").rpartition("/")[0]
    files = [file for file in (tmp_path / "bot").rglob("*") if file.is_file()]
    assert len(files) == 3
    for file in files:
        inside = urllib.parse.quote(file.relative_to(tmp_path / "bot").as_posix())
        assert stored(server, place, f"model/{inside}") == file.read_bytes()
    # The registry is away by now, and nobody has to ask it.
    assert main(command) == 0


def test_a_store_that_the_server_does_not_write_to_is_told() -> None:
    with pytest.raises(ExportFailed, match="leave out --weights"):
        place_of("s3://bucket/1/run/artifacts")
    assert place_of("mlflow-artifacts:/1/run/artifacts") == "1/run/artifacts"


def test_an_experiment_that_was_deleted_is_told(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = asked(server, "experiments/create", {"name": "gone"})
    asked(server, "experiments/delete", {"experiment_id": made["experiment_id"]})
    assert main(["mlflow", server, "--experiment=gone", a_file(tmp_path)]) == 1
    assert "the experiment gone is deleted in MLflow" in capsys.readouterr().err


def test_a_name_that_mlflow_does_not_take_is_told_in_its_own_words(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mlflow", server, "--model=a/b", a_file(tmp_path)]) == 1
    assert "INVALID_PARAMETER_VALUE" in capsys.readouterr().err


def test_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mlflow", f"http://127.0.0.1:{free_port()}", a_file(tmp_path)]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["mlflow", "mlflow.example.com", a_file(tmp_path)]) == 1
    assert "give http(s)://" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        pytest.param(401, "{}", "set MLFLOW_TRACKING_TOKEN", id="no credentials"),
        pytest.param(403, "no", "refuses the credentials (403)", id="wrong credentials"),
        pytest.param(200, "<html>welcome</html>", "is http://127.0.0.1", id="something else"),
    ],
)
async def test_what_is_no_open_mlflow(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    text: str,
    says: str,
) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=status, text=text)

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as running:
        address = str(running.make_url(""))
        assert await asyncio.to_thread(main, ["mlflow", address, a_file(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert seen == ["Bearer hidden"]
    assert "hidden" not in told
