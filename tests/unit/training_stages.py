"""The frame of the stages: documents, termination messages, exit codes, fetch and push."""

import asyncio
import errno
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.tinyruns import digest_of, training_run

from trimtab_api import names
from trimtab_api.documents import EvaluationResult, RunFailure, TrainingResult, TrainingRun
from trimtab_api.documents.preparation import PrepareResult
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_api.v1alpha1.evaluated import MetricValue
from trimtab_api.v1alpha1.evaluation import Metric
from trimtab_oci import DigestMismatch, NotFound, Reference, RegistryForbidden, RegistryUnreachable
from trimtab_pipelines.__main__ import main
from trimtab_pipelines.prepared import read_split, write_split
from trimtab_pipelines.push import push
from trimtab_pipelines.registry import open_registry
from trimtab_pipelines.runtime import Interrupted, RunError, Stage, Stop, execute, failure_of
from trimtab_pipelines.termination import termination_message


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRIMTAB_ROOT", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def told(root: Path) -> TrainingResult:
    message = root / names.TERMINATION_MESSAGE_PATH.lstrip("/")
    return TrainingResult.model_validate_json(message.read_bytes())


def stage_of(work: Callable[[], None], *, pushes: bool = False) -> Stage[Any, Any]:
    def run(_run: TrainingRun, _stop: Stop) -> TrainingResult:
        work()
        return TrainingResult(tokens=7)

    return Stage(
        run=TrainingRun,
        work=run,
        failed=lambda failure: TrainingResult(failure=failure),
        outputs=lambda r: (r.output,) if pushes else (),
    )


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


ENDS = [
    pytest.param(
        RunError(FailureReason.DATA_EMPTY, "empty"),
        names.EXIT_USER_ERROR,
        "DataEmpty",
        id="a user's mistake is final",
    ),
    pytest.param(
        RegistryUnreachable("away"),
        names.EXIT_RETRYABLE,
        "RegistryUnreachable",
        id="a registry that is away is tried again",
    ),
    pytest.param(RegistryForbidden("no"), 42, "RegistryForbidden", id="a refusal is final"),
    pytest.param(NotFound("gone"), 42, "SourceNotFound", id="what is not there is final"),
    pytest.param(DigestMismatch("no"), 42, "DigestMismatch", id="wrong bytes are final"),
    pytest.param(
        OSError(errno.ENOSPC, "full"), 42, "DiskFull", id="a full volume is told with its remedy"
    ),
    pytest.param(MemoryError(), 42, "OutOfMemory", id="memory ran out"),
    pytest.param(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        42,
        "OutOfMemory",
        id="torch could not get memory",
    ),
    pytest.param(ZeroDivisionError("x"), 1, "InternalError", id="a defect of ours is tried again"),
]


@pytest.mark.parametrize(("error", "code", "reason"), ENDS)
def test_how_a_stage_ends(error: BaseException, code: int, reason: str, root: Path) -> None:
    training_run(root)
    assert execute(stage_of(raising(error))) == code
    failure = told(root).failure
    assert failure is not None
    assert failure.reason == reason
    assert failure.message


def test_a_final_failure_is_kept_in_the_registry_and_a_passing_one_is_not(
    root: Path, registry: FakeRegistry
) -> None:
    training_run(root, repository=f"{registry.address}/team/tiny")
    work = raising(ValueError("passing"))
    assert execute(stage_of(work, pushes=True)) == names.EXIT_RETRYABLE
    assert not registry.manifests
    work = raising(RunError(FailureReason.DATA_EMPTY, "final"))
    assert execute(stage_of(work, pushes=True)) == names.EXIT_USER_ERROR
    assert "run-1" in registry.manifests


def test_sigterm_stops_a_stage_where_it_stands(root: Path) -> None:
    training_run(root)
    work = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731 - one line says it
    assert execute(stage_of(work)) == names.EXIT_INTERRUPTED
    assert not (root / names.TERMINATION_MESSAGE_PATH.lstrip("/")).exists()


def test_a_graceful_stage_is_told_and_stops_at_once_later() -> None:
    stop = Stop(graceful=True)
    stop.install()
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested
    with pytest.raises(Interrupted):
        stop.at_once()


def test_a_document_that_cannot_be_read_says_so(root: Path) -> None:
    assert main(["fetch"]) == names.EXIT_RETRYABLE
    failure = told(root).failure
    assert failure is not None
    assert "run document" in failure.message


LONG = [
    pytest.param(
        PrepareResult(
            warnings=["w" * 200] * 100, failure=RunFailure(reason="DataEmpty", message="why")
        ),
        {"reason": "DataEmpty", "message": "why"},
        id="warnings go first",
    ),
    pytest.param(
        PrepareResult(failure=RunFailure(reason="DataEmpty", message="ü" * 9000)),
        {"reason": "DataEmpty"},
        id="then the end of the message",
    ),
    pytest.param(
        TrainingResult(failure=RunFailure(reason="X", message='"\\\n' * 3000)),
        {"reason": "X"},
        id="what must be escaped takes more room",
    ),
]


@pytest.mark.parametrize(("result", "kept"), LONG)
def test_a_termination_message_never_loses_the_failure(result: Any, kept: dict[str, str]) -> None:
    message = termination_message(result)
    assert len(message) <= 4096
    failure = json.loads(message)["failure"]
    assert {key: failure[key] for key in kept} == kept


def test_a_result_says_that_it_was_shortened() -> None:
    metrics = [MetricValue(metric=Metric.LOSS, value=n / 7) for n in range(200)]
    short = json.loads(termination_message(EvaluationResult(metrics=metrics[:2])))
    long = json.loads(termination_message(EvaluationResult(metrics=metrics)))
    assert (short["shortened"], len(short["metrics"])) == (False, 2)
    assert long["shortened"]
    assert len(long["metrics"]) < 200


def test_cuda_out_of_memory_is_known_by_its_name() -> None:
    error = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    assert failure_of(error).reason == FailureReason.OUT_OF_MEMORY


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    save_file(
        {"a.lora_A.weight": np.zeros((4, 8), "float32")}, folder / "adapter_model.safetensors"
    )
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["v_proj", "q_proj"],
        "base_model_name_or_path": "/home/someone/base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("notes")
    return folder


def test_a_pushed_adapter_is_bound_to_its_base_by_digest(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    base = digest_of("base")
    target = Reference.parse(f"oci://{registry.address}/team/mine:v1")
    pushed = push(adapter(tmp_path / "mine"), target, base, plain_http=True)
    again = push(adapter(tmp_path / "same"), target, base, plain_http=True)
    assert pushed.digest == again.digest
    manifest = json.loads(registry.manifests[str(pushed.digest)][1])
    assert manifest["annotations"]["dev.trimtab.base"] == base
    assert manifest["annotations"]["dev.trimtab.kind"] == "Adapter"
    assert len(manifest["layers"]) == 2


def spoiled(folder: Path, change: str) -> Path:
    adapter(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    if change == "dora":
        config["use_dora"] = True
    elif change == "no rank":
        del config["r"]
    elif change == "truncated":
        weights = folder / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


REFUSED = [
    pytest.param("", None, FailureReason.BASE_MISMATCH, id="no base is named"),
    pytest.param("dora", "b", FailureReason.UNSUPPORTED_ADAPTER, id="vLLM serves no DoRA"),
    pytest.param("no rank", "b", FailureReason.UNSUPPORTED_ADAPTER, id="there is no rank"),
    pytest.param("truncated", "b", FailureReason.CORRUPT_WEIGHTS, id="weights are truncated"),
]


@pytest.mark.parametrize(("change", "base", "reason"), REFUSED)
def test_what_cannot_be_served_is_not_pushed(
    change: str, base: str | None, reason: FailureReason, tmp_path: Path
) -> None:
    target = Reference.parse("oci://127.0.0.1:1/team/mine")
    digest = None if base is None else digest_of(base)
    with pytest.raises(RunError) as raised:
        push(spoiled(tmp_path / "mine", change), target, digest, plain_http=True)
    assert raised.value.reason is reason


def data_on(registry: FakeRegistry, tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "prepared"
    folder.mkdir()
    write_split(folder, "train", DatasetTask.TEXT, [{"text": "a"}])

    async def put() -> Reference:
        async with open_registry(plain_http=True) as client:
            return await client.push_directory(
                folder, f"{registry.address}/team/data", kind="Dataset"
            )

    reference = asyncio.run(put())
    return {"uri": str(reference), "digest": str(reference.digest)}


def test_data_is_fetched_once(root: Path, registry: FakeRegistry) -> None:
    training_run(root, data=data_on(registry, root))
    assert main(["fetch"]) == 0
    assert list(read_split(root / "volume/data", "train")) == [{"text": "a"}]
    asked = len(registry.requests)
    assert main(["fetch"]) == 0
    assert len(registry.requests) == asked


def test_data_that_is_not_what_its_digest_says_is_refused(
    root: Path, registry: FakeRegistry
) -> None:
    data = data_on(registry, root)
    training_run(root, data=data)
    manifest = json.loads(registry.manifests[data["digest"]][1])
    layer = manifest["layers"][0]["digest"]
    registry.blobs[layer] = registry.blobs[layer].replace(b"PAR1", b"PAR2")
    assert main(["fetch"]) == names.EXIT_USER_ERROR
    failure = told(root).failure
    assert failure is not None
    assert failure.reason == FailureReason.DIGEST_MISMATCH
    assert not (root / "volume" / "data").exists()
