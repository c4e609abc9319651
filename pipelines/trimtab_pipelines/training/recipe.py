"""The training itself, from top to bottom: set up, train, save.

One explicit loop for all objectives and methods. Between two steps it may evaluate, write a
checkpoint or stop; nothing else happens in between, so a run that was interrupted there ends with
the weights of one that was not.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter
from torch.nn import functional as F

from trimtab_api.documents import TrainingRun
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_pipelines import paths
from trimtab_pipelines.prepared import read_split
from trimtab_pipelines.runtime import Interrupted, RunError, Stop
from trimtab_pipelines.training import determinism, models, output, saving
from trimtab_pipelines.training.batches import Batch, Order, collate
from trimtab_pipelines.training.checkpoint import Checkpoints, Course
from trimtab_pipelines.training.monitor import Monitor, Told
from trimtab_pipelines.training.optimisation import learning_rate, optimiser, trainable
from trimtab_pipelines.training.sequences import Encoded, Row, encode, pack
from trimtab_pipelines.training.tokenizer import texts_of, train_tokenizer

log = logging.getLogger(__name__)

CHECKPOINT_VARIABLE = "TRIMTAB_CHECKPOINT_SECONDS"
_CHECKPOINT_SECONDS = 30.0
# About so many looks at the validation split in a run with early stopping.
_EVALUATIONS = 10
# What the loss that is told remembers of the one before.
_SMOOTHING = 0.9


def train(run: TrainingRun, stop: Stop, monitor: Monitor) -> output.Summary:
    """From the run's document to files on the volume."""
    recipe = Recipe(run, stop, monitor)
    recipe.train()
    return recipe.save()


@dataclass(frozen=True)
class Data:
    """Rows to learn from and rows to look at."""

    train: list[Row]
    validation: list[Row]
    encoded: Encoded


class Recipe:
    """One run."""

    def __init__(self, run: TrainingRun, stop: Stop, monitor: Monitor) -> None:
        self._run = run
        self._stop = stop
        self._monitor = monitor
        self._settings = run.hyperparameters
        self._identity = output.identity(run)
        self._device = torch.device("cuda" if run.gpus else "cpu")
        self._threads = determinism.threads_of_run(
            paths.checkpoints(), determinism.available_threads
        )
        determinism.fix_numbers(self._settings.seed, self._threads)

        self._tokenizer = self._make_tokenizer()
        self._pad = self._tokenizer.pad_token_id or self._tokenizer.eos_token_id or 0
        self._data = self._make_data()
        self._order = Order(len(self._data.train), self._settings)
        self._model = self._make_model()
        self._parameters = trainable(self._model)
        self._optimiser = optimiser(self._parameters.values(), self._settings)
        self._evaluate_every = self._make_evaluation_interval()
        self._course = Course(identity=self._identity)
        self._checkpoints = Checkpoints(
            paths.checkpoints(),
            self._identity,
            float(os.environ.get(CHECKPOINT_VARIABLE) or _CHECKPOINT_SECONDS),
        )

    # --- setting up ---

    def _make_tokenizer(self) -> Any:
        scratch = self._run.scratch
        if scratch is None:
            return models.load_tokenizer(_base_path(self._run))
        texts = (text for record in _records("train") for text in texts_of(record))
        return train_tokenizer(texts, scratch.vocabulary_size, scratch.context_length)

    def _max_length(self) -> int:
        """What was asked for, but never more than the model can read."""
        if self._run.scratch is not None:
            context: int | None = self._run.scratch.context_length
        else:
            context = models.context_length(_base_path(self._run))
        if context is not None and context < self._settings.max_length:
            log.warning(
                "the model reads %d tokens; maxLength %d is more",
                context,
                self._settings.max_length,
            )
            return context
        return self._settings.max_length

    def _make_data(self) -> Data:
        limit = self._max_length()
        encoded = encode(_records("train"), self._tokenizer, self._run.objective, limit)
        if not encoded.sequences:
            raise RunError(
                FailureReason.TOO_FEW_RECORDS, "The training split has no usable record."
            )
        held_out = _records("validation")
        validation = encode(held_out, self._tokenizer, self._run.objective, limit).sequences
        if self._run.early_stopping is not None and not validation:
            raise RunError(
                FailureReason.TOO_FEW_RECORDS,
                "Early stopping needs records in the validation split; raise split.validation.",
            )
        rows = encoded.sequences
        if self._settings.packing:
            rows, validation = pack(rows, limit), pack(validation, limit)
        # The order of what is only looked at is free: rows of like length need less filling.
        return Data(rows, sorted(validation, key=len), encoded)

    def _make_model(self) -> Any:
        # Seeded again: what happened before must not move the weights that chance gives.
        torch.manual_seed(self._settings.seed)
        if self._run.scratch is not None:
            model: Any = models.scratch_model(self._run.scratch, self._tokenizer)
        else:
            model = models.load_base(_base_path(self._run), self._run.method, self._device)
        self._dtype: torch.dtype = model.config.dtype or torch.float32
        if self._run.base is not None:
            torch.manual_seed(self._settings.seed)
            model = models.with_adapter(model, self._run.method)
        return model.to(self._device)

    def _make_evaluation_interval(self) -> int:
        """Steps between two evaluations; 0 when there is nothing to look at."""
        if not self._data.validation:
            return 0
        if self._run.early_stopping is None:
            return self._order.steps_per_epoch
        return min(self._order.steps_per_epoch, max(1, self._order.steps // _EVALUATIONS))

    # --- training ---

    def train(self) -> None:
        """From wherever the run is to its end."""
        restored = self._checkpoints.restore(self._parameters, self._optimiser)
        if restored is not None:
            log.info("going on from step %d", restored.step)
            self._course = restored
        self._monitor.begin(self._course.step, self._order.steps, self._course.tokens)
        self._model.train()
        self._went_on_at = time.monotonic()
        while True:
            if self._is_evaluation_due():
                self._evaluate()
            if self._is_done():
                return
            if self._stop.requested:
                self._save_checkpoint()
                raise Interrupted
            if self._checkpoints.is_due():
                self._save_checkpoint()
            self._step()

    def _is_done(self) -> bool:
        return self._course.step >= self._order.steps or self._is_stopped_early()

    def _is_stopped_early(self) -> bool:
        stopping = self._run.early_stopping
        return stopping is not None and self._course.without_progress >= stopping.patience

    def _step(self) -> None:
        step = self._course.step
        batches = [self._batch(rows) for rows in self._order.step(step)]
        counted = sum(batch.counted for batch in batches)
        rate = learning_rate(self._settings, step, self._order.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        loss = 0.0
        for batch in batches:
            # A mean over all that the step counts, however it is divided into batches.
            part = self._summed_loss(batch) / max(1, counted)
            part.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            loss += part.item()
        norm = float(
            torch.nn.utils.clip_grad_norm_(
                self._parameters.values(), self._settings.max_gradient_norm
            )
        )
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise RunError(
                FailureReason.LOSS_NOT_FINITE,
                f"The loss is not a number any more at step {step + 1} of {self._order.steps}; "
                "lower hyperparameters.learningRate or raise warmupRatio.",
            )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._advance(loss, sum(batch.size for batch in batches), rate, norm)

    def _advance(self, loss: float, tokens: int, rate: float, norm: float) -> None:
        before = self._course.loss
        smoothed = loss if before is None else _SMOOTHING * before + (1 - _SMOOTHING) * loss
        self._course = self._course.model_copy(
            update={
                "step": self._course.step + 1,
                "tokens": self._course.tokens + tokens,
                "loss": smoothed,
            }
        )
        self._monitor.tell(
            Told(
                step=self._course.step,
                steps=self._order.steps,
                tokens=self._course.tokens,
                loss=smoothed,
                learning_rate=rate,
                gradient_norm=norm,
            )
        )

    def _batch(self, rows: Sequence[int]) -> Batch:
        return self._collated([self._data.train[row] for row in rows])

    def _collated(self, rows: Sequence[Row]) -> Batch:
        is_gpu = self._device.type == "cuda"
        return collate(rows, self._pad, multiple=8 if is_gpu else 1).to(self._device)

    def _summed_loss(self, batch: Batch) -> torch.Tensor:
        targets = batch.targets.flatten()
        counted = (targets >= 0).nonzero().squeeze(1)
        with torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda"):
            logits = models.logits_at(
                self._model, counted, input_ids=batch.tokens, position_ids=batch.positions
            )
        return F.cross_entropy(logits.float(), targets[counted], reduction="sum")

    # --- looking at the validation split ---

    def _is_evaluation_due(self) -> bool:
        step = self._course.step
        if not self._evaluate_every or step == self._course.evaluated_at:
            return False
        return step % self._evaluate_every == 0 or step == self._order.steps

    def _evaluate(self) -> None:
        loss = self._validation_loss()
        step = self._course.step
        if loss is None:
            return  # asked to stop; done anew when the run goes on
        best = self._course.best_loss
        is_better = best is None or loss < best
        update: dict[str, Any] = {"eval_loss": loss, "evaluated_at": step}
        if is_better:
            update |= {"best_loss": loss, "best_step": step, "without_progress": 0}
        else:
            update["without_progress"] = self._course.without_progress + 1
        self._course = self._course.model_copy(update=update)
        if is_better and self._run.early_stopping is not None:
            self._checkpoints.save_best(self._course, self._parameters)
        self._monitor.evaluated(loss)
        log.info("step %d of %d: validation loss %.4f", step, self._order.steps, loss)

    def _validation_loss(self) -> float | None:
        rows = self._data.validation
        size = self._settings.batch_size
        total, counted = 0.0, 0
        self._model.eval()
        try:
            with torch.no_grad():
                for start in range(0, len(rows), size):
                    if self._stop.requested:
                        return None
                    batch = self._collated(rows[start : start + size])
                    total += self._summed_loss(batch).item()
                    counted += batch.counted
        finally:
            self._model.train()
        return total / max(1, counted)

    # --- keeping ---

    def _save_checkpoint(self) -> None:
        self._count_seconds()
        self._checkpoints.save(self._course, self._parameters, self._optimiser)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        seconds = self._course.seconds + now - self._went_on_at
        self._went_on_at = now
        self._course = self._course.model_copy(update={"seconds": seconds})

    def save(self) -> output.Summary:
        """The artifact's files and the summary, on the volume."""
        self._count_seconds()
        course = self._course
        is_best = self._run.early_stopping is not None and self._checkpoints.restore_best(
            self._parameters
        )
        part = output.fresh_directory(paths.output())
        self._save_artifact(output.artifact_directory(part))
        method = self._run.method.qlora or self._run.method.lora
        summary = output.Summary(
            identity=self._identity,
            kind=ArtifactKind.FULL if method is None else ArtifactKind.ADAPTER,
            rank=None if method is None else method.rank,
            progress=self._monitor.progress.model_copy(update={"percent": 100, "eta_seconds": 0}),
            train_loss=course.loss,
            eval_loss=course.best_loss if is_best else course.eval_loss,
            tokens=course.tokens,
            seconds=course.seconds,
            threads=self._threads,
            parameters=sum(p.numel() for p in self._model.parameters()),
            trained_parameters=_size(self._parameters),
            records=len(self._data.encoded.sequences),
            cut=self._data.encoded.cut,
            dropped=self._data.encoded.dropped,
            early_stopped_at=course.step if self._is_stopped_early() else None,
        )
        output.complete(part, paths.output(), summary)
        return summary

    def _save_artifact(self, directory: Path) -> None:
        if self._run.base is None or self._run.method.full is not None:
            saving.save_full(self._model, self._tokenizer, self._dtype, directory)
        else:
            saving.save_adapter(self._model, self._run.base.digest, directory)


def _records(split: str) -> Iterator[dict[str, Any]]:
    """Read anew each time: tokens stay in memory, texts do not."""
    return read_split(paths.data(), split)


def _base_path(run: TrainingRun) -> Path:
    if run.base is None:
        raise RunError(FailureReason.INTERNAL_ERROR, "the run has neither base nor scratch")
    return paths.inside(run.base.path)


def _size(parameters: dict[str, Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())
