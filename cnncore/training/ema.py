"""Moving average of a network's weights, as the key `ema` asks for."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the running average of weights and buffers towards those of `model`.

    In the first steps the decay is `(1 + step) / (10 + step)` if that is less, so that the
    average soon forgets the initial weights (as TensorFlow's `ExponentialMovingAverage` with
    `num_updates`). Integer buffers are copied. A tensor that several modules share moves once.
    """
    decay = min(decay, (1 + step) / (10 + step))
    new_values = model.state_dict()
    shared: set[tuple[int, torch.Size]] = set()
    old, new = [], []
    for name, value in ema.state_dict().items():
        if (key := (value.data_ptr(), value.shape)) not in shared:
            shared.add(key)
            old.append(value)
            new.append(new_values[name])
    real = [value.is_floating_point() for value in old]
    get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]  # torch has no types here
        [value for value, is_real in zip(old, real, strict=True) if is_real],
        [value for value, is_real in zip(new, real, strict=True) if is_real],
        step,
    )
    for old_value, new_value, is_real in zip(old, new, real, strict=True):
        if not is_real:
            old_value.copy_(new_value)
