"""torchvision's AlexNet, and AlexNets of the classical widths for large and 32-pixel images."""

from __future__ import annotations

from torch import nn
from torchvision.models import alexnet as torchvision_alexnet

from cnncore.models.activation import new_activation, replace_relu


def alexnet(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Module:
    """Build torchvision's AlexNet for images of 63 pixels and more.

    57,044,810 parameters for ten classes (xiong-2022 at 227 pixels, hu-realm at 224).
    """
    model: nn.Module = torchvision_alexnet(num_classes=classes, dropout=dropout)
    if activation != "relu":
        replace_relu(model, activation)
    return model


def alexnet_cifar(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Sequential:
    """Build AlexNet's five convolutions and three dense layers for images of 31 to 38 pixels.

    zeng-alexnet prints no layer list, so first kernel, strides and flatten are our choice; widths
    are the classical ones. 29,983,114 parameters for ten classes. An activation follows the
    pooling, if there is one, which changes no output (see `cnn3`).
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


def alexnet_227(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Sequential:
    """Build the classical AlexNet in one tower for 227-pixel images (zeng-alexnet, assumed).

    58,322,314 parameters for ten classes.
    """
    return _one_tower(classes, activation, dropout, normalised=False)


def alexnet_bn(classes: int, activation: str = "relu", dropout: float = 0.5) -> nn.Sequential:
    """Build `alexnet_227` with a BatchNorm after every convolution (astrokhet-2024).

    58,304,581 trainable and 2,752 other values for five classes, as printed.
    """
    return _one_tower(classes, activation, dropout, normalised=True)


def _one_tower(classes: int, activation: str, dropout: float, normalised: bool) -> nn.Sequential:
    """Build five convolutions and three dense layers for images of 67 pixels and more.

    At 227 pixels the maps are 6x6 before the adaptive pooling, which then changes nothing; the
    pooling allows other image sizes.
    """

    def block(width_in: int, width_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        padding = kernel // 2 if stride == 1 else 0
        convolution = nn.Conv2d(width_in, width_out, kernel, stride, padding)
        norm = [nn.BatchNorm2d(width_out)] if normalised else []
        return [convolution, *norm, new_activation(activation)]

    model = nn.Sequential()
    model.add_module(
        "features",
        nn.Sequential(
            *block(3, 96, 11, stride=4),
            nn.MaxPool2d(3, 2),
            *block(96, 256, 5),
            nn.MaxPool2d(3, 2),
            *block(256, 384, 3),
            *block(384, 384, 3),
            *block(384, 256, 3),
            nn.MaxPool2d(3, 2),
        ),
    )
    model.add_module("pool", nn.AdaptiveAvgPool2d(6))
    model.add_module("flatten", nn.Flatten())
    model.add_module(
        "classifier",
        nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            new_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            new_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        ),
    )
    return model
