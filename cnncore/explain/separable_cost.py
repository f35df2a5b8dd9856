"""Savings of depthwise-separable convolutions, in theory and in counted multiply-accumulates.

A block is a depthwise convolution and the next pointwise one. A standard convolution in its place,
of kernel DK x DK from M to N channels on maps of DF x DF, takes DK^2 M N DF^2 multiply-accumulates
and the block DK^2 M DF^2 + M N DF^2; their ratio is 1/N + 1/DK^2 (arXiv 1704.04861).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from cnncore.complexity import forward_with_hook, layer_macs


@dataclass(frozen=True)
class SeparableBlock:
    """Names of a block's convolutions, their sizes, and multiply-accumulates for one image.

    `standard_macs` are counted on a standard convolution built in place of the block.
    """

    depthwise: str
    pointwise: str
    channels_in: int
    channels_out: int
    kernel: tuple[int, int]
    output: tuple[int, int]
    separable_macs: int
    standard_macs: int

    @property
    def counted(self) -> float:
        """Multiply-accumulates of the block as a share of the standard convolution's."""
        return self.separable_macs / self.standard_macs

    @property
    def theory(self) -> float:
        """Share in theory, 1/N + 1/DK^2."""
        height, width = self.kernel
        return 1 / self.channels_out + 1 / (height * width)


def separable_blocks(model: nn.Module, image_size: int) -> list[SeparableBlock]:
    """List the depthwise-separable blocks of a network in the order of execution.

    Raises `ValueError` if there are none.
    """
    uses: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        uses.append((module, inputs[0], output))

    gates = {
        conv
        for gate in model.modules()
        if isinstance(gate, SqueezeExcitation)
        for conv in gate.modules()
    }
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m not in gates]
    forward_with_hook(model, image_size, convolutions, add)
    names = {module: name for name, module in model.named_modules()}
    blocks = [
        _block(names, *first, *second)
        for first, second in itertools.pairwise(uses)
        if _is_depthwise(first[0]) and _is_pointwise(second[0], first[0])
    ]
    if not blocks:
        raise ValueError("the network has no depthwise-separable block")
    return blocks


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1 and max(conv.kernel_size) > 1


def _is_pointwise(conv: nn.Conv2d, depthwise: nn.Conv2d) -> bool:
    joined = conv.in_channels == depthwise.out_channels == depthwise.in_channels
    return joined and conv.groups == 1 and max(conv.kernel_size) == 1


def _block(
    names: dict[nn.Module, str],
    depthwise: nn.Conv2d,
    image: Tensor,
    between: Tensor,
    pointwise: nn.Conv2d,
    middle: Tensor,
    output: Tensor,
) -> SeparableBlock:
    geometry: dict[str, Any] = {  # pairs, which torch types as any tuples
        key: getattr(depthwise, key) for key in ("kernel_size", "stride", "padding", "dilation")
    }
    standard = nn.Conv2d(
        depthwise.in_channels,
        pointwise.out_channels,
        **geometry,
        bias=False,
        device="meta",
    )
    standard_output = standard(torch.empty(image.shape, device="meta"))
    return SeparableBlock(
        depthwise=names[depthwise],
        pointwise=names[pointwise],
        channels_in=depthwise.in_channels,
        channels_out=pointwise.out_channels,
        kernel=(depthwise.kernel_size[0], depthwise.kernel_size[1]),
        output=(between.shape[2], between.shape[3]),
        separable_macs=layer_macs(depthwise, image, between)
        + layer_macs(pointwise, middle, output),
        standard_macs=layer_macs(standard, image, standard_output),
    )
