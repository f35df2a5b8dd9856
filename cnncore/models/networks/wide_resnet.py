"""Wide residual network of McDonnell (arXiv 1802.08530), which simpson-cifar100 builds on."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncore.models.networks.mobilenet_small import GlobalAveragePool
from cnncore.models.tensorflow_padding import SameConv2d

# Depth 20 = 6 x 3 + 2 and ten times the 16, 32 and 64 channels of the narrow network.
UNITS, WIDTHS = 3, (160, 320, 640)
# The public code uses Keras' momentum 0.99 for the running statistics, which PyTorch calls 0.01.
NORM: dict[str, Any] = {"eps": 1e-5, "momentum": 0.01}


def wrn_20_10(
    classes: int, width: float = 1.0, depth: float = 1.0, one_bit: bool = False
) -> nn.Sequential:
    """Build McDonnell's network of depth 20 and width 10.

    26,794,726 trainable and 13,966 other values for 100 classes, as the public code prints. No
    convolution has a bias. Of the BatchNorms only the first, on the image, has scale and offset.
    A 1x1 convolution, a BatchNorm and the mean over the map compute the logits. With
    `one_bit` every convolution uses the signs of its weights. `width` multiplies the channels and
    `depth` the three units of a stage, rounded to whole numbers (`depth: 2.667` gives 50 layers).
    """
    widths = [max(1, round(w * width)) for w in WIDTHS]
    units = max(1, round(UNITS * depth))
    convolution = OneBitConv2d if one_bit else SameConv2d
    stages: list[nn.Module] = []
    before = widths[0]
    for stage, after in enumerate(widths):
        for unit in range(units):
            stride = 2 if stage and unit == 0 else 1
            stages.append(Unit(before, after, stride, convolution))
            before = after
    model = nn.Sequential()
    model.add_module("input_norm", nn.BatchNorm2d(3, **NORM))
    model.add_module("stem", convolution(3, widths[0], 3, bias=False))
    model.add_module("stages", nn.Sequential(*stages))
    model.add_module("norm", nn.BatchNorm2d(before, affine=False, **NORM))
    model.add_module("activation", nn.ReLU(inplace=True))
    classifier = nn.Sequential(
        convolution(before, classes, 1, bias=False),
        nn.BatchNorm2d(classes, affine=False, **NORM),
        GlobalAveragePool(),
    )
    model.add_module("classifier", classifier)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


class Unit(nn.Module):
    """BatchNorm, ReLU and 3x3 convolution, twice, added to the input.

    If the stride is 2, the input is averaged over 3x3, without the padding, and gets channels of
    zeros.
    """

    def __init__(
        self, width_in: int, width_out: int, stride: int, convolution: type[SameConv2d]
    ) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = width_out - width_in
        self.first_norm = nn.BatchNorm2d(width_in, affine=False, **NORM)
        self.first = convolution(width_in, width_out, 3, stride, bias=False)
        self.second_norm = nn.BatchNorm2d(width_out, affine=False, **NORM)
        self.second = convolution(width_out, width_out, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, width_in, h, w)` to `(batch, width_out, ceil(h / stride), ...)`."""
        out: Tensor = self.first(F.relu(self.first_norm(x)))
        out = self.second(F.relu(self.second_norm(out)))
        if self.stride == 2:
            # "Same" padding of a 3x3 window: one after on even sides, one on each end on odd ones.
            x = F.avg_pool2d(
                x, 3, 2, padding=x.shape[-1] % 2, ceil_mode=True, count_include_pad=False
            )
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return out + x


class OneBitConv2d(SameConv2d):
    """Convolution with the signs of its weights times a constant; gradients ignore the sign.

    The constant is the standard deviation of He's initialisation, `sqrt(2 / (k * k * channels))`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map as `SameConv2d` does."""
        constant = sqrt(2 / prod(self.weight.shape[1:]))
        weight = _ScaledSign.apply(self.weight, constant)
        return F.conv2d(self.pad(input), weight, None, self.stride)


class _ScaledSign(torch.autograd.Function):
    """Sign times a constant; the gradient passes unchanged, as through the identity."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, constant: float) -> Tensor:
        return weight.sign() * constant

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
