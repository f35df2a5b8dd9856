"""Three-layer convolutional network of xiong-2022: 842,630 parameters for ten classes."""

from __future__ import annotations

from torch import nn

from cnncore.models.activation import new_activation


def cnn3(classes: int, activation: str = "relu") -> nn.Sequential:
    """Build three 3x3 convolutions, each pooled by 2, and two dense layers.

    Images have 32 to 39 pixels. The paper applies the activation before the pooling. Both
    activations are monotonic, so the order changes no output, and pooling first leaves only a
    quarter of the elements.
    """
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1),
        nn.MaxPool2d(2),
        new_activation(activation),
        nn.Conv2d(10, 20, 3, padding=1),
        nn.MaxPool2d(2),
        new_activation(activation),
        nn.Conv2d(20, 40, 3, padding=1),
        nn.MaxPool2d(2),
        new_activation(activation),
        nn.Flatten(),
        nn.Linear(40 * 4 * 4, 1280),
        new_activation(activation),
        nn.Linear(1280, classes),
    )
