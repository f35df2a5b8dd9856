"""torchvision's MobileNets 2 and 3 (arXiv 1801.04381, 1905.02244), with a width multiplier."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model


def mobilenet(
    network: str, classes: int, dropout: float = 0.2, width: float | None = None
) -> nn.Module:
    """Build torchvision's `mobilenet_v2`, `mobilenet_v3_small` or `mobilenet_v3_large`.

    `width` multiplies the channels of every layer, rounded to a multiple of eight and never by
    more than a tenth down; for `width` below 1 MobileNetV2's last convolution keeps its 1280
    channels (both as in the papers). hu-realm's `mobilenet_v2` has 2,236,682 trainable parameters
    for ten classes. On 32-pixel images the last maps are 1x1, so a training batch needs at least
    two images.
    """
    options = {} if width is None else {"width_mult": width}
    model: nn.Module = get_model(network, num_classes=classes, dropout=dropout, **options)
    return model
