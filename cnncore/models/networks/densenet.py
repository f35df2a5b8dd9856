"""DenseNets (arXiv 1608.06993): torchvision's, also with a stem for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model


def densenet(network: str, classes: int, stem: str = "imagenet") -> nn.Module:
    """Build torchvision's `network`; `stem="cifar"` is for 32-pixel images, as in `resnet`."""
    model: nn.Module = get_model(network, num_classes=classes)
    if stem == "cifar":
        convolution = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        features = model.get_submodule("features")
        features.add_module("conv0", convolution)
        features.add_module("pool0", nn.Identity())
    return model
