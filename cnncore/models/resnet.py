"""Residual networks (arXiv 1512.03385) as torchvision has them."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18


def resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with its ImageNet stem: 11,181,642 parameters for ten classes.

    hu-realm trains it on 32-pixel images, where the last stage's maps are 1x1; so a training
    batch needs at least two images.
    """
    model: nn.Module = torchvision_resnet18(num_classes=classes)
    return model
