"""Optimizers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from cnncore.complexity import Counted
from cnncore.config import OPTIMIZER_DEFAULTS, Cosine, Milestones, Restarts, Step, TrialConfig


def build_optimizer(
    config: TrialConfig, model: nn.Module, pretrained: Collection[str] = ()
) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the weights that take a gradient.

    `pretrained` names parameters with weights from elsewhere (see `l2_names`). The update runs as
    one fused kernel over all weights of a group, on a CPU too.
    """
    options = {key: getattr(config, key) for key in OPTIMIZER_DEFAULTS[config.optimizer]}
    average = config.momentum_form == "average"
    if average:
        options["dampening"] = config.momentum
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    groups = parameter_groups(config, model, pretrained)
    optimizer = kinds[config.optimizer](groups, lr=config.lr, fused=True, **options)
    assert isinstance(optimizer, torch.optim.Optimizer)
    if average:
        start_from_zero_velocity(optimizer)
    return optimizer


def parameter_groups(
    config: TrialConfig, model: nn.Module, pretrained: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The weights that take a gradient, those under `l2` in a second group.

    The penalty `l2 * sum(w ** 2)` has the gradient `2 * l2 * w`. SGD's and Adam's weight decay
    adds just that to the gradient before anything else, so it carries the penalty, and the loss
    stays without it; `grad_clip` does not see either.
    """
    weights = {name: w for name, w in model.named_parameters() if w.requires_grad}
    if not config.l2:
        return [{"params": list(weights.values())}]
    penalized = l2_names(model, pretrained)
    return [
        {"params": [w for name, w in weights.items() if name not in penalized]},
        {
            "params": [w for name, w in weights.items() if name in penalized],
            "weight_decay": config.weight_decay + 2 * config.l2,
        },
    ]


def l2_names(model: nn.Module, pretrained: Collection[str] = ()) -> set[str]:
    """Names of the weights of dense layers, and of convolutions that are not in `pretrained`.

    Biases and BatchNorm have no part in it (astrokhet-2024; Keras' `kernel_regularizer`).
    """
    names = {
        f"{name}.weight".lstrip("."): isinstance(module, nn.Linear)
        for name, module in model.named_modules()
        if isinstance(module, Counted)
    }
    return {name for name, dense in names.items() if dense or name not in pretrained}


def start_from_zero_velocity(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD the velocity 0, from which `dampening` holds in its first step as well.

    With `dampening` equal to the momentum b, each step is then v = b v + (1 - b) g and
    w = w - lr v (astrokhet-2024): PyTorch's own form at lr (1 - b). Left alone, PyTorch takes the
    first gradient whole for its velocity.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def learning_rate(config: TrialConfig, step: int, steps_per_epoch: int, cuts: int = 0) -> float:
    """The learning rate of `step` (from 1): a function of the arguments alone.

    `cuts` is how often a plateau schedule has cut it. Warm-up rises linearly from `lr / n` at the
    first of its n steps to `lr` at the last; cosines span the steps after warm-up, each from `lr`
    towards, but not quite, `lr * final`; steps and milestones count epochs from the first.
    """
    warmup = (config.warmup_epochs or 0) * steps_per_epoch
    if step <= warmup:
        return config.lr * step / warmup
    schedule = config.schedule
    if isinstance(schedule, Step):
        return config.lr * schedule.factor ** ((step - 1) // steps_per_epoch // schedule.every)
    if isinstance(schedule, Milestones):
        epoch = (step - 1) // steps_per_epoch
        passed = sum(epoch >= share * config.epochs for share in schedule.at)
        return float(config.lr * schedule.factor**passed)
    if isinstance(schedule, Cosine):
        span = config.epochs * steps_per_epoch - warmup
        return config.lr * half_cosine(step - 1 - warmup, span, schedule.final)
    if isinstance(schedule, Restarts):
        done, span = step - 1 - warmup, schedule.first * steps_per_epoch
        while done >= span:
            done, span = done - span, span * schedule.factor
        return config.lr * half_cosine(done, span, schedule.final)
    if schedule.kind == "plateau":
        return config.lr * schedule.factor**cuts
    return config.lr


def half_cosine(done: int, span: int, final: float) -> float:
    """From 1 where none of `span` steps is done down to `final` where all are."""
    return final + (1 - final) * (0.5 * (1 + math.cos(math.pi * done / span)))
