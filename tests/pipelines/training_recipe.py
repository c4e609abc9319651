"""Whole trainings on the CPU, with models of a few thousand parameters."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.tinyruns import BASE_DIGEST, artifact, pairs, texts, training_run, write_data
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_api.documents import TrainingRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.finetunejob import Hyperparameters
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_pipelines.prompts import IGNORED
from trimtab_pipelines.runtime import Interrupted, RunError, Stop
from trimtab_pipelines.training import output
from trimtab_pipelines.training.batches import Order, collate
from trimtab_pipelines.training.monitor import Monitor, Told
from trimtab_pipelines.training.recipe import Recipe, train
from trimtab_pipelines.training.sequences import Row, pack

THREADS = "1"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_THREADS", THREADS)


def trained(root: Path, run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> output.Summary:
    monkeypatch.setenv("TRIMTAB_ROOT", str(root))
    return train(run, Stop(graceful=True), Monitor())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model from scratch, as the registry would mount it."""
    root = tmp_path_factory.mktemp("base")
    write_data(root, [*texts(60), *({"text": p["prompt"]} for p in pairs(40))])
    run = training_run(root, hyperparameters={"epochs": 3, "packing": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_THREADS", THREADS)
        trained(root, run, patch)
    return root / "volume" / "output" / "artifact"


class StopAfter(Monitor):
    """Asks the run to stop after some steps, as SIGTERM would."""

    def __init__(self, steps: int, stop: Stop) -> None:
        super().__init__()
        self._left = steps
        self._stop = stop

    def tell(self, told: Told) -> None:
        super().tell(told)
        self._left -= 1
        if self._left == 0:
            self._stop.requested = True


def interrupted(root: Path, run: TrainingRun, steps: int, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("TRIMTAB_ROOT", str(root))
    stop = Stop(graceful=True)
    with pytest.raises(Interrupted):
        train(run, stop, StopAfter(steps, stop))


def test_a_model_from_scratch_learns_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path, texts(60), texts(70)[60:])
    run = training_run(tmp_path, hyperparameters={"epochs": 6})
    summary = trained(tmp_path, run, monkeypatch)
    assert summary.kind is ArtifactKind.FULL
    assert summary.eval_loss is not None
    assert summary.eval_loss < 3.5  # it began at 5.7, the logarithm of the vocabulary's size
    assert summary.progress.percent == 100

    folder = tmp_path / "volume" / "output" / "artifact"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.tie_word_embeddings
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    chat = [{"role": "user", "content": "Hi"}]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked == "<|begin|><|user|>Hi<|end|><|assistant|>"
    ids = tokenizer("The red", return_tensors="pt")
    said = model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(said[0]).startswith("<|begin|>The red")


def test_the_same_spec_gives_the_same_bytes(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("one", "two"):
        root = tmp_path / name
        write_data(root, pairs(30))
        trained(root, training_run(root, base=base), monkeypatch)
        made.append(artifact(root))
    assert made[0] == made[1]
    write_data(tmp_path / "three", pairs(30))
    other = training_run(tmp_path / "three", base=base, hyperparameters={"seed": 4})
    trained(tmp_path / "three", other, monkeypatch)
    assert artifact(tmp_path / "three") != made[0]


@pytest.mark.parametrize("steps", [1, 4, 7, 9], ids=lambda s: f"stopped after step {s}")
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    steps: int, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.2}}
    changes: dict[str, Any] = {
        "method": method,
        "early_stopping": None,
        "earlyStopping": {"patience": 9},
        "hyperparameters": {"epochs": 2, "gradientAccumulation": 2, "packing": False},
    }
    for name in ("calm", "shaken"):
        write_data(tmp_path / name, pairs(36), pairs(40)[36:])
    calm = training_run(tmp_path / "calm", base=base, **changes)
    summary = trained(tmp_path / "calm", calm, monkeypatch)
    shaken = training_run(tmp_path / "shaken", base=base, **changes)
    interrupted(tmp_path / "shaken", shaken, steps, monkeypatch)
    again = trained(tmp_path / "shaken", shaken, monkeypatch)
    assert artifact(tmp_path / "shaken") == artifact(tmp_path / "calm")
    assert (again.train_loss, again.eval_loss, again.tokens) == (
        summary.train_loss,
        summary.eval_loss,
        summary.tokens,
    )


def test_a_torn_checkpoint_is_left_out_and_the_one_before_it_used(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRIMTAB_CHECKPOINT_SECONDS", "0")
    for name in ("calm", "torn"):
        write_data(tmp_path / name, pairs(30))
    trained(tmp_path / "calm", training_run(tmp_path / "calm", base=base), monkeypatch)
    run = training_run(tmp_path / "torn", base=base)
    interrupted(tmp_path / "torn", run, 5, monkeypatch)
    kept = sorted((tmp_path / "torn" / "volume" / "checkpoints").glob("step-*"))
    assert [path.name[-2:] for path in kept] == ["04", "05"]
    weights = kept[-1] / "optimiser.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    trained(tmp_path / "torn", run, monkeypatch)
    assert "is not whole" in caplog.text
    assert artifact(tmp_path / "torn") == artifact(tmp_path / "calm")


def test_a_checkpoint_of_another_run_is_not_used(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_data(tmp_path, pairs(30))
    interrupted(tmp_path, training_run(tmp_path, base=base), 3, monkeypatch)
    other = training_run(tmp_path, base=base, hyperparameters={"seed": 8})
    trained(tmp_path, other, monkeypatch)
    assert "of another run" in caplog.text


def test_an_adapter_loads_in_peft_and_answers_as_the_trained_model(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path, pairs(30))
    monkeypatch.setenv("TRIMTAB_ROOT", str(tmp_path))
    recipe = Recipe(training_run(tmp_path, base=base), Stop(graceful=True), Monitor())
    recipe.train()
    recipe.save()
    ids = torch.tensor([[1, 30, 40, 50, 60]])
    recipe._model.eval()
    own = recipe._model(ids).logits
    folder = tmp_path / "volume" / "output" / "artifact"
    plain = AutoModelForCausalLM.from_pretrained(base)
    without = plain(ids).logits
    loaded = PeftModel.from_pretrained(plain, folder)
    torch.testing.assert_close(loaded(ids).logits, own)
    assert (own - without).abs().max() > 0.01

    assert set(artifact(tmp_path)) == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads(artifact(tmp_path)["adapter_config.json"])
    assert config["base_model_name_or_path"] == BASE_DIGEST
    assert config["inference_mode"] is True
    assert config["target_modules"] == sorted(config["target_modules"])
    assert str(tmp_path) not in json.dumps(config)


METHODS = [
    pytest.param({"lora": {"rank": 4, "targetModules": "Attention"}}, id="lora on attention"),
    pytest.param({"qlora": {"rank": 4}}, id="lora over NF4 weights"),
    pytest.param({"full": {}}, id="all weights"),
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(
    method: dict[str, Any], tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path, pairs(40), pairs(44)[40:])
    settings = {"epochs": 8, "learningRate": 0.02, "batchSize": 2, "packing": True}
    run = training_run(tmp_path, base=base, method=method, hyperparameters=settings)
    monkeypatch.setenv("TRIMTAB_ROOT", str(tmp_path))
    recipe = Recipe(run, Stop(graceful=True), Monitor())
    before = recipe._validation_loss()
    recipe.train()
    after = recipe.save().eval_loss
    assert before is not None
    assert after is not None
    assert after < before - 0.5
    tokenizer_files = {"tokenizer.json", "config.json"}
    assert tokenizer_files.issubset(artifact(tmp_path)) is ("full" in method)


def test_records_in_one_row_do_not_see_each_other(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="sdpa")
    rng = torch.Generator().manual_seed(1)
    rows = []
    for length in (9, 14, 5, 11, 20):
        tokens = torch.randint(6, 300, (length,), generator=rng).int().numpy()
        targets = [*tokens.tolist()[1:], IGNORED]
        rows.append(Row(tokens, torch.tensor(targets).int().numpy(), (length,)))

    def losses(them: list[Row]) -> list[float]:
        batch = collate(them, pad=0)
        logits = model(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False).logits
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
        )
        return sorted(each[batch.targets.flatten() != IGNORED].tolist())

    alone = sorted(loss for row in rows for loss in losses([row]))
    assert losses(rows) == pytest.approx(alone, abs=1e-5)
    packed = pack(rows, 32)
    assert len(packed) == 2
    assert losses(packed) == pytest.approx(alone, abs=1e-5)


def test_early_stopping_keeps_the_best_weights(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is learnt contradicts what is looked at, so that every step makes it worse in the end.
    wrong = [{"prompt": p["prompt"], "completion": "Zzz zzz zzz."} for p in pairs(40)]
    write_data(tmp_path, wrong, pairs(6))
    settings = {"epochs": 20, "learningRate": 0.05, "scheduler": "Constant"}
    run = training_run(tmp_path, base=base, hyperparameters=settings, earlyStopping={"patience": 2})
    monkeypatch.setenv("TRIMTAB_ROOT", str(tmp_path))
    recipe = Recipe(run, Stop(graceful=True), Monitor())
    recipe.train()
    summary = recipe.save()
    assert summary.early_stopped_at is not None
    assert summary.progress.step < summary.progress.steps
    assert recipe._validation_loss() == pytest.approx(summary.eval_loss, rel=1e-6)


def broken_base(base: Path, root: Path, change: str) -> Path:
    folder = root / "broken"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "model.safetensors"
    if change == "not a number":
        tensors = load_file(weights)
        tensors["model.norm.weight"][0] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    elif change == "incomplete":
        tensors = load_file(weights)
        tensors.pop("model.layers.1.mlp.up_proj.weight")
        save_file(tensors, weights, metadata={"format": "pt"})
    elif change == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "pickle":
        torch.save({"w": torch.zeros(3)}, weights)
    elif change == "unknown architecture":
        config = json.loads((folder / "config.json").read_text())
        config["model_type"] = "nosuchmodel"
        (folder / "config.json").write_text(json.dumps(config))
    return folder


FAILURES = [
    pytest.param("not a number", FailureReason.LOSS_NOT_FINITE, id="the loss is no number"),
    pytest.param("truncated", FailureReason.CORRUPT_WEIGHTS, id="safetensors are truncated"),
    pytest.param("incomplete", FailureReason.CORRUPT_WEIGHTS, id="a tensor is missing"),
    pytest.param("pickle", FailureReason.UNSAFE_FORMAT, id="a pickle calls itself safetensors"),
    pytest.param(
        "unknown architecture",
        FailureReason.UNSUPPORTED_MODEL,
        id="transformers does not know the architecture",
    ),
]


@pytest.mark.parametrize(("change", "reason"), FAILURES)
def test_what_cannot_be_trained_has_a_reason(
    change: str,
    reason: FailureReason,
    tmp_path: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_data(tmp_path, pairs(20))
    run = training_run(tmp_path, base=broken_base(base, tmp_path, change))
    with pytest.raises(RunError) as raised:
        trained(tmp_path, run, monkeypatch)
    assert raised.value.reason is reason


def test_heads_must_divide_the_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path, texts(20))
    scratch = {"hiddenSize": 32, "layers": 1, "heads": 3, "vocabularySize": 300}
    with pytest.raises(RunError, match="even multiple of heads") as raised:
        trained(tmp_path, training_run(tmp_path, scratch=scratch), monkeypatch)
    assert raised.value.reason is FailureReason.UNSUPPORTED_MODEL


DATA_FAILURES = [
    pytest.param([], [], {}, FailureReason.TOO_FEW_RECORDS, id="there is nothing to learn from"),
    pytest.param(
        pairs(20),
        [],
        {"earlyStopping": {"patience": 1}},
        FailureReason.TOO_FEW_RECORDS,
        id="early stopping has nothing to look at",
    ),
]


@pytest.mark.parametrize(("train_records", "held_out", "changes", "reason"), DATA_FAILURES)
def test_data_that_is_not_enough_has_a_reason(
    train_records: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    changes: dict[str, Any],
    reason: FailureReason,
    tmp_path: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_data(tmp_path, train_records, held_out)
    with pytest.raises(RunError) as raised:
        trained(tmp_path, training_run(tmp_path, base=base, **changes), monkeypatch)
    assert raised.value.reason is reason


def order_of(rows: int, **changes: int) -> Order:
    settings = {"batch_size": 2, "gradient_accumulation": 2, "epochs": 3, "seed": 5} | changes
    return Order(rows, Hyperparameters.model_validate(settings))


def test_every_row_is_seen_once_per_epoch_in_an_order_of_its_own() -> None:
    order = order_of(11)
    assert (order.steps_per_epoch, order.steps) == (3, 9)
    epochs = [
        [
            row
            for step in range(3 * epoch, 3 * epoch + 3)
            for rows in order.step(step)
            for row in rows
        ]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert all(len(rows) <= 2 for step in range(9) for rows in order.step(step))
    assert order_of(11, max_steps=4).steps == 4


def test_a_resumed_run_meets_the_same_rows_as_one_that_went_through() -> None:
    whole = order_of(500)
    steps = [whole.step(step) for step in range(whole.steps)]
    assert all(order_of(500).step(step) == steps[step] for step in (0, 124, 125, 374))
