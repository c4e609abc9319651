"""What a running training answers, and what decides its numbers: threads and learning rates."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from trimtab_api.v1alpha1.finetunejob import Hyperparameters, Scheduler
from trimtab_pipelines.training.determinism import available_threads, threads_of_run
from trimtab_pipelines.training.monitor import Monitor, Told, served
from trimtab_pipelines.training.optimisation import learning_rate


def asked(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_progress_and_metrics_are_answered_while_it_runs() -> None:
    monitor = Monitor()
    with served(monitor, port=0) as port:
        assert json.loads(asked(port, "/progress")) == {"percent": 0, "step": 0, "steps": 0}
        monitor.begin(step=10, steps=40, tokens=100)
        monitor.tell(
            Told(step=20, steps=40, tokens=300, loss=2.5, learning_rate=0.1, gradient_norm=1.5)
        )
        monitor.evaluated(3.25)
        progress = json.loads(asked(port, "/progress"))
        assert (progress["percent"], progress["step"], progress["steps"]) == (50, 20, 40)
        assert (progress["loss"], progress["evalLoss"]) == (2.5, 3.25)
        assert progress["tokensPerSecond"] > 0
        metrics = asked(port, "/metrics")
        for line in (
            "trimtab_training_loss 2.5",
            "trimtab_training_steps 20.0",
            "trimtab_training_tokens 300.0",
            "trimtab_training_learning_rate 0.1",
            "trimtab_training_gradient_norm 1.5",
            "trimtab_training_eval_loss 3.25",
        ):
            assert line in metrics
        with pytest.raises(urllib.error.HTTPError) as missing:
            asked(port, "/other")
        assert missing.value.code == 404
        missing.value.close()


RATES = [
    pytest.param(Scheduler.CONSTANT, 0, 0.25, id="the rate rises from the first step"),
    pytest.param(Scheduler.CONSTANT, 3, 1.0, id="and is full when warm-up ends"),
    pytest.param(Scheduler.CONSTANT, 39, 1.0, id="constant stays"),
    pytest.param(Scheduler.LINEAR, 22, 0.5, id="linear is half way down half way"),
    pytest.param(Scheduler.COSINE, 22, 0.5, id="cosine is half way down half way"),
    pytest.param(Scheduler.COSINE, 13, 0.8535533905932737, id="cosine falls slowly first"),
    pytest.param(Scheduler.LINEAR, 40, 0.0, id="linear ends at nothing"),
]


@pytest.mark.parametrize(("scheduler", "step", "rate"), RATES)
def test_the_learning_rate_is_a_function_of_the_step(
    scheduler: Scheduler, step: int, rate: float
) -> None:
    settings = Hyperparameters(learning_rate=1.0, warmup_ratio=0.1, scheduler=scheduler)
    assert learning_rate(settings, step, 40) == pytest.approx(rate)


LIMITS = [
    pytest.param({"cpu.max": "100000 100000\n"}, 1, id="one CPU by the unified hierarchy"),
    pytest.param({"cpu.max": "50000 100000"}, 1, id="half a CPU is one thread"),
    pytest.param({"cpu.max": "max 100000"}, None, id="no limit"),
    pytest.param(
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        1,
        id="one CPU by the old hierarchy",
    ),
    pytest.param({"cpu/cpu.cfs_quota_us": "-1"}, None, id="no limit in the old hierarchy"),
    pytest.param({}, None, id="no control group"),
]


@pytest.mark.parametrize(("files", "threads"), LIMITS)
def test_threads_follow_the_limit_of_the_container(
    files: dict[str, str], threads: int | None, tmp_path: Path
) -> None:
    everything = available_threads(tmp_path / "nothing")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert available_threads(tmp_path) == (everything if threads is None else threads)


def test_a_run_keeps_the_threads_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIMTAB_THREADS", raising=False)
    assert threads_of_run(tmp_path, lambda: 3) == 3
    assert threads_of_run(tmp_path, lambda: 64) == 3
