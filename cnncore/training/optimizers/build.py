"""Optimizers as a config describes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from cnncore.config import OPTIMIZERS, TrialConfig
from cnncore.config.optimizers import MuonOptions
from cnncore.training.optimizers.groups import parameter_groups
from cnncore.training.optimizers.muon import Muon
from cnncore.training.optimizers.own import build_own

# Optimizers whose update runs as one fused kernel over all weights of a group, on a CPU too.
FUSED = ("sgd", "adam", "adamw")


def build_optimizer(
    config: TrialConfig, model: nn.Module, pretrained: Collection[str] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer over the trainable weights.

    `pretrained` names the parameters with pre-trained weights (see `l2_names`). Every option is
    given, also those that equal the default, so that a config alone decides.
    """
    groups = parameter_groups(config, model, pretrained)
    if (kind := OPTIMIZERS.get(config.optimizer)) is None:
        return build_own(config, groups)
    keys: dict[str, Any] = {key: getattr(config, key) for key in kind.keys}
    options = kind.options(**(config.optimizer_options or {}))
    if isinstance(options, MuonOptions):
        return Muon(groups, model, options, lr=config.lr, **keys)
    keys.update(options)
    average = keys.pop("momentum_form", None) == "average"
    if average:
        keys["dampening"] = config.momentum
    if config.optimizer in FUSED:
        keys["fused"] = True
    optimizer = getattr(torch.optim, kind.torch_class)(groups, lr=config.lr, **keys)
    assert isinstance(optimizer, torch.optim.Optimizer)
    if average:
        start_from_zero_velocity(optimizer)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, as a fixed share of `lr` if it has an `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def start_from_zero_velocity(optimizer: torch.optim.Optimizer) -> None:
    """Set SGD's velocity to 0, so that `dampening` applies in the first step too.

    With `dampening` equal to the momentum b, each step is then v = b v + (1 - b) g and
    w = w - lr v (astrokhet-2024): PyTorch's own form at lr (1 - b). Otherwise PyTorch takes
    the whole first gradient as its velocity.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
