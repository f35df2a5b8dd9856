"""Optimizers of the user's own, `package.module:Class`."""

from __future__ import annotations

from typing import Any

import torch

from cnncore.config import TrialConfig
from cnncore.config.optimizers import OPTIMIZER_KEYS
from cnncore.functions import import_function

# What the training loop and a checkpoint use.
USED = ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict")


def build_own(config: TrialConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer over groups of weights; `lr`, the keys that are not null and options.

    Raises `ValueError` if what it returns is no optimizer.
    """
    given = {key: getattr(config, key) for key in OPTIMIZER_KEYS}
    keys = {key: value for key, value in given.items() if value is not None}
    options = config.optimizer_options or {}
    made = import_function(config.optimizer)(groups, lr=config.lr, **keys, **options)
    if missing := [name for name in USED if not hasattr(made, name)]:
        raise ValueError(
            f"{config.optimizer}: must be an optimizer as those of torch.optim, but its "
            f"{type(made).__name__} has no {', '.join(missing)}"
        )
    if not all(isinstance(group, dict) and "lr" in group for group in made.param_groups):
        raise ValueError(
            f"{config.optimizer}: its param_groups have no `lr`, so no schedule could set the rate"
        )
    optimizer: torch.optim.Optimizer = made
    return optimizer
