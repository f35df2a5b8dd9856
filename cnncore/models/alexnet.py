"""AlexNet as torchvision has it, and with the classical widths on 32-pixel images."""

from __future__ import annotations

from torch import nn
from torchvision.models import alexnet as torchvision_alexnet

from cnncore.models.activation import new_activation, replace_relu


def alexnet(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Module:
    """torchvision's AlexNet (xiong-2022 at 227 pixels, hu-realm at 224): 57,044,810 parameters
    for ten classes. Images of 63 pixels and more.
    """
    model: nn.Module = torchvision_alexnet(num_classes=classes, dropout=dropout)
    if activation != "relu":
        replace_relu(model, activation)
    return model


def alexnet_cifar(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Sequential:
    """AlexNet's five convolutions and three dense layers on images of 31 to 38 pixels.

    zeng-alexnet prints no layer list, so first kernel, strides and flatten are our choice; widths
    are the classical ones. 29,983,114 parameters for ten classes. The activation comes after the
    pooling where there is one, which changes no output (see `cnn3`).
    """
    return nn.Sequential(
        nn.Conv2d(3, 96, 5, padding=2),
        nn.MaxPool2d(3, 2),
        new_activation(activation),
        nn.Conv2d(96, 256, 5, padding=2),
        nn.MaxPool2d(3, 2),
        new_activation(activation),
        nn.Conv2d(256, 384, 3, padding=1),
        new_activation(activation),
        nn.Conv2d(384, 384, 3, padding=1),
        new_activation(activation),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
        new_activation(activation),
        nn.Flatten(),
        nn.Linear(256 * 3 * 3, 4096),
        new_activation(activation),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        new_activation(activation),
        nn.Dropout(dropout),
        nn.Linear(4096, classes),
    )
