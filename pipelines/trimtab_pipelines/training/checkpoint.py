"""Checkpoints: everything that a run needs to go on exactly where it was.

A directory per checkpoint, made under another name and renamed when it is complete. Its index
holds the size and sha256 of each file, so that one that was torn by a crash or a full disk is
known and the one before it is used. Tensors are safetensors and the rest is JSON: nothing that
is read back can run code.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from trimtab_api.model import ApiModel
from trimtab_pipelines.files import put_in_place, sha256

log = logging.getLogger(__name__)

_INDEX = "index.json"
_KEPT = 2
# A checkpoint may take this share of the time at most; big models save less often.
_SHARE_OF_TIME = 0.05


class Course(ApiModel):
    """How far a run is, and what it must remember besides tensors.

    `evaluated_at` is the last step that was evaluated: a run that is stopped during an evaluation
    begins that evaluation anew.
    """

    identity: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0
    loss: float | None = None
    eval_loss: float | None = None
    evaluated_at: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    without_progress: int = 0


class Checkpoints:
    """The checkpoints of one run on its volume."""

    def __init__(self, directory: Path, identity: str, every_seconds: float) -> None:
        self._directory = directory
        self._identity = identity
        self._every = every_seconds
        self._pause = every_seconds
        self._last = time.monotonic()
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob("*.part"):
            if leftover.is_dir():
                shutil.rmtree(leftover)

    def is_due(self) -> bool:
        return time.monotonic() - self._last >= self._pause

    def save(
        self,
        course: Course,
        parameters: Mapping[str, Parameter],
        optimiser: torch.optim.Optimizer,
    ) -> None:
        """Write a checkpoint and let go of the older ones."""
        began = time.monotonic()
        tensors = {
            "weights": {name: p.detach() for name, p in parameters.items()},
            "optimiser": dict(_moments(parameters, optimiser)),
            "random": _random_states(),
        }
        self._write(f"step-{course.step:010d}", course, tensors)
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old)
        self._last = time.monotonic()
        if self._every:  # 0 asks for one after every step, whatever it costs
            self._pause = max(self._every, (self._last - began) / _SHARE_OF_TIME)

    def save_best(self, course: Course, parameters: Mapping[str, Parameter]) -> None:
        """Keep the weights that did best on the validation split."""
        weights = {name: p.detach() for name, p in parameters.items()}
        self._write("best", course, {"weights": weights})

    def restore(
        self, parameters: Mapping[str, Parameter], optimiser: torch.optim.Optimizer
    ) -> Course | None:
        """Go back to the newest whole checkpoint, if there is one."""
        for directory in self._newest_first():
            loaded = self._read(directory)
            if loaded is None:
                continue
            course, tensors = loaded
            _set_weights(parameters, tensors["weights"])
            _set_moments(parameters, optimiser, tensors["optimiser"])
            _set_random_states(tensors["random"])
            return course
        return None

    def restore_best(self, parameters: Mapping[str, Parameter]) -> bool:
        """Go back to the best weights."""
        loaded = self._read(self._directory / "best")
        if loaded is not None:
            _set_weights(parameters, loaded[1]["weights"])
        return loaded is not None

    def _write(
        self, name: str, course: Course, tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        part = self._directory / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        files = {}
        for kind, content in tensors.items():
            file = part / f"{kind}.safetensors"
            save_file({key: tensor.contiguous() for key, tensor in content.items()}, file)
            files[file.name] = {"size": file.stat().st_size, "sha256": sha256(file)}
        index = {"course": course.to_wire(), "files": files}
        (part / _INDEX).write_text(json.dumps(index))
        put_in_place(part, self._directory / name)

    def _read(self, directory: Path) -> tuple[Course, dict[str, dict[str, Tensor]]] | None:
        try:
            index = json.loads((directory / _INDEX).read_text())
            course = Course.model_validate(index["course"])
            for name, known in index["files"].items():
                _verify(directory / name, known)
            tensors = {Path(name).stem: load_file(directory / name) for name in index["files"]}
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            log.warning("checkpoint %s is not whole and is left out: %s", directory.name, error)
            return None
        if course.identity != self._identity:
            log.warning("checkpoint %s is of another run and is left out", directory.name)
            return None
        return course, tensors

    def _newest_first(self) -> list[Path]:
        whole = [p for p in self._directory.glob("step-*") if p.suffix != ".part"]
        return sorted(whole, reverse=True)


def _verify(file: Path, known: Mapping[str, object]) -> None:
    if file.stat().st_size != known["size"] or sha256(file) != known["sha256"]:
        raise ValueError(f"{file.name} is not what the index says")


def _moments(
    parameters: Mapping[str, Parameter], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in parameters.items():
        for key, value in optimiser.state.get(parameter, {}).items():
            yield f"{name}|{key}", value


def _set_weights(parameters: Mapping[str, Parameter], saved: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def _set_moments(
    parameters: Mapping[str, Parameter],
    optimiser: torch.optim.Optimizer,
    saved: Mapping[str, Tensor],
) -> None:
    for key, value in saved.items():
        name, _, kind = key.rpartition("|")
        parameter = parameters[name]
        optimiser.state[parameter][kind] = value.to(parameter.device)


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _set_random_states(saved: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(saved["cpu"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda{index}" in saved:
                torch.cuda.set_rng_state(saved[f"cuda{index}"], index)
