"""Small MobileNet of xiong-2022: 19,114 trainable parameters for ten classes.

The printed layer list determines the weights. It leaves open the strides and the number of uses
of a block's one activation. Here strides are 1 (the choice that fits the paper's remark about
heavy compute) and the activation follows both BatchNorms, as the paper's text says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from torch import Tensor, nn

from cnncore.models.activation import new_activation

STEM_WIDTH = 16
BLOCK_WIDTHS = (32, 64, 64, 128)


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm and activation, no biases."""

    def __init__(self, width_in: int, width_out: int, stride: int, activation: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            width_in, width_in, 3, stride, padding=1, groups=width_in, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(width_in)
        self.pointwise = nn.Conv2d(width_in, width_out, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(width_out)
        self.activation = new_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, width_in, h, w)` to `(batch, width_out, h / stride, w / stride)`."""
        x = self.activation(self.depthwise_norm(self.depthwise(x)))
        x = self.activation(self.pointwise_norm(self.pointwise(x)))
        return x


class GlobalAveragePool(nn.Module):
    """Mean over height and width, `(batch, width, h, w)` to `(batch, width)`.

    Written so that its gradient is `channels_last`. The gradient of `nn.AdaptiveAvgPool2d` is not,
    and the backward pass of the last block then runs at a third of its speed.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def mobilenet_small(
    classes: int,
    activation: str = "relu",
    strides: Sequence[int] | None = None,
    width: float = 1.0,
    depth: float = 1.0,
) -> nn.Sequential:
    """Build a stem, four separable blocks, a global average pool and one dense layer.

    `strides` has a stride per block; the default is 1 each. `width` multiplies the channels of
    every layer and `depth` the number of blocks, both rounded to whole numbers. A block of a
    deeper or shallower network has the width of the block at the same relative depth, so the last
    has 128.
    """
    blocks = max(1, round(len(BLOCK_WIDTHS) * depth))
    strides = [1] * blocks if strides is None else strides
    if len(strides) != blocks or not all(s in (1, 2) for s in strides):
        raise ValueError(
            f"strides must be {blocks} numbers of 1 or 2, one for each block, got {list(strides)}"
        )
    stretched = [
        BLOCK_WIDTHS[ceil((i + 1) * len(BLOCK_WIDTHS) / blocks) - 1] for i in range(blocks)
    ]
    widths = [max(1, round(w * width)) for w in (STEM_WIDTH, *stretched)]
    return nn.Sequential(
        nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        new_activation(activation),
        *(SeparableBlock(widths[i], widths[i + 1], strides[i], activation) for i in range(blocks)),
        GlobalAveragePool(),
        nn.Linear(widths[-1], classes),
    )
