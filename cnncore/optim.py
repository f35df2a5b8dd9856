"""Optimizers, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from cnncore.config import OPTIMIZER_DEFAULTS, Cosine, Step, TrialConfig


def build_optimizer(config: TrialConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the weights that take a gradient.

    The update runs as one fused kernel over all of them, on a CPU too.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    options = {key: getattr(config, key) for key in OPTIMIZER_DEFAULTS[config.optimizer]}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[config.optimizer](weights, lr=config.lr, fused=True, **options)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def learning_rate(config: TrialConfig, step: int, steps_per_epoch: int, cuts: int = 0) -> float:
    """The learning rate of `step` (from 1): a function of the arguments alone.

    `cuts` is how often a plateau schedule has cut it. Warm-up rises linearly from `lr / n` at the
    first of its n steps to `lr` at the last; a cosine spans the steps after warm-up, from `lr`
    towards, but not quite, `lr * final`; a step schedule counts epochs from the first.
    """
    warmup = (config.warmup_epochs or 0) * steps_per_epoch
    if step <= warmup:
        return config.lr * step / warmup
    schedule = config.schedule
    if isinstance(schedule, Step):
        return config.lr * schedule.factor ** ((step - 1) // steps_per_epoch // schedule.every)
    if isinstance(schedule, Cosine):
        span = config.epochs * steps_per_epoch - warmup
        share = 0.5 * (1 + math.cos(math.pi * (step - 1 - warmup) / span))
        return config.lr * (schedule.final + (1 - schedule.final) * share)
    if schedule.kind == "plateau":
        return config.lr * schedule.factor**cuts
    return config.lr
