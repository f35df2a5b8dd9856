"""Residual and dense networks: torchvision's, and wider ones, and ones for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model


def resnet(
    network: str, classes: int, width: float | None = None, stem: str = "imagenet"
) -> nn.Module:
    """torchvision's `network` (arXiv 1512.03385, 1605.07146).

    `width` multiplies the channels of every layer, rounded to whole ones. `stem="cifar"` begins
    with a 3x3 convolution of stride 1 and no pooling, as the paper does on 32-pixel images; with
    the ImageNet stem (hu-realm) maps of such images end at 1x1, so that a training batch needs at
    least two of them.
    """
    model: nn.Module = get_model(network, num_classes=classes)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        _initialise(model.conv1)
    if width is not None:
        _widen(model, width)
    return model


def densenet(network: str, classes: int, stem: str = "imagenet") -> nn.Module:
    """torchvision's DenseNet (arXiv 1608.06993); `stem` as for `resnet`."""
    model: nn.Module = get_model(network, num_classes=classes)
    if stem == "cifar":
        convolution = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        features = model.get_submodule("features")
        features.add_module("conv0", convolution)
        features.add_module("pool0", nn.Identity())
    return model


def _widen(model: nn.Module, width: float) -> None:
    """Replace every layer by one with `width` times the channels, but for images and classes."""

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
