"""AlexNet of V. Kumar's Keras tutorial for 32-pixel images; simpson-cifar100 builds on it."""

from __future__ import annotations

from typing import Any

from torch import nn

from cnncore.models.activation import new_activation
from cnncore.models.networks.keras import NORM, draw_as_keras
from cnncore.models.tensorflow_padding import SameConv2d


def alexnet_kumar(classes: int, activation: str = "relu", dropout: float = 0.4) -> nn.Sequential:
    """Build the tutorial's network, first kernels 11x11, stride 4, for images of 1 to 32 pixels.

    25,799,620 trainable and 21,336 other values for 100 classes (derived from the tutorial).
    """
    return _network(SameConv2d(3, 96, 11, 4), 1, classes, activation, dropout)


def alexnet_5x5(classes: int, activation: str = "relu", dropout: float = 0.4) -> nn.Sequential:
    """Build `alexnet_kumar` with first kernels 5x5 and stride 1, for images of 25 to 32 pixels.

    Assumed: the paper's kernels begin at 5x5, and it gives no stride. 41,500,612 trainable and
    21,336 other values for 100 classes.
    """
    return _network(SameConv2d(3, 96, 5), 4, classes, activation, dropout)


def _network(
    first: nn.Conv2d, side: int, classes: int, activation: str, dropout: float
) -> nn.Sequential:
    """Build five convolutions and four dense layers, each with a BatchNorm, also on the logits.

    `side` is the side of the last maps.
    """

    def block(convolution: nn.Conv2d) -> list[nn.Module]:
        norm = nn.BatchNorm2d(convolution.out_channels, **NORM)
        return [convolution, norm, new_activation(activation)]

    def dense(width_in: int, width_out: int) -> list[nn.Module]:
        norm = nn.BatchNorm1d(width_out, **NORM)
        return [
            nn.Linear(width_in, width_out), norm, new_activation(activation), nn.Dropout(dropout)
        ]  # fmt: skip

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(2, ceil_mode=True)

    model = nn.Sequential()
    features: list[Any] = [
        *block(first),
        pool(),
        *block(SameConv2d(96, 256, 5)),
        pool(),
        *block(SameConv2d(256, 384, 3)),
        *block(SameConv2d(384, 384, 3)),
        *block(SameConv2d(384, 256, 3)),
        pool(),
    ]
    model.add_module("features", nn.Sequential(*features))
    model.add_module("flatten", nn.Flatten())
    model.add_module(
        "classifier",
        nn.Sequential(
            *dense(256 * side**2, 4096),
            *dense(4096, 4096),
            *dense(4096, 1000),
            nn.Linear(1000, classes),
            nn.BatchNorm1d(classes, **NORM),
        ),
    )
    draw_as_keras(model)
    return model
