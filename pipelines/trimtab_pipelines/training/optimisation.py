"""The optimiser and the course of its learning rate.

The rate is a pure function of the step: there is no scheduler object whose state could get lost.
"""

import math
from collections.abc import Iterable

import torch
from torch.nn import Module, Parameter

from trimtab_api.v1alpha1.finetunejob import Hyperparameters, Scheduler


def learning_rate(settings: Hyperparameters, step: int, steps: int) -> float:
    """The rate of the step with this number, counted from 0."""
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    match settings.scheduler:
        case Scheduler.CONSTANT:
            return settings.learning_rate
        case Scheduler.LINEAR:
            return settings.learning_rate * (1 - done)
        case Scheduler.COSINE:
            return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def trainable(model: Module) -> dict[str, Parameter]:
    """What is trained, by name; shared weights appear once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def optimiser(parameters: Iterable[Parameter], settings: Hyperparameters) -> torch.optim.AdamW:
    """AdamW; norms and biases, which have one dimension, are not decayed."""
    every = list(parameters)
    groups = [
        {"params": [p for p in every if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, fused=True
    )
