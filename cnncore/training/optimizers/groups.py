"""Groups of weights: those under `l2`, and those that do not decay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from cnncore.complexity import COUNTED_LAYERS
from cnncore.config import TrialConfig


def parameter_groups(
    config: TrialConfig, model: nn.Module, pretrained: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Group the trainable weights; those under `l2` form a group, as do those that do not decay.

    The penalty `l2 * sum(w ** 2)` has the gradient `2 * l2 * w`. Where weight decay is a part of
    the gradient it adds exactly this before anything else. So weight decay carries the penalty,
    and the loss stays without it; `grad_clip` sees neither.
    """
    weights = {name: w for name, w in model.named_parameters() if w.requires_grad}
    if not config.l2 and config.decay_norm_bias is None:
        return [{"params": list(weights.values())}]
    penalized = l2_names(model, pretrained) if config.l2 else set()
    spared = (
        set() if config.decay_norm_bias is None else {n for n, w in weights.items() if w.ndim < 2}
    )
    groups: list[dict[str, Any]] = [
        {"params": [w for name, w in weights.items() if name not in penalized | spared]}
    ]
    if config.l2:
        groups.append(
            {
                "params": [w for name, w in weights.items() if name in penalized],
                "weight_decay": (config.weight_decay or 0.0) + 2 * config.l2,
            }
        )
    if spared:
        groups.append(
            {"params": [w for name, w in weights.items() if name in spared], "weight_decay": 0.0}
        )
    return groups


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
