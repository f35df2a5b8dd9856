"""The small MobileNet of xiong-2022: 19,114 trainable parameters for ten classes.

The printed layer list fixes the weights. It leaves open the strides and how often a block's one
activation is used; here strides are 1 (the choice that fits the paper's remark about heavy
compute) and the activation follows both BatchNorms, as the paper's text says.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """The mean over height and width, `(batch, width, h, w)` to `(batch, width)`.

    Written so that its gradient comes out `channels_last`; that of `nn.AdaptiveAvgPool2d` does
    not, and the whole backward pass of the last block then runs at a third of its speed.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def mobilenet_small(
    classes: int, activation: str = "relu", strides: Sequence[int] = (1, 1, 1, 1)
) -> nn.Sequential:
    """Stem, four separable blocks of `strides`, global average pool and one dense layer."""
    if len(strides) != len(BLOCK_WIDTHS) or not all(s in (1, 2) for s in strides):
        raise ValueError(f"strides must be four numbers of 1 or 2, got {list(strides)}")
    widths = (STEM_WIDTH, *BLOCK_WIDTHS)
    return nn.Sequential(
        nn.Conv2d(3, STEM_WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(STEM_WIDTH),
        new_activation(activation),
        *(
            SeparableBlock(widths[i], widths[i + 1], strides[i], activation)
            for i in range(len(strides))
        ),
        GlobalAveragePool(),
        nn.Linear(BLOCK_WIDTHS[-1], classes),
    )
