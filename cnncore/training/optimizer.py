"""Optimizers and their groups of weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from cnncore.complexity import COUNTED_LAYERS
from cnncore.config import OPTIMIZER_DEFAULTS, TrialConfig


def build_optimizer(
    config: TrialConfig, model: nn.Module, pretrained: Collection[str] = ()
) -> torch.optim.Optimizer:
    """Build SGD, Adam or AdamW over the trainable weights.

    `pretrained` names the parameters with pre-trained weights (see `l2_names`). The update runs as
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
    """Group the trainable weights; those under `l2` form a second group.

    The penalty `l2 * sum(w ** 2)` has the gradient `2 * l2 * w`. SGD's and Adam's weight decay
    adds exactly this to the gradient before anything else. So weight decay carries the penalty,
    and the loss stays without it; `grad_clip` sees neither.
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
    """Return the names of dense layers' weights and of convolutions' that are not `pretrained`.

    Biases and BatchNorm are left out (astrokhet-2024; Keras' `kernel_regularizer`).
    """
    names = {
        f"{name}.weight".lstrip("."): isinstance(module, nn.Linear)
        for name, module in model.named_modules()
        if isinstance(module, COUNTED_LAYERS)
    }
    return {name for name, dense in names.items() if dense or name not in pretrained}


def start_from_zero_velocity(optimizer: torch.optim.Optimizer) -> None:
    """Set SGD's velocity to 0, so that `dampening` applies in the first step too.

    With `dampening` equal to the momentum b, each step is then v = b v + (1 - b) g and
    w = w - lr v (astrokhet-2024): PyTorch's own form at lr (1 - b). Otherwise PyTorch takes
    the whole first gradient as its velocity.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
