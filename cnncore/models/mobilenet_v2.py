"""MobileNetV2 (arXiv 1801.04381) as torchvision has it."""

from __future__ import annotations

from torch import nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2


def mobilenet_v2(classes: int, dropout: float = 0.2) -> nn.Module:
    """torchvision's MobileNetV2: 2,236,682 trainable parameters for ten classes (hu-realm).

    On 32-pixel images the last maps are 1x1; so a training batch needs at least two images.
    """
    model: nn.Module = torchvision_mobilenet_v2(num_classes=classes, dropout=dropout)
    return model
