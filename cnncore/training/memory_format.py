"""Memory format of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(model: nn.Module) -> None:
    """Store the weights of two-dimensional convolutions by `channels_last`, in place.

    `Module.to` would do so for three-dimensional ones too, and fail: their format is another.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
