"""Residual networks: torchvision's, with a width multiplier and a stem for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model


def resnet(
    network: str, classes: int, width: float | None = None, stem: str = "imagenet"
) -> nn.Module:
    """Build torchvision's `network` (arXiv 1512.03385, 1605.07146).

    `width` multiplies the channels of every layer, rounded to whole numbers. `stem="cifar"` begins
    with a 3x3 convolution of stride 1 and no pooling, as in the paper for 32-pixel images. With
    the ImageNet stem (hu-realm) the last maps of such images are 1x1, so a training batch needs at
    least two images.
    """
    model: nn.Module = get_model(network, num_classes=classes)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        _initialise(model.conv1)
    if width is not None:
        _widen(model, width)
    return model


def _widen(model: nn.Module, width: float) -> None:
    """Multiply the channels of every layer by `width`, except those of images and classes."""

    def wide(channels: int) -> int:
        return max(1, round(channels * width))

    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Conv2d):
                wider = nn.Conv2d(
                    3 if layer.in_channels == 3 else wide(layer.in_channels),
                    wide(layer.out_channels),
                    layer.kernel_size,  # type: ignore[arg-type]  # a pair, for two dimensions
                    layer.stride,  # type: ignore[arg-type]
                    layer.padding,  # type: ignore[arg-type]
                    bias=False,
                )
                _initialise(wider)
                setattr(module, name, wider)
            elif isinstance(layer, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(wide(layer.num_features)))
            elif isinstance(layer, nn.Linear):
                setattr(module, name, nn.Linear(wide(layer.in_features), layer.out_features))


def _initialise(convolution: nn.Conv2d) -> None:
    """Draw the weights as torchvision's ResNets do."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
